/**
 * Finds other copies of damaged or missing records in all packs.
 *
 * State: the digests that were not found since a pack was last added, or a verification began.
 */
import { type Digester, native } from '../../native/index.js';
import { PACKS_PREFIX, packIdOf } from '../disk/layout.js';
import type { RecordIndex } from '../index/record-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import { isDataError, readPackEntries } from '../packs/contents.js';
import { decodePackEntry, digestKey, packEntryCount, RECORD_HEADER_BYTES } from '../packs/entries.js';

const LOST_MAX = 100_000;

/** Where a record should be and why it can't be had. */
export interface Damage {
  /** Null if no pack is known to have it. */
  readonly packId: string | null;
  readonly offset: number;
  readonly reason: string;
}

export interface DamagedItem {
  readonly digest: Buffer;
  readonly damage: Damage;
}

export class OtherCopies {
  readonly #objects: ObjectStore;
  readonly #index: RecordIndex;
  readonly #digester: Digester;
  readonly #lost = new Map<string, Damage>();
  #lostAtPackCount = 0;
  #searchCount = 0;

  constructor(objects: ObjectStore, index: RecordIndex, digester: Digester) {
    this.#objects = objects;
    this.#index = index;
    this.#digester = digester;
  }

  /** What was looked for in vain is looked for again: the fault may have passed. */
  forgetLost(): void {
    this.#lost.clear();
  }

  /** They are being looked for, in any pack. */
  get isSearching(): boolean {
    return this.#searchCount > 0;
  }

  /** What was wrong with a record when it was looked for in vain. */
  lost(kind: number, digest: Buffer): Damage | undefined {
    return this.#lost.get(lostKey(kind, digest));
  }

  /** Looks for good ones in the indexes of all packs, and enters them in the index. True if one was found. */
  async find(kind: number, items: readonly DamagedItem[]): Promise<boolean> {
    const packCount = this.#index.packs().size;
    if (this.#lostAtPackCount !== packCount || this.#lost.size > LOST_MAX) this.#lost.clear();
    this.#lostAtPackCount = packCount;
    const wanted = new Map<string, DamagedItem>();
    for (const item of items) {
      if (!this.#lost.has(lostKey(kind, item.digest))) wanted.set(digestKey(item.digest), item);
    }
    const askedCount = wanted.size;
    this.#searchCount += 1;
    try {
      if (askedCount > 0) await this.#searchPacks(kind, wanted);
    } finally {
      this.#searchCount -= 1;
    }
    for (const { digest, damage } of wanted.values()) this.#lost.set(lostKey(kind, digest), damage);
    return wanted.size < askedCount;
  }

  /** Takes out of `wanted` what it finds. */
  async #searchPacks(kind: number, wanted: Map<string, DamagedItem>): Promise<void> {
    for (const { key } of await this.#objects.list(PACKS_PREFIX)) {
      const packId = packIdOf(key);
      const packNumber = packId === null ? undefined : this.#index.packs().get(packId)?.number;
      if (packId === null || packNumber === undefined) continue;
      const { entries } = await readPackEntries(this.#objects, packId, this.#digester);
      for (let i = 0; i < packEntryCount(entries) && wanted.size > 0; i += 1) {
        const entry = decodePackEntry(entries, i);
        const digest = wanted.get(keyOf(entry.digest))?.digest;
        if (digest === undefined || entry.kind !== kind) continue;
        try {
          const length = RECORD_HEADER_BYTES + entry.storedLength;
          const record = await this.#objects.read(key, entry.offset, length);
          await native.decodeRecord(record, digest, this.#digester);
        } catch (error) {
          if (!isDataError(error)) throw error;
          await this.#index.markBad(packNumber, entry.offset, digest, kind);
          continue;
        }
        await this.#index.relocate(digest, kind, packNumber, entry);
        await this.#index.markGood(packNumber, entry.offset);
        wanted.delete(digestKey(digest));
      }
    }
  }
}

function lostKey(kind: number, digest: Buffer): string {
  return `${kind}${digestKey(digest)}`;
}

/** Of bytes that are only looked at. */
function keyOf({ buffer, byteOffset, length }: Uint8Array): string {
  return digestKey(Buffer.from(buffer, byteOffset, length));
}
