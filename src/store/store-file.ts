/** store.json: what makes a directory a store, and which one. */
import { join } from 'node:path';
import { StillpointError } from '../domain/errors.js';
import { KiB } from '../domain/limits.js';
import { isHexId } from '../domain/names.js';
import { type Disk, readSmallFile, writeDurably } from './disk.js';
import { STORE_FILE } from './layout.js';
import { decodeSealed, encodeSealed } from './sealed-text.js';

const BYTES_MAX = 64 * KiB;

/** @throws StillpointError `store-missing`, `store-damaged`, `version` */
export async function readStoreFile(disk: Disk, dir: string): Promise<{ readonly storeId: string }> {
  const path = join(dir, STORE_FILE);
  const bytes = await readSmallFile(disk, path, BYTES_MAX);
  if (bytes === null) {
    throw new StillpointError('store-missing', {
      thing: `store ${dir}`,
      reason: `it has no ${STORE_FILE}`,
      remedy: 'Name the directory of a store, or make one with "stillpoint receiver init".',
    });
  }
  const { storeId } = decodeSealed('stillpoint-store', bytes, path);
  if (typeof storeId === 'string' && isHexId(storeId)) return { storeId };
  throw new StillpointError('store-damaged', { thing: path, reason: 'it has no store id' });
}

export function writeStoreFile(disk: Disk, dir: string, storeId: string, createdAt: Date): Promise<void> {
  const body = { storeId, createdAt: createdAt.toISOString() };
  return writeDurably(disk, join(dir, STORE_FILE), encodeSealed('stillpoint-store', body));
}
