/**
 * The lock of a program that writes a device or an image from its beginning to its end: LOCK_EX of flock(2),
 * on the node itself. It keeps out another restore, a backup (which holds the lock shared while it reads),
 * and udev, which does not look at a device locked like that.
 */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { tryLockExclusive } from '../../native/files.js';
import { loopsOver } from '../system/block-stack.js';
import { readBlockFamily, readFact } from '../system/block-sysfs.js';
import { onDevice } from '../system/device-error.js';
import { deviceNumber } from '../system/in-use.js';
import { isStillpoint, processName, readCommandLine } from '../system/processes.js';

/** udev holds a device shared for a moment, when it has just come or was just closed. */
const TRIES = 6;
const PAUSE_MS = 200;

/** @returns the handle that holds it. @throws StillpointError `device-in-use` */
export async function lockTarget(path: string): Promise<FileHandle> {
  const handle = await onDevice(path, () => openForLock(path));
  try {
    for (let tries = 1; !tryLockExclusive(handle); tries += 1) {
      if (tries === TRIES) throw await lockedError(path);
      await sleep(PAUSE_MS);
    }
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Who has locked what shares bytes with it, has done so for this too: its disk or its partitions, what it
 * is a loop device over, the loop devices over it. These are not kept locked: two partitions of a disk
 * may be written at a time.
 */
export async function refuseLockedRelatives(path: string): Promise<void> {
  for (const relative of await relativesOf(path)) await (await lockTarget(relative)).close();
}

async function relativesOf(path: string): Promise<string[]> {
  const status = await stat(path, { bigint: true });
  const found = await loopsOver(status);
  const family = status.isBlockDevice() ? await readBlockFamily(deviceNumber(status.rdev)) : null;
  if (family !== null) {
    const { disk, partitions, self } = family;
    for (const { name } of [...partitions, ...(disk === null ? [] : [disk])]) found.push(`/dev/${name}`);
    const backing = await readFact((disk ?? self).directory, 'loop', 'backing_file');
    if (backing !== null) found.push(backing);
  }
  const there = await Promise.all(found.map(tryStat));
  return found.filter((_, index) => there[index] !== null);
}

const tryStat = (path: string): Promise<BigIntStats | null> => stat(path, { bigint: true }).catch(() => null);

/**
 * Network file systems lock only what is open for writing; and udev looks at each device
 * that was, when it is closed.
 */
async function openForLock(path: string): Promise<FileHandle> {
  const { O_NONBLOCK, O_RDONLY, O_RDWR } = constants;
  const isFile = (await stat(path)).isFile();
  return open(path, (isFile ? O_RDWR : O_RDONLY) | O_NONBLOCK);
}

async function lockedError(path: string): Promise<StillpointError> {
  const holder = await findHolder(path);
  const isBackup = holder?.isShared === true && holder.isStillpoint;
  const who = holder === null ? 'another program' : `${holder.name} (process ${holder.processId})`;
  return new StillpointError('device-in-use', {
    thing: path,
    reason: isBackup ? `a backup reads it (process ${holder.processId})` : `${who} has locked it`,
    remedy: isBackup
      ? 'Wait until it has ended, or stop it.'
      : 'Wait until it has ended, or choose another target.',
    permanent: false,
  });
}

interface LockHolder {
  readonly processId: number;
  readonly name: string;
  readonly isShared: boolean;
  readonly isStillpoint: boolean;
}

/** From the kernel's table, which is for people: null where it does not tell. */
async function findHolder(path: string): Promise<LockHolder | null> {
  const { ino } = await stat(path, { bigint: true });
  const table = await readFile('/proc/locks', 'utf8').catch(() => '');
  for (const line of table.split('\n')) {
    const match = /^\d+: FLOCK +\S+ +(READ|WRITE) +(\d+) [0-9a-f]+:[0-9a-f]+:(\d+) /.exec(line);
    if (match === null || match[3] !== String(ino)) continue;
    const processId = Number(match[2]);
    const words = await readCommandLine(processId);
    const name = await processName(processId);
    return { processId, name, isShared: match[1] === 'READ', isStillpoint: words.some(isStillpoint) };
  }
  return null;
}
