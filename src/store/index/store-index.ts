/**
 * The index: where every record is, and which blocks each device holds (docs/format.md section 5). It is an
 * LMDB environment, and only a cache of packs/ and points/.
 *
 * Reads are synchronous and see what is committed; writes are queued and committed by LMDB's own thread in
 * order, so a write counts when its promise resolves. Keys are copied at once; values must not change until
 * then.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { decodePackEntry, digestKey, packEntryCount } from '../packs/entries.js';
import type { DeviceKey } from '../port/store.js';
import { type DeviceNumbers, namesOf, renameDevices } from './devices.js';
import type { BadRecord, IndexedPack, Location, RecordIndex } from './record-index.js';
import { removePack } from './removal.js';
import { ensureIndexRoom } from './room.js';
import {
  checkIndexFiles,
  coverLastPage,
  forgetOwner,
  openTables,
  TABLE_COUNT,
  type Tables,
} from './tables.js';
import {
  decodePlace,
  encodeHeldKey,
  encodePlace,
  HELD_KEY_BYTES,
  PLACE_BYTES,
  type Place,
  placeKey,
  uint32,
} from './values.js';
import { IndexWrites, written } from './writes.js';

/** 2: `held` is by digest first, so that a record's holders are found without asking for each device. */
export const INDEX_FORMAT = 'stillpoint-index 2';
const NEXT_PACK = Buffer.from('next-pack');
const COLLECTED = Buffer.from('collected');
/** Stands for "in no pack" in `bad`, with a part of the digest as the place. */
const NO_PACK_NUMBER = 0;
const PLACE_MASK = 2n ** 52n - 1n;
const EMPTY = Buffer.alloc(0);
const NULL_KEY = '\0'.repeat(32);
/**
 * Bounds the pages that are rewritten at once: they are in memory (16 MiB), and there is room for them in the
 * store's reserve.
 */
const RECORDS_PER_COMMIT = 4096;
/** Between two looks at the event loop. */
const RECORDS_PER_TURN = 2048;

export interface AddPackOptions {
  /** Number of the device that holds all of the pack's blocks. */
  readonly holder?: number;
  /** Its own index was not believed. */
  readonly salvaged?: boolean;
}

export class StoreIndex implements RecordIndex {
  readonly #path: string;
  readonly #tables: Tables;
  readonly #packIds = new Map<number, string>();
  readonly #packs = new Map<string, IndexedPack>();
  readonly #deviceNumbers: DeviceNumbers = new Map();
  #nextDevice = 1;
  #nextPack = 1;
  #badCount = 0;
  #moveCount = 0;
  /** 0: none since the last whole collection. */
  #garbageCount = 1;
  readonly #recordKey = Buffer.alloc(33);
  readonly #heldKey = Buffer.alloc(HELD_KEY_BYTES);

  private constructor(path: string, tables: Tables) {
    this.#path = path;
    this.#tables = tables;
  }

