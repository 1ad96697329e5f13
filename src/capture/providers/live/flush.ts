/** What is dirty in memory and will be written to a device. */
import { open } from 'node:fs/promises';
import { deviceNumber } from '../../../devices/system/in-use.js';
import { native } from '../../../native/index.js';
import { findFilesystems } from '../../quiesce/mounts.js';

/** @returns a path on each file system of the device, those on top first. */
export async function filesystemsToFlush(path: string): Promise<string[]> {
  const { filesystems } = await findFilesystems([path]);
  return filesystems.flatMap(({ mount, readOnly }) => (mount === null || readOnly ? [] : [mount.path]));
}

/** @returns false if something else is mounted there by now. */
export async function flushMounted(number: string, mountPoint: string): Promise<boolean> {
  const root = await open(mountPoint, 'r');
  try {
    const { dev } = await root.stat({ bigint: true });
    if (deviceNumber(dev) !== number) return false;
    await native.syncFilesystem(`/proc/self/fd/${root.fd}`);
    return true;
  } finally {
    await root.close();
  }
}
