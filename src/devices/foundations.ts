/** What a directory finally lies on: the block devices and images under its file system, down to the disks. */
import { readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { listDirectory, readBlockFamily, readFact } from './block-sysfs.js';
import { deviceNumber } from './in-use.js';
import { parseMountinfo } from './mount-table.js';

/** `block 8:1` for a block device, `image 2049/77` (device and inode number) for a file under a loop device. */
export type FoundationKey = string;

/** @param path of an existing file or directory. */
export async function foundationsOf(path: string): Promise<ReadonlySet<FoundationKey>> {
  const found = new Set<FoundationKey>();
  await addMountOf(await realpath(path), found);
  return found;
}

async function addMountOf(path: string, found: Set<FoundationKey>): Promise<void> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
  // Later mounts cover earlier ones of the same place.
  const covering = mounts
    .filter(({ mountPoint }) => path === mountPoint || path.startsWith(join(mountPoint, '/')))
    .reduce((longest, mount) => (mount.mountPoint.length >= longest.length ? mount.mountPoint : longest), '');
  const source = mounts.findLast(({ mountPoint }) => mountPoint === covering)?.source ?? '';
  if (!source.startsWith('/dev/')) return;
  const status = await stat(source, { bigint: true }).catch(() => null);
  if (status?.isBlockDevice() === true) await addDevice(deviceNumber(status.rdev), found);
}

async function addDevice(number: string, found: Set<FoundationKey>): Promise<void> {
  const key = `block ${number}`;
  if (found.has(key)) return;
  found.add(key);
  const family = await readBlockFamily(number);
  if (family === null) return;
  if (family.disk !== null) await addDevice(family.disk.number, found);
  const { directory } = family.self;
  for (const name of await listDirectory(directory, 'slaves')) {
    const below = await readFact('/sys/class/block', name, 'dev');
    if (below !== null) await addDevice(below, found);
  }
  const backing = await readFact(directory, 'loop', 'backing_file');
  const status = backing === null ? null : await stat(backing, { bigint: true }).catch(() => null);
  if (backing === null || status === null) return;
  if (status.isBlockDevice()) return addDevice(deviceNumber(status.rdev), found);
  found.add(`image ${status.dev}/${status.ino}`);
  await addMountOf(dirname(await realpath(backing)), found);
}
