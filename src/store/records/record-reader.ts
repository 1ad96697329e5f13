/**
 * Reads records through the index, neighbours in one go, and believes none before it is checked. If a record
 * is damaged or missing, the reader marks it and looks for another copy in all packs. Only if there is none
 * does it report the damage.
 *
 * State: a bounded cache of tree nodes, and that of other-copies.ts.
 */
import { type Digester, native, RECORD_KIND_NODE } from '../../native/index.js';
import { packKey } from '../disk/layout.js';
import type { Location, RecordIndex } from '../index/record-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import { isDataError } from '../packs/contents.js';
import { digestKey, RECORD_HEADER_BYTES } from '../packs/entries.js';
import { type Damage, type DamagedItem, OtherCopies } from './other-copies.js';
import { byPlace, endOf, type Placed, runsOf, startOf } from './runs.js';

const CACHED_NODES_MAX = 4096;
const EMPTY = Buffer.alloc(0);

export type ReadResult = { readonly record: Buffer } | { readonly damage: Damage };

/** Records where they lie in pieces of packs, as `native.encodeBatch` takes them. */
export interface PackedRecords {
  readonly runs: readonly Buffer[];
  readonly recordRuns: Uint32Array;
  readonly recordOffsets: Uint32Array;
}

interface Item extends Placed {
  readonly i: number;
  readonly digest: Buffer;
}

const MISSING: Damage = { packId: null, offset: 0, reason: 'no pack has it' };

export class RecordReader {
  /** What proves the records. */
  readonly digester: Digester;
  readonly #objects: ObjectStore;
  readonly #index: RecordIndex;
  readonly #log: (message: string) => void;
  /** Least recently used first. */
  readonly #nodes = new Map<string, Buffer>();
  readonly #copies: OtherCopies;
  /** Between looking for a record and having read it. */
  readonly #reading = new Set<Promise<unknown>>();

  constructor(objects: ObjectStore, index: RecordIndex, digester: Digester, log: (message: string) => void) {
    this.digester = digester;
    this.#objects = objects;
    this.#index = index;
    this.#log = log;
    this.#copies = new OtherCopies(objects, index, digester);
  }

  /**
   * Contents of tree nodes, digested; `damage` of those that can't be had is reported to `onDamage`
   * and their place is null.
   */
  async readNodes(
    digests: readonly Uint8Array[],
    onDamage: (digest: Buffer, damage: Damage) => void,
  ): Promise<(Buffer | null)[]> {
    const wanted = digests.map(asBuffer);
    const contents = wanted.map((digest) => this.#cachedNode(digestKey(digest)));
    const absent = wanted.filter((_, i) => contents[i] === undefined);
    const read = await this.read(RECORD_KIND_NODE, absent, (record, digest) =>
      native.decodeRecord(record, digest, this.digester),
    );
    let next = 0;
    const results: (Buffer | null)[] = [];
    for (const [i, digest] of wanted.entries()) {
      const content = contents[i];
      if (content !== undefined) {
        results.push(content);
        continue;
      }
      const result = read[next++] ?? { damage: MISSING };
      if ('damage' in result) onDamage(digest, result.damage);
      else this.#cacheNode(digestKey(digest), result.record);
      results.push('damage' in result ? null : result.record);
    }
    return results;
  }

  #cachedNode(key: string): Buffer | undefined {
    const content = this.#nodes.get(key);
    if (content !== undefined) {
      this.#nodes.delete(key);
      this.#nodes.set(key, content);
    }
    return content;
  }

  #cacheNode(key: string, content: Buffer): void {
    this.#nodes.set(key, content);
    if (this.#nodes.size <= CACHED_NODES_MAX) return;
    for (const oldest of this.#nodes.keys()) {
      this.#nodes.delete(oldest);
      break;
    }
  }

  /** What was looked for in vain is looked for again: the fault may have passed. */
  forgetLost(): void {
    this.#copies.forgetLost();
  }

  /** Other copies of damaged records are being looked for, in any pack. */
  get isSearching(): boolean {
    return this.#copies.isSearching;
  }

  /** Everything has been read that was looked for in the index before this call. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#reading]);
  }

  /**
   * `work` looks for records in the index and reads them where they were found: until it has ended, no pack
   * is removed that was in the index when it began.
   */
  async whileReading<T>(work: () => Promise<T>): Promise<T> {
    const done = work();
    this.#reading.add(done);
    try {
      return await done;
    } finally {
      this.#reading.delete(done);
    }
  }

