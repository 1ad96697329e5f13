/**
 * Room on the store's disk. Packs, which grow with what agents send, leave a reserve that only the index and
 * the few small files of a commit or a removal may use.
 */
import { dirname } from 'node:path';
import { MiB, STORE_RESERVE_BYTES_MAX, STORE_RESERVE_PART } from '../../domain/base/limits.js';
import type { Disk } from './disk.js';

/**
 * Before a pack grows.
 * @param part of the reserve that must stay free
 * @throws code `ENOSPC` if it would be touched
 */
export async function leaveReserve(
  disk: Disk,
  path: string,
  byteLength: number,
  part: number = 1,
): Promise<void> {
  const { freeBytes, reserveBytes } = await roomFor(disk, dirname(path));
  const neededBytes = byteLength + part * reserveBytes;
  if (freeBytes < neededBytes) throw noRoom(freeBytes, neededBytes);
}

/** What is free on a store's disk, and how much of that packs leave. */
export async function roomFor(
  disk: Disk,
  dir: string,
): Promise<{ readonly freeBytes: number; readonly reserveBytes: number }> {
  const { totalBytes, freeBytes } = await disk.room(dir);
  return { freeBytes, reserveBytes: Math.min(STORE_RESERVE_BYTES_MAX, totalBytes * STORE_RESERVE_PART) };
}

/** Its message tells how much is free, and how much must be. */
export class NoRoom extends Error {}

export function noRoom(freeBytes: number, neededBytes: number): Error {
  const [free, needed] = [freeBytes, neededBytes].map((bytes) => (bytes / MiB).toFixed(1));
  return Object.assign(new NoRoom(`${free} MiB are free, and ${needed} MiB are needed`), { code: 'ENOSPC' });
}
