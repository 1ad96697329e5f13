/**
 * Who is at work on a volume or on the metadata of a pool, on this machine: flock(2) on files in /run, which
 * lies on no volume. A lock ends with its process, so a snapshot of a session whose lock is free is left
 * over.
 */
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../../domain/base/errors.js';
import { lockFile, makeDirectories } from '../../../native/files.js';
import type { LvmHost } from './host.js';

const PAUSE_MS = 100;

/** @throws StillpointError `session-busy` */
export async function lockVolume(host: LvmHost, path: string, uuid: string): Promise<FileHandle> {
  const handle = await tryLock(host, uuid);
  if (handle !== null) return handle;
  throw new StillpointError('session-busy', {
    thing: path,
    reason: 'another backup holds a snapshot of this volume',
    remedy: 'Wait until it has ended.',
  });
}

/** @returns null: somebody else holds it for longer than that. */
export async function lockPool(host: LvmHost, uuid: string, withinMs: number): Promise<FileHandle | null> {
  const endsAtMs = performance.now() + withinMs;
  for (;;) {
    const handle = await tryLock(host, uuid);
    if (handle !== null || performance.now() >= endsAtMs) return handle;
    await sleep(PAUSE_MS);
  }
}

async function tryLock({ lockDirectory }: LvmHost, uuid: string): Promise<FileHandle | null> {
  await makeDirectories(lockDirectory);
  return lockFile(join(lockDirectory, `${uuid}.lock`));
}
