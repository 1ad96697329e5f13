/**
 * The lock that tells programs that a device or an image is being read: a shared flock(2) on its node, as in
 * udev's convention for block devices. A restore takes the exclusive one on its target. It ends with the
 * process.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { lockShared } from '../../native/files.js';

/** Programs that look at a device hold it exclusively for a moment. */
const TRIES = 10;
const PAUSE_MS = 100;

/**
 * @returns what ends the lock, when closed; null where the file system has no locks.
 * @throws StillpointError `device-in-use`
 */
export async function lockSource(path: string): Promise<FileHandle | null> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    for (let tries = 1; ; tries += 1) {
      const result = await lockShared(handle);
      if (result === 'locked') return handle;
      if (result === 'unsupported') break;
      if (tries === TRIES) throw heldExclusively(path);
      await sleep(PAUSE_MS);
    }
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  return null;
}

function heldExclusively(path: string): StillpointError {
  return new StillpointError('device-in-use', {
    thing: path,
    reason: 'something has locked it for writing: a restore, or a program that partitions or formats it',
    remedy: 'Wait until that has ended.',
    permanent: false,
  });
}
