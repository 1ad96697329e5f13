/**
 * Finds targets that can't be written to before anything is tried on them, with the reason that the kernel
 * does not give.
 */
import { constants, type Stats } from 'node:fs';
import { open, readFile, realpath, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { readBlockFamily, readFact } from './block-sysfs.js';
import { deviceNumber } from './in-use.js';
import { mountShownAt, parseMountinfo } from './mount-table.js';

/** @param path of a block device or an image. @throws StillpointError `device-io` */
export async function refuseReadOnly(path: string, status: Stats): Promise<void> {
  if (status.isBlockDevice()) return refuseReadOnlyDevice(path);
  await (
    await open(path, constants.O_RDWR | constants.O_NONBLOCK).catch((error) => explain(path, error))
  ).close();
}

async function refuseReadOnlyDevice(path: string): Promise<void> {
  const family = await readBlockFamily(deviceNumber((await stat(path, { bigint: true })).rdev));
  if (family === null) return;
  for (const node of [family.self, ...(family.disk === null ? [] : [family.disk])]) {
    if ((await readFact(node.directory, 'ro')) !== '1') continue;
    const isLoop = (await readFact(node.directory, 'loop', 'backing_file')) !== null;
    const device = `/dev/${node.name}`;
    throw new StillpointError('device-io', {
      thing: path,
      reason: node === family.self ? 'it is read-only' : `its disk ${device} is read-only`,
      remedy: isLoop
        ? `Attach its file again without --read-only: losetup --detach ${device}`
        : `Remove the write protection: a switch on the medium, or blockdev --setrw ${device}`,
    });
  }
}

/**
 * @param path that could not be opened for writing, or in whose directory no file could be made
 * @throws StillpointError `device-io` with the mount, where the file system is read-only; else the error
 * itself
 */
export async function explain(path: string, error: NodeJS.ErrnoException): Promise<never> {
  if (error.code === 'EROFS') throw await readOnlyMount(path, error);
  throw error;
}

async function readOnlyMount(path: string, cause: Error): Promise<StillpointError> {
  const there = await realpath(path).catch(() => realpath(dirname(path)));
  const mount = mountShownAt(there, parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8')));
  const where = mount === null ? '' : `, mounted at ${mount.mountPoint}`;
  return new StillpointError('device-io', {
    thing: path,
    reason: `its file system is read-only${where}`,
    remedy:
      mount === null
        ? 'Choose a target elsewhere.'
        : `Choose a target elsewhere, or make it writable: mount -o remount,rw ${mount.mountPoint}`,
    cause,
  });
}
