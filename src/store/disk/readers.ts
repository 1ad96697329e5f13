/**
 * Commands that read a store beside its owner hold a shared lock of the file `readers`; the owner removes no
 * pack while one does. The kernel releases the lock whatever happens to its holder.
 *
 * Where a reader can't have the lock (a read-only file system without the file, one without locks, a user who
 * may not open it) it reads anyway: if a pack goes that it needs, it fails and says so.
 */
import { constants, type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockShared, tryLockExclusive } from '../../native/files.js';
import { READERS_FILE } from './layout.js';

const POLL_MS = 50;
/** A removal is a matter of seconds: after that, something else has the lock. */
const WAIT_MS_MAX = 30_000;
/** Others may lock it, too; there is nothing in it. */
const MODE = 0o644;

export interface ReadersLock {
  release(): Promise<void>;
}

const NONE: ReadersLock = { release: async () => undefined };

/** For a reader, before it looks at anything. Waits while packs are being removed. */
export async function lockForReading(dir: string): Promise<ReadersLock> {
  const handle = await openForReader(join(dir, READERS_FILE));
  if (handle === null) return NONE;
  for (let waitedMs = 0; waitedMs < WAIT_MS_MAX; waitedMs += POLL_MS) {
    const state = await lockShared(handle).catch(async (error) => {
      await handle.close();
      throw error;
    });
    if (state === 'locked') return { release: () => handle.close() };
    if (state === 'unsupported') break;
    await sleep(POLL_MS);
  }
  await handle.close();
  return NONE;
}

/** Null: this reader reads without the lock. It makes no file: a reader changes nothing. */
function openForReader(path: string): Promise<FileHandle | null> {
  return open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => null);
}

/** By the owner, when it opens the store. */
export async function makeReadersFile(dir: string): Promise<void> {
  await (await openForOwner(dir)).close();
}

function openForOwner(dir: string): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_NOFOLLOW } = constants;
  return open(join(dir, READERS_FILE), O_RDWR | O_CREAT | O_NOFOLLOW, MODE);
}

/** For the owner, before packs are removed. Null while somebody reads the store. */
export async function lockForRemoval(dir: string): Promise<ReadersLock | null> {
  const handle = await openForOwner(dir);
  let isLocked = false;
  try {
    isLocked = tryLockExclusive(handle);
  } finally {
    if (!isLocked) await handle.close();
  }
  return isLocked ? { release: () => handle.close() } : null;
}
