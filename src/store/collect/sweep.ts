/**
 * What of each pack is needed, by the marks of one collection and by where the index finds each record now.
 * A record that the index finds in another pack is not needed here.
 */
import { setImmediate } from 'node:timers/promises';
import { isNull } from '../../domain/tree/digest-tree.js';
import type { StoreContext } from '../capture/context.js';
import { type PackContents, readPackEntries } from '../packs/contents.js';
import {
  decodePackEntry,
  PACK_ENTRY_BYTES,
  PACK_FOOTER_BYTES,
  PACK_HEADER_BYTES,
  type PackEntry,
  packEntryCount,
  RECORD_HEADER_BYTES,
} from '../packs/entries.js';
import type { LiveSet } from './live-set.js';
import type { PackStanding } from './victims.js';

const ENTRIES_PER_TURN = 4096;

type SweepContext = Pick<StoreContext, 'index' | 'objects' | 'digester'>;

export class Sweep {
  readonly #context: SweepContext;
  readonly #live: LiveSet;

  constructor(context: SweepContext, live: LiveSet) {
    this.#context = context;
    this.#live = live;
  }

  entriesOf(packId: string): Promise<PackContents> {
    const { objects, digester } = this.#context;
    return readPackEntries(objects, packId, digester);
  }

  /** @param isPinned a session relies on it */
  async look(packId: string, isPinned: boolean): Promise<PackStanding | null> {
    const { index } = this.#context;
    const { entries, kind, salvaged } = await this.entriesOf(packId);
    const known = index.packs().get(packId);
    if (known === undefined) return null;
    const count = packEntryCount(entries);
    let liveBytes = 0;
    let hasRemains = false;
    for (let i = 0; i < count; i += 1) {
      if (i % ENTRIES_PER_TURN === ENTRIES_PER_TURN - 1) await setImmediate();
      const entry = decodePackEntry(entries, i);
      if (!this.#live.has(entry.digest)) continue;
      const located = index.locate(entry.digest, entry.kind);
      // Needed, and nowhere to be had: nobody throws away what may be the last of it.
      if (located === null) hasRemains = true;
      else if (located.packNumber === known.number && located.offset === entry.offset)
        liveBytes += RECORD_HEADER_BYTES + entry.storedLength + PACK_ENTRY_BYTES;
    }
    // A pack all of which is needed has its whole size.
    if (liveBytes > 0) liveBytes += PACK_HEADER_BYTES + PACK_FOOTER_BYTES;
    const isKept = isPinned || hasRemains || salvaged !== null;
    return { packId, number: known.number, kind, sizeBytes: known.sizeBytes, liveBytes, isKept, isPinned };
  }

  /** The record is needed, and the index finds it at this place. */
  isNeededHere(packNumber: number, { digest, kind, offset }: PackEntry): boolean {
    if (isNull(digest) || !this.#live.has(digest)) return false;
    const located = this.#context.index.locate(digest, kind);
    return located?.packNumber === packNumber && located.offset === offset;
  }

  /** In one turn of the event loop. */
  isNeeded(packNumber: number, entries: Buffer): boolean {
    for (let i = 0; i < packEntryCount(entries); i += 1) {
      if (this.isNeededHere(packNumber, decodePackEntry(entries, i))) return true;
    }
    return false;
  }
}
