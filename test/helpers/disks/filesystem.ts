/**
 * Real file systems on real devices: made, filled, changed, checked, and listed so that two
 * of them can be compared.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '../../../src/domain/base/limits.js';
import { run } from './loop-device.js';

export const FILESYSTEMS = ['ext4', 'xfs', 'btrfs'] as const;
export type Filesystem = (typeof FILESYSTEMS)[number];

/** Smallest comfortable device. mkfs.xfs refuses less than 300 MiB. */
export const FILESYSTEM_BYTES: Readonly<Record<Filesystem, number>> = {
  ext4: 48 * MiB,
  xfs: 304 * MiB,
  btrfs: 128 * MiB,
};

/** Programs that a test of this file system needs. */
export const FILESYSTEM_PROGRAMS: Readonly<Record<Filesystem, readonly string[]>> = {
  ext4: ['mkfs.ext4', 'e2fsck'],
  xfs: ['mkfs.xfs', 'xfs_repair'],
  btrfs: ['mkfs.btrfs', 'btrfs'],
};

export function makeFilesystem(filesystem: Filesystem, device: string): void {
  run(`mkfs.${filesystem}`, '-q', filesystem === 'ext4' ? '-F' : '-f', device);
}

/** @throws if the checker, which changes nothing, finds an error. */
export function checkFilesystem(filesystem: Filesystem, device: string): void {
  if (filesystem === 'ext4') run('e2fsck', '-f', '-n', device);
  else if (filesystem === 'xfs') run('xfs_repair', '-n', device);
  else run('btrfs', 'check', '--readonly', device);
}

/** Random, repeating, sparse, small, many and linked files. */
export async function fillTree(root: string): Promise<void> {
  const directory = join(root, 'tree');
  await mkdir(join(directory, 'small', 'deeper'), { recursive: true });
  await writeFile(join(directory, 'random'), randomBytes(6 * MiB));
  await writeFile(join(directory, 'repeating'), Buffer.alloc(3 * MiB, 'all work and no play '));
  await writeFile(join(directory, 'sparse'), 'start');
  await truncate(join(directory, 'sparse'), 9 * MiB);
  await symlink('random', join(directory, 'link'));
  for (let index = 0; index < 200; index += 1) {
    await writeFile(join(directory, 'small', 'deeper', `file-${index}`), randomBytes(1 + index * 37));
  }
}

/** Overwrites in place, appends, renames, deletes and adds. */
export async function changeTree(root: string): Promise<void> {
  const directory = join(root, 'tree');
  const random = await open(join(directory, 'random'), 'r+');
  try {
    for (const byteOffset of [17, 1_000_003, 4_000_037]) {
      await random.write(randomBytes(5000), 0, undefined, byteOffset);
    }
  } finally {
    await random.close();
  }
  await writeFile(join(directory, 'repeating'), 'and an end', { flag: 'a' });
  await rename(join(directory, 'small', 'deeper', 'file-7'), join(directory, 'small', 'renamed'));
  for (let index = 20; index < 60; index += 1) await rm(join(directory, 'small', 'deeper', `file-${index}`));
  await writeFile(join(directory, 'added'), randomBytes(MiB + 1));
}

/**
 * Names, types, modes, owners, sizes, link targets and content digests of all that is below the directory.
 */
export function listTree(root: string): string {
  return run(
    'sh',
    '-c',
    `cd "$1" && find tree -printf '%P|%y|%m|%U:%G|%s|%l\\n' | LC_ALL=C sort && find tree -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum`,
    'sh',
    root,
  );
}
