/**
 * Copies what is needed of sparse packs into new ones. Sources are taken one after the other; when the new
 * pack is full, it is published and indexed, and its sources form a group that may be removed: all that is
 * needed of them is found elsewhere now.
 *
 * | state   | take                    | finish            | abandon      |
 * |---------|-------------------------|-------------------|--------------|
 * | empty   | -> growing              | null              | no effect    |
 * | growing | stays                   | the group, -> empty | -> empty   |
 *
 * Memory: READ_BYTES or READ_RECORDS of records, the new pack's entries, and the sources'
 * (ENTRIES_BYTES_MAX, and one more).
 */
import { setImmediate } from 'node:timers/promises';
import { MiB } from '../../domain/base/limits.js';
import { PACK_KIND_DATA, RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import type { StoreContext } from '../capture/context.js';
import { publishPack } from '../capture/staging.js';
import { makeDirs } from '../disk/disk.js';
import { COLLECT_DIR } from '../disk/layout.js';
import { roomFor } from '../disk/room.js';
import { decodePackEntry, type PackEntry, packEntryCount, RECORD_HEADER_BYTES } from '../packs/entries.js';
import { PackWriter } from '../packs/writer.js';
import type { Sweep } from './sweep.js';
import type { PackStanding } from './victims.js';

const READ_BYTES = 8 * MiB;
/** Of very small records. */
const READ_RECORDS = 4096;
const ENTRIES_BYTES_MAX = 16 * MiB;
/** Of the store's reserve, what stays free: a full disk is what a collection is for. */
const RESERVE_PART = 0.5;

/** A pack whose needed records are all found elsewhere. */
export interface Emptied {
  readonly pack: PackStanding;
  readonly entries: Buffer;
}

export interface EmptiedGroup {
  readonly sources: readonly Emptied[];
  /** The pack that has what was needed of them, and its size. */
  readonly packId: string;
  readonly sizeBytes: number;
}

export class Rewriter {
  readonly #context: StoreContext;
  readonly #sweep: Sweep;
  readonly #kind: number;
  readonly #paced: (bytes: number) => Promise<void>;
  #writer: PackWriter | null = null;
  #sources: Emptied[] = [];
  #entriesBytes = 0;

  /** @param kind of all the packs that it takes */
  constructor(context: StoreContext, sweep: Sweep, kind: number, paced: (bytes: number) => Promise<void>) {
    this.#context = context;
    this.#sweep = sweep;
    this.#kind = kind;
    this.#paced = paced;
  }

  get isFull(): boolean {
    return (
      this.#entriesBytes >= ENTRIES_BYTES_MAX ||
      (this.#writer?.isFull(this.#context.packBytesTarget) ?? false)
    );
  }

  /** There is room for what is needed of the pack, and for the rest of what was taken. */
  async hasRoomFor({ liveBytes }: PackStanding): Promise<boolean> {
    const { disk, dir } = this.#context;
    const { freeBytes, reserveBytes } = await roomFor(disk, dir);
    return freeBytes >= liveBytes + RESERVE_PART * reserveBytes;
  }

  /**
   * @returns false if a record of it can't be read: the pack stays as it is, and what was copied of it is
   * there twice
   * @throws code `ENOSPC` with the store's reserve left free; then `abandon`
   */
  async take(pack: PackStanding): Promise<boolean> {
    const { entries, salvaged } = await this.#sweep.entriesOf(pack.packId);
    if (salvaged) return false;
    let part: PackEntry[] = [];
    let partBytes = 0;
    for (let i = 0; i < packEntryCount(entries); i += 1) {
      const entry = decodePackEntry(entries, i);
      if (!this.#sweep.isNeededHere(pack.number, entry)) continue;
      part.push(entry);
      partBytes += RECORD_HEADER_BYTES + entry.storedLength;
      if (partBytes < READ_BYTES && part.length < READ_RECORDS) continue;
      if (!(await this.#copy(part))) return false;
      part = [];
      partBytes = 0;
    }
    if (!(await this.#copy(part))) return false;
    this.#sources.push({ pack, entries });
    this.#entriesBytes += entries.length;
    return true;
  }

  async #copy(part: readonly PackEntry[]): Promise<boolean> {
    if (part.length === 0) return true;
    const { records, disk, dir, randomId } = this.#context;
    const digests = part.map(({ digest }) => Buffer.from(digest));
    const kind = this.#kind === PACK_KIND_DATA ? RECORD_KIND_BLOCK : RECORD_KIND_NODE;
    const results = await records.read(kind, digests);
    if (this.#writer === null) {
      await makeDirs(disk, dir, COLLECT_DIR);
      this.#writer = await PackWriter.create(
        disk,
        `${dir}/${COLLECT_DIR}`,
        randomId(),
        this.#kind,
        RESERVE_PART,
      );
    }
    let bytes = 0;
    for (const [i, result] of results.entries()) {
      const [entry, digest] = [part[i], digests[i]];
      if ('damage' in result || entry === undefined || digest === undefined) return false;
      // Found in two of the sources while the index moved.
      if (this.#writer.rawLength(digest.toString('latin1')) !== undefined) continue;
      this.#writer.add(digest, entry.rawLength, codecOf(result.record), kind, result.record);
      bytes += result.record.length;
    }
    await this.#writer.flush();
    await this.#paced(2 * bytes);
    await setImmediate();
    return true;
  }

  /** Publishes the new pack. Null if nothing was taken. */
  async finish(): Promise<EmptiedGroup | null> {
    const [writer, sources] = [this.#writer, this.#sources];
    this.#reset();
    if (writer === null) return null;
    try {
      await publishPack(this.#context, writer);
    } catch (error) {
      await this.#discard(writer);
      throw error;
    }
    const sizeBytes = this.#context.index.packs().get(writer.packId)?.sizeBytes ?? 0;
    return { sources, packId: writer.packId, sizeBytes };
  }

  /** Forgets what it was at: all that it had taken is still where it was. */
  async abandon(): Promise<void> {
    const writer = this.#writer;
    this.#reset();
    if (writer !== null) await this.#discard(writer);
  }

  #reset(): void {
    this.#writer = null;
    this.#sources = [];
    this.#entriesBytes = 0;
  }

  async #discard(writer: PackWriter): Promise<void> {
    await writer.close().catch(() => undefined);
    await this.#context.disk.remove(writer.path).catch(() => undefined);
  }
}

/** Of a record's header (docs/format.md section 2): another copy may be stored with another codec. */
function codecOf(record: Buffer): number {
  return record[5] ?? 0;
}
