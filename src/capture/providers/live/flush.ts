/** What is dirty in memory and will be written to a device. */
import { findFilesystems } from '../../quiesce/mounts.js';

/** @returns a path on each file system of the device, those on top first. */
export async function filesystemsToFlush(path: string): Promise<string[]> {
  const { filesystems } = await findFilesystems([path]);
  return filesystems.flatMap(({ mount, readOnly }) => (mount === null || readOnly ? [] : [mount.path]));
}
