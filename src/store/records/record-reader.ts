/**
 * Reads records through the index, neighbours in one go, and believes none before it is checked. A record that is damaged or
 * missing is marked, another copy of it is looked for in all packs, and only if there is none the reader says so.
 *
 * State: a bounded cache of tree nodes, and the digests that were looked for in vain since a pack was last added, or a
 * verification began.
 */
import { KiB, MiB } from '../../domain/base/limits.js';
import { type Digester, native, RECORD_KIND_NODE } from '../../native/index.js';
import { PACKS_PREFIX, packIdOf, packKey } from '../disk/layout.js';
import type { Location, RecordIndex } from '../index/record-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import { isDataError, readPackEntries } from '../packs/contents.js';
import { decodePackEntry, digestKey, packEntryCount, RECORD_HEADER_BYTES } from '../packs/entries.js';

/** Records farther apart are read apart. */
const GAP_BYTES_MAX = 64 * KiB;
const RUN_BYTES_MAX = 8 * MiB;
const CACHED_NODES_MAX = 4096;
const LOST_MAX = 100_000;
const EMPTY = Buffer.alloc(0);

/** Where a record should be and why it can't be had. */
export interface Damage {
  /** Null if no pack is known to have it. */
  readonly packId: string | null;
  readonly offset: number;
  readonly reason: string;
}

export type ReadResult = { readonly record: Buffer } | { readonly damage: Damage };

/** Records where they lie in pieces of packs, as `native.encodeBatch` takes them. */
export interface PackedRecords {
  readonly runs: readonly Buffer[];
  readonly recordRuns: Uint32Array;
  readonly recordOffsets: Uint32Array;
}

interface DamagedItem {
  readonly digest: Buffer;
  readonly damage: Damage;
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
  readonly #lost = new Map<string, Damage>();
  #lostAtPackCount = 0;
  #searchCount = 0;

  constructor(objects: ObjectStore, index: RecordIndex, digester: Digester, log: (message: string) => void) {
    this.digester = digester;
    this.#objects = objects;
    this.#index = index;
    this.#log = log;
  }

  /** Contents of tree nodes, digested; `damage` of those that can't be had is reported to `onDamage` and their place is null. */
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
    this.#lost.clear();
  }

  /** Other copies of damaged records are being looked for, in any pack. */
  get isSearching(): boolean {
    return this.#searchCount > 0;
  }

  /** Where records are; those that the index does not know are looked for in all packs. */
  async locate(kind: number, digests: readonly Buffer[]): Promise<(Location | null)[]> {
    const located = digests.map((digest) => this.#index.locate(digest, kind));
    const unknown = digests.filter((_, i) => located[i] === null);
    if (unknown.length === 0) return located;
    await this.#recover(
      kind,
      unknown.map((digest) => ({ digest, damage: MISSING })),
    );
    return digests.map((digest, i) => located[i] ?? this.#index.locate(digest, kind));
  }

  /** Records as their packs have them, unchecked; null if one can't be read: `read` tells why. The caller bounds the bytes. */
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
      for (const { i, at } of run) {
        recordRuns[i] = runs.length;
        recordOffsets[i] = at.offset - startOf(run);
      }
      runs.push(bytes);
    }
    return { runs, recordRuns, recordOffsets };
  }

  /**
   * Records, each passed through `check`, which throws for a damaged one; `record` of a result is what it answered. The caller
   * bounds the bytes. Without `check`: header and stored bytes, checksum proven.
   */
  async read(
    kind: number,
    digests: readonly Buffer[],
    check: (record: Buffer, digest: Buffer) => Promise<Buffer> | Buffer = checkRecord,
  ): Promise<ReadResult[]> {
    const results = await this.#readOnce(kind, digests, check);
    const damaged: DamagedItem[] = [];
    for (const [i, digest] of digests.entries()) {
      const result = results[i];
      if (result !== undefined && 'damage' in result) damaged.push({ digest, damage: result.damage });
    }
    if (damaged.length === 0) return results;
    const found = await this.#recover(kind, damaged);
    const again = found ? await this.#readOnce(kind, digests, check) : results;
    // The first thing that was known to be wrong says more than that nothing is there any more.
    return again.map((result, i) => {
      const lost = this.#lost.get(lostKey(kind, digests[i] ?? EMPTY));
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

  /** One read for all; if that fails, one more for each, so that a bad sector costs only the records on it and a passing fault none. */
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

  // ---- other copies -----------------------------------------------------------------------------------------------------

  /** Looks for good copies in the indexes of all packs. True if one was found. */
  async #recover(kind: number, items: readonly DamagedItem[]): Promise<boolean> {
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
      const { entries } = await readPackEntries(this.#objects, packId, this.digester);
      for (let i = 0; i < packEntryCount(entries) && wanted.size > 0; i += 1) {
        const entry = decodePackEntry(entries, i);
        const digest = wanted.get(digestKey(asBuffer(entry.digest)))?.digest;
        if (digest === undefined || entry.kind !== kind) continue;
        try {
          const length = RECORD_HEADER_BYTES + entry.storedLength;
          await native.decodeRecord(
            await this.#objects.read(key, entry.offset, length),
            digest,
            this.digester,
          );
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

interface Placed {
  readonly at: Location;
}

interface Item extends Placed {
  readonly i: number;
  readonly digest: Buffer;
}

function byPlace(a: Placed, b: Placed): number {
  return a.at.packNumber - b.at.packNumber || a.at.offset - b.at.offset;
}

/** Neighbours in one pack. @param items by place */
function* runsOf<T extends Placed>(items: readonly T[]): Generator<T[]> {
  let run: T[] = [];
  for (const item of items) {
    const first = run[0]?.at;
    const last = run.at(-1)?.at;
    const joins =
      first !== undefined &&
      last !== undefined &&
      first.packNumber === item.at.packNumber &&
      item.at.offset - endOf(last) <= GAP_BYTES_MAX &&
      endOf(item.at) - first.offset <= RUN_BYTES_MAX;
    if (!joins && run.length > 0) {
      yield run;
      run = [];
    }
    run.push(item);
  }
  if (run.length > 0) yield run;
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

function startOf(run: readonly Placed[]): number {
  return run[0]?.at.offset ?? 0;
}

function endOf(at: Location): number {
  return at.offset + RECORD_HEADER_BYTES + at.storedLength;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function lostKey(kind: number, digest: Buffer): string {
  return `${kind}${digestKey(digest)}`;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