  /** Where records are; those that the index does not know are looked for in all packs. */
  async locate(kind: number, digests: readonly Buffer[]): Promise<(Location | null)[]> {
    const located = digests.map((digest) => this.#index.locate(digest, kind));
    const unknown = digests.filter((_, i) => located[i] === null);
    if (unknown.length === 0) return located;
    await this.#copies.find(
      kind,
      unknown.map((digest) => ({ digest, damage: MISSING })),
    );
    return digests.map((digest, i) => located[i] ?? this.#index.locate(digest, kind));
  }

  /**
   * Records as their packs have them, unchecked; null if one can't be read: `read` tells why. The
   * caller bounds the bytes.
   */
  async readPacked(located: readonly (Location | null)[]): Promise<PackedRecords | null> {
    const items = [];
    for (const [i, at] of located.entries()) {
      if (at === null) return null;
      items.push({ i, at });
    }
    const runs: Buffer[] = [];
    const recordRuns = new Uint32Array(items.length);
    const recordOffsets = new Uint32Array(items.length);
    for (const run of runsOf(items.sort(byPlace))) {
      const bytes = await this.#readWhole(run);
      if (bytes instanceof Error) return null;
      const { packed, offsets } = withoutGaps(bytes, run);
      for (const [n, { i }] of run.entries()) {
        recordRuns[i] = runs.length;
        recordOffsets[i] = offsets[n] ?? 0;
      }
      runs.push(packed);
    }
    return { runs, recordRuns, recordOffsets };
  }

  /**
   * Records, each passed through `check`, which throws for a damaged one; `record` of a result is what it
   * answered. The caller bounds the bytes. Without `check`: header and stored bytes, checksum proven.
   */
  async read(
    kind: number,
    digests: readonly Buffer[],
    check: (record: Buffer, digest: Buffer) => Promise<Buffer> | Buffer = checkRecord,
  ): Promise<ReadResult[]> {
    const results = await this.whileReading(() => this.#readOnce(kind, digests, check));
    const damaged: DamagedItem[] = [];
    for (const [i, digest] of digests.entries()) {
      const result = results[i];
      if (result !== undefined && 'damage' in result) damaged.push({ digest, damage: result.damage });
    }
    if (damaged.length === 0) return results;
    const found = await this.#copies.find(kind, damaged);
    const again = found ? await this.whileReading(() => this.#readOnce(kind, digests, check)) : results;
    // The first thing that was known to be wrong says more than that nothing is there any more.
    return again.map((result, i) => {
      const lost = this.#copies.lost(kind, digests[i] ?? EMPTY);
      return 'damage' in result && lost !== undefined ? { damage: lost } : result;
    });
  }

  async #readOnce(
    kind: number,
    digests: readonly Buffer[],
    check: (record: Buffer, digest: Buffer) => Promise<Buffer> | Buffer,
  ): Promise<ReadResult[]> {
    const results: ReadResult[] = digests.map(() => ({ damage: MISSING }));
    const located = digests
      .map((digest, i) => ({ i, digest, at: this.#index.locate(digest, kind) }))
      .filter((item): item is Item => item.at !== null)
      .sort(byPlace);
    for (const run of runsOf(located)) {
      const bytes = await this.#readRun(run);
      await Promise.all(
        run.map(async ({ i, digest, at }, n) => {
          const record = bytes[n];
          try {
            if (record === undefined || record instanceof Error) throw record;
            checkHeader(record, kind, digest);
            results[i] = { record: await check(record, digest) };
          } catch (error) {
            if (!isDataError(error)) throw error;
            const reason = `the record at offset ${at.offset} of pack ${at.packId} is damaged: ${messageOf(error)}`;
            this.#log(reason);
            await this.#index.markBad(at.packNumber, at.offset, digest, kind);
            results[i] = { damage: { packId: at.packId, offset: at.offset, reason } };
          }
        }),
      );
    }
    return results;
  }

  /**
   * One read for all; if that fails, one more for each, so that a bad sector costs only the records on it
   * and a passing fault none.
   */
  async #readRun(run: readonly Placed[]): Promise<(Buffer | Error)[]> {
    const bytes = await this.#readWhole(run);
    if (bytes instanceof Error) return Promise.all(run.map((item) => this.#readWhole([item])));
    const start = startOf(run);
    return run.map(({ at }) => bytes.subarray(at.offset - start, endOf(at) - start));
  }

  async #readWhole(run: readonly Placed[]): Promise<Buffer | Error> {
    const [first, last] = [run[0]?.at, run.at(-1)?.at];
    if (first === undefined || last === undefined) return EMPTY;
    try {
      return await this.#objects.read(packKey(first.packId), first.offset, endOf(last) - first.offset);
    } catch (error) {
      if (!isDataError(error)) throw error;
      return error as Error;
    }
  }
}

/**
 * All runs of an answer are in memory at once. Where more lies between a run's records than they are
 * themselves, they are copied together: who bounds their bytes bounds the memory.
 * @returns also where each of them begins
 */
function withoutGaps(
  bytes: Buffer,
  run: readonly Placed[],
): { readonly packed: Buffer; readonly offsets: readonly number[] } {
  const start = startOf(run);
  const lengths = run.map(({ at }) => endOf(at) - at.offset);
  const recordBytes = lengths.reduce((sum, length) => sum + length, 0);
  if (2 * recordBytes >= bytes.length)
    return { packed: bytes, offsets: run.map(({ at }) => at.offset - start) };
  // No slice of memory that others share: who is done with it frees it.
  const packed = Buffer.allocUnsafeSlow(recordBytes);
  const offsets: number[] = [];
  let end = 0;
  for (const { at } of run) {
    offsets.push(end);
    end += bytes.copy(packed, end, at.offset - start, endOf(at) - start);
  }
  native.freeBuffer(bytes);
  return { packed, offsets };
}

/** Kind and digest as asked for; everything else is covered by the checksum. */
function checkHeader(record: Buffer, kind: number, digest: Buffer): void {
  if (record[4] !== kind || !record.subarray(16, 48).equals(digest))
    throw badRecord('another record lies there');
  if (record.readUInt32LE(12) !== record.length - RECORD_HEADER_BYTES)
    throw badRecord('it has another length');
}

function checkRecord(record: Buffer): Buffer {
  const checksum = native.checksum(record.subarray(0, 48), record.subarray(RECORD_HEADER_BYTES));
  if (!checksum.equals(record.subarray(48, RECORD_HEADER_BYTES))) throw badRecord('its checksum is wrong');
  return record;
}

function badRecord(message: string): Error {
  return Object.assign(new Error(message), { code: 'bad-record' });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
