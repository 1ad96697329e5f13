/** One owner per store: a flock, which the kernel releases whatever becomes of its holder. */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { StillpointError } from '../domain/errors.js';
import { errnoOf } from './disk.js';

// fs-ext has no types and no ESM form. Its asynchronous flock must not be used: it runs on the process's first loop only.
const { flockSync } = createRequire(import.meta.url)('fs-ext') as {
  flockSync(fd: number, flags: 'exnb'): void;
};

export interface StoreLock {
  release(): void;
}

function openLockFile(path: string, storeDir: string): number {
  try {
    return openSync(path, 'a+', 0o600);
  } catch (error) {
    if (errnoOf(error) !== 'EROFS') throw error;
    throw new StillpointError('store-io', {
      thing: `store ${storeDir}`,
      reason: 'it lies on a read-only file system, and opening it writes: its lock, its index',
      remedy: 'Mount it writable, or put a writable layer over it (an overlay mount, a snapshot).',
      cause: error,
    });
  }
}

/** @throws StillpointError `store-locked` with the holder's process id */
export function lockStore(path: string, storeDir: string): StoreLock {
  const fd = openLockFile(path, storeDir);
  try {
    flockSync(fd, 'exnb');
  } catch (error) {
    closeSync(fd);
    if (errnoOf(error) !== 'EAGAIN' && errnoOf(error) !== 'EWOULDBLOCK') throw error;
    const holder = readFileSync(path, 'utf8').trim();
    throw new StillpointError('store-locked', {
      thing: `store ${storeDir}`,
      reason: /^\d+$/.test(holder) ? `process ${holder} has it open` : 'another process has it open',
      remedy: 'Stop that process, or reach the store through it.',
      permanent: false,
      cause: error,
    });
  }
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
  return { release: () => closeSync(fd) };
}