  /**
   * Opens the index of a store; one that can't be opened or is another store's is replaced by an empty one,
   * which `onReset` is told.
   */
  static async open(path: string, storeId: string, onReset: (reason: string) => void): Promise<StoreIndex> {
    const stamp = Buffer.from(`${INDEX_FORMAT} ${storeId}`);
    let index: StoreIndex | null = null;
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      checkIndexFiles(path);
      index = new StoreIndex(path, openTables(path));
      const found = index.#tables.meta.get(Buffer.from('format'));
      if (found?.equals(stamp)) {
        index.#load();
        return index;
      }
      if (found !== undefined) onReset('it is of another format or store');
    } catch (error) {
      onReset(error instanceof Error ? error.message : String(error));
    }
    await index?.close();
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path, { recursive: true, mode: 0o700 });
    ensureIndexRoom(path, TABLE_COUNT);
    const tables = openTables(path);
    index = new StoreIndex(path, tables);
    await written(path, () => tables.meta.put(Buffer.from('format'), stamp));
    return index;
  }

  #load(): void {
    const { meta, packs, devices, bad } = this.#tables;
    this.#nextPack = meta.get(NEXT_PACK)?.readUInt32BE() ?? 1;
    for (const { key, value } of packs.getRange()) {
      const pack = { number: value.readUInt32BE(0), sizeBytes: Number(value.readBigUInt64BE(4)) };
      this.#packs.set(key.toString('hex'), pack);
      this.#packIds.set(pack.number, key.toString('hex'));
    }
    for (const { key, value } of devices.getRange()) {
      const number = value.readUInt32BE(0);
      this.#deviceNumbers.set(key.toString(), Promise.resolve(number));
      this.#nextDevice = Math.max(this.#nextDevice, number + 1);
    }
    this.#badCount = bad.getCount();
    this.#garbageCount = meta.doesExist(COLLECTED) ? 0 : 1;
  }

  /** Forgets everything. */
  async clear(): Promise<void> {
    const { packs, records, held, devices, walked, bad } = this.#tables;
    // A point counts as walked only while all its packs are in the index.
    for (const table of [walked, packs, records, held, devices, bad])
      await written(this.#path, () => table.clearAsync());
    await this.noteGarbage();
    this.#packIds.clear();
    this.#packs.clear();
    this.#deviceNumbers.clear();
    this.#badCount = 0;
  }

  // ---- packs and records ----------------------------------------------------------------------------------

  /** Packs whose records are all in the index, with their file sizes. */
  packs(): ReadonlyMap<string, IndexedPack> {
    return this.#packs;
  }

  hasPack(packId: string): boolean {
    return this.#packs.has(packId);
  }

  /**
   * Of a pack that is published. Records first, then the pack's own entry: a pack that is listed is complete.
   * Later packs win over earlier ones.
   */
  async addPack(
    packId: string,
    sizeBytes: number,
    entries: Buffer,
    options: AddPackOptions = {},
  ): Promise<void> {
    const number = this.#nextPack;
    this.#nextPack += 1;
    // Before its records can be found: they may take the place of another pack's, and must
    // not be missing meanwhile.
    this.#packIds.set(number, packId);
    const count = packEntryCount(entries);
    const values = Buffer.alloc(count * PLACE_BYTES);
    // First of all, so that a pack that is never completed does not leave its number to another one.
    const numbered = new IndexWrites(this.#path, 1);
    numbered.add(this.#tables.meta.put(NEXT_PACK, uint32(this.#nextPack)));
    for (let from = 0; from < count; from += RECORDS_PER_COMMIT) {
      const end = Math.min(from + RECORDS_PER_COMMIT, count);
      const writes = new IndexWrites(this.#path, 2 * (end - from));
      for (let i = from; i < end; i += 1) {
        const entry = decodePackEntry(entries, i);
        const value = values.subarray(i * PLACE_BYTES, (i + 1) * PLACE_BYTES);
        encodePlace(value, number, entry);
        writes.add(this.#tables.records.put(this.#keyOf(entry.digest, entry.kind), value));
        if (options.holder !== undefined) {
          writes.add(this.#tables.held.put(this.#heldKeyOf(options.holder, entry.digest), EMPTY));
        }
        if (i % RECORDS_PER_TURN === RECORDS_PER_TURN - 1) await setImmediate();
      }
      await writes.done();
    }
    await numbered.done();
    const value = Buffer.alloc(13);
    value.writeUInt32BE(number, 0);
    value.writeBigUInt64BE(BigInt(sizeBytes), 4);
    value[12] = options.salvaged === true ? 1 : 0;
    await written(this.#path, () => this.#tables.packs.put(Buffer.from(packId, 'hex'), value));
    this.#packs.set(packId, { number, sizeBytes });
  }

  locate(digest: Uint8Array, kind: number): Location | null {
    const place = decodePlace(this.#tables.records.getBinaryFast(this.#keyOf(digest, kind)));
    if (place === null) return null;
    const packId = this.#packIds.get(place.packNumber);
    return packId === undefined ? null : { packId, ...place };
  }

  /** How often a record's entry was moved to another copy, or taken away, since the index was opened. */
  get moveCount(): number {
    return this.#moveCount;
  }

  /** From now on nothing is found in these packs. They are on disk and in the tables until `removePack`. */
  condemn(packIds: Iterable<string>): void {
    for (const packId of packIds) {
      const number = this.#packs.get(packId)?.number;
      this.#packs.delete(packId);
      if (number !== undefined) this.#packIds.delete(number);
    }
  }

  /** Forgets a condemned pack. Code `ENOSPC` if there is no room for that: it can be done again. */
  async removePack(packId: string, number: number, entries: Buffer): Promise<void> {
    await removePack(this.#path, this.#tables, { packId, number, entries });
    if (this.#badCount > 0) this.#badCount = this.#tables.bad.getCount();
  }

  /** The number that the next pack gets. */
  get nextPackNumber(): number {
    return this.#nextPack;
  }

  /** How many records there are, about. */
  get recordCount(): number {
    return this.#tables.records.getCount();
  }

  /** Something may be needed no more since the last whole collection. A new index does not know. */
  get mayHaveGarbage(): boolean {
    return this.#garbageCount > 0;
  }

  /** Changes with each `noteGarbage`. */
  get garbageCount(): number {
    return this.#garbageCount;
  }

  /** Before something is given up that needs records. */
  async noteGarbage(): Promise<void> {
    this.#garbageCount += 1;
    await written(this.#path, () => this.#tables.meta.remove(COLLECTED));
  }

  /** @param garbageCount as it was when the collection began */
  async noteCollected(garbageCount: number): Promise<void> {
    if (this.#garbageCount !== garbageCount) return;
    this.#garbageCount = 0;
    await written(this.#path, () => this.#tables.meta.put(COLLECTED, EMPTY));
  }

  /** Points a record's entry to a copy elsewhere. */
  async relocate(digest: Uint8Array, kind: number, packNumber: number, at: Omit<Place, 'packNumber'>) {
    this.#moveCount += 1;
    const value = Buffer.alloc(PLACE_BYTES);
    encodePlace(value, packNumber, at);
    await written(this.#path, () => this.#tables.records.put(this.#keyOf(digest, kind), value));
  }

  // ---- damage ---------------------------------------------------------------------------------------------

  /**
   * A place whose record is damaged. If the record's entry names it, the entry goes: the record is not
   * had until it comes back.
   */
  async markBad(packNumber: number, offset: number, digest: Uint8Array, kind: number): Promise<void> {
    this.#moveCount += 1;
    const located = this.locate(digest, kind);
    const writes = new IndexWrites(this.#path, 2);
    if (located?.packNumber === packNumber && located.offset === offset) {
      writes.add(this.#tables.records.remove(this.#keyOf(digest, kind)));
    }
    const value = Buffer.alloc(33);
    value.set(digest);
    value[32] = kind;
    writes.add(this.#tables.bad.put(placeKey(packNumber, offset), value));
    await writes.done();
    this.#badCount = this.#tables.bad.getCount();
  }

  /** A record that points need and no pack has. */
  markLost(digest: Uint8Array, kind: number): Promise<void> {
    const place = Number(Buffer.from(digest).readBigUInt64BE() & PLACE_MASK);
    return this.markBad(NO_PACK_NUMBER, place, digest, kind);
  }

  /** A place that was doubted wrongly. */
  async markGood(packNumber: number, offset: number): Promise<void> {
    if (this.#badCount === 0) return;
    await written(this.#path, () => this.#tables.bad.remove(placeKey(packNumber, offset)));
    this.#badCount = this.#tables.bad.getCount();
  }

  isBad(packNumber: number, offset: number, digest: Uint8Array): boolean {
    if (this.#badCount === 0) return false;
    const value = this.#tables.bad.get(placeKey(packNumber, offset));
    return value?.subarray(0, 32).equals(digest) ?? false;
  }

  /** True if a record is known that was found damaged and has no good copy. */
  hasUnhealed(): boolean {
    if (this.#badCount === 0) return false;
    for (const { value } of this.#tables.bad.getRange()) {
      if (this.locate(value.subarray(0, 32), value[32] ?? 0) === null) return true;
    }
    return false;
  }

  /** All places that are known to be bad, and of pack number 0 records that are in no pack. */
  *badPlaces(): Generator<BadRecord> {
    if (this.#badCount === 0) return;
    for (const { key, value } of this.#tables.bad.getRange()) {
      const digest = Buffer.from(value.subarray(0, 32));
      const offset = Number(key.readBigUInt64BE(4));
      yield { packNumber: key.readUInt32BE(0), offset, digest, kind: value[32] ?? 0 };
    }
  }

  // ---- what devices hold ----------------------------------------------------------------------------------

  /** The same for a device as long as the index lives, and given only when that is certain. */
  deviceNumber(key: DeviceKey): Promise<number> {
    const name = `${key.agent}/${key.device}`;
    const known = this.#deviceNumbers.get(name);
    if (known !== undefined) return known;
    const number = this.#nextDevice;
    this.#nextDevice += 1;
    const entered = written(this.#path, () =>
      this.#tables.devices.put(Buffer.from(name), uint32(number)),
    ).then(() => number);
    entered.catch(() => this.#deviceNumbers.delete(name));
    this.#deviceNumbers.set(name, entered);
    return entered;
  }

  deviceNames(agent: string): string[] {
    return namesOf(this.#deviceNumbers, agent);
  }
  renameDevices(from: string, to: string): Promise<void> {
    return renameDevices(this.#path, this.#tables, this.#deviceNumbers, from, to);
  }

  isHeld(deviceNumber: number, digest: Uint8Array): boolean {
    return this.#tables.held.doesExist(this.#heldKeyOf(deviceNumber, digest));
  }

  /** @param digests n * 32 bytes; NULL ones are left out */
  async hold(deviceNumber: number, digests: Buffer): Promise<void> {
    const count = digests.length / 32;
    for (let from = 0; from < count; from += RECORDS_PER_COMMIT) {
      const end = Math.min(from + RECORDS_PER_COMMIT, count);
      const writes = new IndexWrites(this.#path, end - from);
      for (let i = from; i < end; i += 1) {
        const digest = digests.subarray(i * 32, i * 32 + 32);
        if (digestKey(digest) === NULL_KEY) continue;
        writes.add(this.#tables.held.put(this.#heldKeyOf(deviceNumber, digest), EMPTY));
        if (i % RECORDS_PER_TURN === RECORDS_PER_TURN - 1) await setImmediate();
      }
      await writes.done();
    }
  }

  isWalked(pointId: string): boolean {
    return this.#tables.walked.doesExist(Buffer.from(pointId, 'hex'));
  }
  async markWalked(pointId: string): Promise<void> {
    await written(this.#path, () => this.#tables.walked.put(Buffer.from(pointId, 'hex'), EMPTY));
  }
  async forgetWalk(pointId: string): Promise<void> {
    if (!this.isWalked(pointId)) return;
    await written(this.#path, () => this.#tables.walked.remove(Buffer.from(pointId, 'hex')));
  }

  /** Waits for the writes that were queued. */
  async close(): Promise<void> {
    await this.#tables.root.close();
    try {
      coverLastPage(this.#path);
    } catch {
      // It is taken for cut short at the next opening, and made anew.
    }
    forgetOwner(this.#path);
  }

  #keyOf(digest: Uint8Array, kind: number): Buffer {
    this.#recordKey.set(digest);
    this.#recordKey[32] = kind;
    return this.#recordKey;
  }
  #heldKeyOf(deviceNumber: number, digest: Uint8Array): Buffer {
    encodeHeldKey(this.#heldKey, digest, deviceNumber);
    return this.#heldKey;
  }
}
