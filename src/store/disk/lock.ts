/**
 * One owner per store: a flock, which the kernel releases whatever happens to its holder. The lock's file
 * names the holder in one line: the process's id and its role (docs/format.md section 5).
 */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { errnoOf } from './disk.js';

// fs-ext has no types and no ES module form. Its asynchronous flock must not be used: it runs on the
// process's first loop only.
const { flockSync } = createRequire(import.meta.url)('fs-ext') as {
  flockSync(fd: number, flags: 'exnb'): void;
};

/** A command ends by itself; a receiver that serves does not. */
export type OwnerRole = 'command' | 'receiver';

/** Null is what the lock's file does not say. */
export interface StoreOwner {
  readonly processId: number | null;
  readonly role: OwnerRole | null;
}

export interface StoreLock {
  release(): void;
}

/** For who waits for the store. */
export interface LockWaiting {
  /** Told once for each owner that is waited for. One without a line has come or goes at this moment. */
  readonly onWait: (owner: StoreOwner) => void;
  readonly signal?: AbortSignal;
}

export interface LockOptions {
  /** Default: the system's. Throws as flock fails. */
  readonly flock?: (fd: number) => void;
  readonly role?: OwnerRole;
}

const POLL_MS = 200;
/** Between its flock and its line in the file, an owner is taken for the one before it. */
const LINE_MS = 100;
const NO_LOCKS = new Set(['ENOLCK', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL']);

/** @throws StillpointError `store-locked` with the owner's process id; `store-io` where no lock can be had */
export function lockStore(path: string, storeDir: string, options: LockOptions = {}): StoreLock {
  const { flock = (fd) => flockSync(fd, 'exnb'), role = 'command' } = options;
  const fd = openLockFile(path, storeDir);
  try {
    flock(fd);
    ftruncateSync(fd, 0);
    writeSync(fd, `${process.pid} ${role}\n`);
  } catch (error) {
    closeSync(fd);
    const errno = errnoOf(error) ?? '';
    if (errno === 'EAGAIN' || errno === 'EWOULDBLOCK') throw lockedError(storeDir, readOwner(path), error);
    if (NO_LOCKS.has(errno)) throw noLocksError(path, errno, error);
    throw error;
  }
  return {
    release: () => {
      try {
        ftruncateSync(fd, 0);
      } catch {
        // The line stays, and says no more than it does after a crash.
      }
      closeSync(fd);
    },
  };
}

/**
 * Waits for its turn, as long as the owner is one that ends by itself.
 * @throws as lockStore; `cancelled` by the signal
 */
export async function lockStoreInTurn(
  path: string,
  storeDir: string,
  { onWait, signal }: LockWaiting,
  options: LockOptions = {},
): Promise<StoreLock> {
  let toldOf: StoreOwner['processId'] | undefined;
  for (;;) {
    try {
      return lockStore(path, storeDir, options);
    } catch (error) {
      if (!(error instanceof StillpointError) || error.code !== 'store-locked') throw error;
    }
    let owner = readOwner(path);
    if (owner.role === 'receiver') {
      await sleep(LINE_MS);
      owner = readOwner(path);
      if (owner.role === 'receiver') return lockStore(path, storeDir, options);
    }
    if (toldOf === undefined || (owner.processId !== null && owner.processId !== toldOf)) {
      onWait(owner);
      toldOf = owner.processId;
    }
    await sleep(POLL_MS, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
    if (signal?.aborted === true) {
      throw new StillpointError('cancelled', {
        thing: `store ${storeDir}`,
        reason: 'the command was cancelled while it waited for the store',
      });
    }
  }
}

/**
 * True if a process may have the store open: one that ended in order has taken its line out of the
 * file. The lock is not tried.
 */
export function mayHaveOwner(path: string): boolean {
  return readLine(path) !== '';
}

export function ownerText({ processId, role }: StoreOwner): string {
  const who = processId === null ? 'another process' : `process ${processId}`;
  return role === 'receiver' ? `${who}, a receiver that serves,` : who;
}

function readLine(path: string): string {
  try {
    return readFileSync(path, 'latin1').slice(0, 64).trim();
  } catch {
    // Who it is stays unknown.
    return '';
  }
}

function readOwner(path: string): StoreOwner {
  const line = readLine(path);
  const [, processId, role] = /^(\d{1,10})(?: (command|receiver))?$/.exec(line) ?? [];
  return {
    processId: processId === undefined ? null : Number(processId),
    role: (role as OwnerRole | undefined) ?? null,
  };
}

function openLockFile(path: string, storeDir: string): number {
  try {
    return openSync(path, 'a+', 0o600);
  } catch (error) {
    const errno = errnoOf(error);
    if (errno !== 'EROFS' && errno !== 'EACCES' && errno !== 'EPERM') throw error;
    throw new StillpointError('store-io', {
      thing: `store ${storeDir}`,
      reason:
        errno === 'EROFS'
          ? 'it lies on a read-only file system, and this command writes to it'
          : `this user may not write to it (${errno} for ${path})`,
      remedy:
        errno === 'EROFS'
          ? 'Mount it writable, or use another store. Points can be listed, verified and restored as it is.'
          : "Run the command as the store's owner. Every user who may read the store can list, verify and restore its points.",
      permanent: true,
      cause: error,
    });
  }
}

function lockedError(storeDir: string, owner: StoreOwner, cause: unknown): StillpointError {
  return new StillpointError('store-locked', {
    thing: `store ${storeDir}`,
    reason: `${ownerText(owner)} has it open`,
    remedy:
      owner.role === 'receiver'
        ? 'Stop it first. To back up to it while it serves, enroll this machine with it, and omit --store DIR.'
        : 'Wait until it has ended, or stop it.',
    cause,
  });
}

function noLocksError(path: string, errno: string, cause: unknown): StillpointError {
  return new StillpointError('store-io', {
    thing: `lock ${path}`,
    reason: `its file system does not support locks (flock: ${errno}), so two commands could write to the store at once`,
    remedy:
      'Mount it with locks (NFS: with its lock service running, or "-o local_lock=flock" where only this machine writes to it; ' +
      'sshfs and the like: another file system), or reach the store through a receiver on the machine that has it.',
    permanent: true,
    cause,
  });
}
