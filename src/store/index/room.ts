/**
 * Room for the index on the store's disk, in the reserve that packs leave. LMDB must not meet a full disk:
 * version 3.5.6 writes past the end of a buffer for the text of its error (`sprintf` to 100 bytes in
 * `mdb_page_flush`), and the process then dies or continues with a damaged heap.
 */
import { statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { KiB } from '../../domain/base/limits.js';
import { noRoom } from '../disk/room.js';
import { DATA_FILE, PAGE_BYTES } from './tables.js';

/** LMDB's free list, upper pages and tables' roots. */
const INDEX_MARGIN_BYTES = 256 * KiB;
/** What an entry adds, with the half-empty pages of a tree of random keys. */
const INDEX_ENTRY_BYTES = 256;
/** Each entry has a page of its own, and some of those that lead to it. */
const INDEX_REWRITTEN_BYTES = 1.25 * PAGE_BYTES;

/**
 * Before entries are put into the index, or taken out of it: a page that changes is written elsewhere.
 * Synchronous, so that who asks can queue its writes before anybody else does.
 * @param path directory of the index
 * @throws code `ENOSPC` if they might not find room
 */
export function ensureIndexRoom(path: string, writeCount: number): void {
  const fileBytes = statSync(join(path, DATA_FILE), { throwIfNoEntry: false })?.size ?? 0;
  const rewrittenBytes = Math.min(fileBytes, INDEX_REWRITTEN_BYTES * writeCount);
  const neededBytes = INDEX_MARGIN_BYTES + rewrittenBytes + INDEX_ENTRY_BYTES * writeCount;
  const { bavail, bsize } = statfsSync(path);
  if (bavail * bsize < neededBytes) throw noRoom(bavail * bsize, neededBytes);
}
