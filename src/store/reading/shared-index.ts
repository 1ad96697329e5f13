/**
 * The store's own index, opened by a reader, beside the process that writes to it or alone. LMDB gives each
 * look a consistent state; the list of packs is read again whenever a record names an unknown one. It throws
 * what LMDB throws: the reader has another way.
 */
import { accessSync, constants, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { errnoOf } from '../disk/disk.js';
import { LOCK_FILE } from '../disk/layout.js';
import { mayHaveOwner } from '../disk/lock.js';
import type { BadRecord, IndexedPack, Location } from '../index/record-index.js';
import { INDEX_FORMAT } from '../index/store-index.js';
import { checkIndexForReading, openTables, type Tables } from '../index/tables.js';
import { decodePlace, placeKey } from '../index/values.js';

/** NFS, SMB, FUSE, 9p, Ceph: what another machine writes may not be seen whole in a mapped file. */
const REMOTE = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x65735546, 0x01021997, 0x00c36400]);
const STAMP = new RegExp(`^${INDEX_FORMAT} ([0-9a-f]{32})$`);

export class SharedIndex {
  readonly #tables: Tables;
  readonly #recordKey = Buffer.alloc(33);
  readonly #packIds = new Map<number, string>();
  #packs: ReadonlyMap<string, IndexedPack> = new Map();

  private constructor(tables: Tables) {
    this.#tables = tables;
    this.reload();
  }

  /** Throws with the reason if it is not to be used. */
  static open(storeDir: string, path: string, storeId: string): SharedIndex {
    checkIndexForReading(path);
    if (mayHaveOwner(join(storeDir, LOCK_FILE))) {
      if (REMOTE.has(statfsSync(path).type >>> 0)) throw new Error('another machine may be writing to it');
      // Where its pages can't be claimed while they are read, its owner may use them again.
      if (!mayClaimPages(path))
        throw new Error('a process writes to it, and this user may not claim its pages');
    }
    const tables = openTables(path, { readOnly: true });
    try {
      if (storeIdOf(tables) !== storeId) throw new Error('it is of another format or store');
      return new SharedIndex(tables);
    } catch (error) {
      void tables.root.close();
      throw error;
    }
  }

  packs(): ReadonlyMap<string, IndexedPack> {
    return this.#packs;
  }

  get recordCount(): number {
    return this.#tables.records.getCount();
  }

  /** Takes in what was written since. */
  reload(): void {
    const packs = new Map<string, IndexedPack>();
    for (const { key, value } of this.#tables.packs.getRange()) {
      const pack = { number: value.readUInt32BE(0), sizeBytes: Number(value.readBigUInt64BE(4)) };
      packs.set(key.toString('hex'), pack);
      this.#packIds.set(pack.number, key.toString('hex'));
    }
    this.#packs = packs;
  }

  locate(digest: Uint8Array, kind: number): Location | null {
    this.#recordKey.set(digest);
    this.#recordKey[32] = kind;
    const place = decodePlace(this.#tables.records.getBinaryFast(this.#recordKey));
    if (place === null) return null;
    if (!this.#packIds.has(place.packNumber)) this.reload();
    const packId = this.#packIds.get(place.packNumber);
    return packId === undefined ? null : { packId, ...place };
  }

  isBad(packNumber: number, offset: number, digest: Uint8Array): boolean {
    const value = this.#tables.bad.get(placeKey(packNumber, offset));
    return value?.subarray(0, 32).equals(digest) ?? false;
  }

  *badPlaces(): Generator<BadRecord> {
    for (const { key, value } of this.#tables.bad.getRange()) {
      const digest = Buffer.from(value.subarray(0, 32));
      const offset = Number(key.readBigUInt64BE(4));
      yield { packNumber: key.readUInt32BE(0), offset, digest, kind: value[32] ?? 0 };
    }
  }

  close(): Promise<void> {
    return this.#tables.root.close();
  }
}

/** Which store an index says that it is of; null if it can't be asked. */
export function readIndexedStoreId(path: string): string | null {
  try {
    checkIndexForReading(path);
    const tables = openTables(path, { readOnly: true });
    try {
      return storeIdOf(tables);
    } finally {
      void tables.root.close();
    }
  } catch {
    return null;
  }
}

function storeIdOf({ meta }: Tables): string | null {
  return STAMP.exec(meta.get(Buffer.from('format'))?.toString('latin1') ?? '')?.[1] ?? null;
}

function mayClaimPages(path: string): boolean {
  try {
    accessSync(join(path, 'lock.mdb'), constants.W_OK);
    return true;
  } catch (error) {
    // On a file system that is read-only here, nobody writes.
    return errnoOf(error) === 'EROFS';
  }
}
