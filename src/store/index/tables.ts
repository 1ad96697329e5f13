/** The LMDB environment under the index: its tables, and the checks before LMDB may open its file. */
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { keepFromChildren } from '../../native/files.js';
import { errnoOf, isFull } from '../disk/disk.js';

export const PAGE_BYTES = 4096;
export const DATA_FILE = 'data.mdb';
export const TABLE_COUNT = 7;
const OWNERS_FILE = 'owners';
const OWNERS_DIED_MAX = 3;

type Table = Database<Buffer, Buffer>;

export interface Tables {
  readonly root: RootDatabase<Buffer, Buffer>;
  readonly meta: Table;
  readonly packs: Table;
  readonly records: Table;
  readonly held: Table;
  readonly devices: Table;
  readonly walked: Table;
  readonly bad: Table;
}

/** Throws if the index in this directory is not to be opened. Counts an owner, until `forgetOwner`. */
export function checkIndexFiles(path: string): void {
  countOwner(path);
  checkDataFile(join(path, DATA_FILE));
}

/**
 * Throws if a reader is not to open the index. Nothing is written. Who writes to it now takes pages at its
 * end that it does not write yet, so a file may be shorter than its header says for a moment only.
 */
export function checkIndexForReading(path: string): void {
  const file = join(path, OWNERS_FILE);
  const died = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  // The present owner counts too, and was let in.
  if (!(died <= OWNERS_DIED_MAX)) throw new Error('processes that had it open died');
  // LMDB dies of an empty one that it may not fill.
  if ((statSync(join(path, DATA_FILE), { throwIfNoEntry: false })?.size ?? 0) === 0)
    throw new Error('it is gone');
  checkDataFile(join(path, DATA_FILE));
}

/** The owner closed the index. */
export function forgetOwner(path: string): void {
  rmSync(join(path, OWNERS_FILE), { force: true });
}

/**
 * LMDB has no checksums: damage inside its file may end the process that reads it. So owners that did not
 * close the index are counted, and after OWNERS_DIED_MAX in a row it is not believed.
 */
function countOwner(path: string): void {
  const file = join(path, OWNERS_FILE);
  const died = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0;
  if (!(died < OWNERS_DIED_MAX))
    throw new Error(`the last ${OWNERS_DIED_MAX} processes that had it open died`);
  try {
    writeFileSync(file, String(died + 1));
  } catch (error) {
    // Uncounted is better than made anew for that: points must be readable on a full disk.
    if (!isFull(error)) throw error;
  }
}

/**
 * LMDB dies of a file that is not its own or too short, so that is looked at first: magic,
 * version, page size, last page.
 */
function checkDataFile(path: string): void {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return;
    throw error;
  }
  try {
    const sizeBytes = fstatSync(fd).size;
    if (sizeBytes === 0) return;
    const metas = Buffer.alloc(2 * PAGE_BYTES);
    if (readSync(fd, metas, 0, metas.length, 0) < metas.length) throw new Error('data.mdb is cut short');
    for (const page of [metas.subarray(0, PAGE_BYTES), metas.subarray(PAGE_BYTES)]) {
      const isMeta = page.readUInt32LE(24) === 0xbeefc0de && page.readUInt32LE(28) === 2;
      if (!isMeta || page.readUInt32LE(48) !== PAGE_BYTES) throw new Error('data.mdb has no valid header');
      const lastPage = page.readBigUInt64LE(144);
      if (lastPage >= BigInt(sizeBytes / PAGE_BYTES)) throw new Error('data.mdb is cut short');
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * LMDB counts pages at the end that a transaction took and gave back, and does not write them. So that a
 * file that is cut short can be told from one that it left so, the file is made as long as LMDB says. Nobody
 * may write to it meanwhile.
 */
export function coverLastPage(path: string): void {
  const fd = openSync(join(path, DATA_FILE), 'r+');
  try {
    const metas = Buffer.alloc(2 * PAGE_BYTES);
    if (readSync(fd, metas, 0, metas.length, 0) < metas.length) return;
    const lastPages = [metas.readBigUInt64LE(144), metas.readBigUInt64LE(PAGE_BYTES + 144)];
    const sizeBytes = Math.max(...lastPages.map((page) => (Number(page) + 1) * PAGE_BYTES));
    if (fstatSync(fd).size < sizeBytes) ftruncateSync(fd, sizeBytes);
  } finally {
    closeSync(fd);
  }
}

export function openTables(path: string, { readOnly = false }: { readonly readOnly?: boolean } = {}): Tables {
  const root = open<Buffer, Buffer>({
    path,
    readOnly,
    pageSize: PAGE_BYTES,
    maxDbs: TABLE_COUNT + 1,
    // Its batches have a promise that nobody is given, which fails unseen when the disk is full.
    eventTurnBatching: false,
    // Else a promise of its own tells of the flush, which is never settled for a transaction that failed:
    // closing would wait for it.
    overlappingSync: false,
    noSubdir: false,
    encoding: 'binary',
    keyEncoding: 'binary',
  });
  // Version 3.5.6 opens one of its two descriptors without O_CLOEXEC.
  keepFromChildren(join(path, DATA_FILE));
  const table = (name: string): Table =>
    root.openDB<Buffer, Buffer>({ name, encoding: 'binary', keyEncoding: 'binary' });
  return {
    root,
    meta: table('meta'),
    packs: table('packs'),
    records: table('records'),
    held: table('held'),
    devices: table('devices'),
    walked: table('walked'),
    bad: table('bad'),
  };
}
