/** What the kernel's sysfs knows about block devices on top of others. Numbers are `MAJOR:MINOR`. */
import type { BigIntStats } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { listDirectory, readFact } from './block-sysfs.js';
import { deviceNumber } from './in-use.js';

export interface LoopDevice {
  readonly number: string;
  /** As the kernel names it; ` (deleted)` behind it if so. */
  readonly backingFile: string;
}

export interface BlockStack {
  /** Kernel name, `sda1`; the number where it has none. */
  nameOf(number: string): Promise<string>;
  /** Partitions of the device, and what holds it: device mapper (LVM, crypt, multipath), md, bcache. */
  above(number: string): Promise<readonly string[]>;
  loops(): Promise<readonly LoopDevice[]>;
  /** The devices of each btrfs file system: its mounts name only one of them. */
  btrfsMembers(): Promise<readonly (readonly string[])[]>;
  /** Of a block device's path; null if there is no such. */
  numberOf(path: string): Promise<string | null>;
}

/** @param root of sysfs. */
export function readBlockStack(root = '/sys'): BlockStack {
  const directoryOf = (number: string): Promise<string | null> =>
    realpath(join(root, 'dev/block', number)).catch(() => null);
  return {
    nameOf: async (number) => (await directoryOf(number))?.split('/').at(-1) ?? number,
    above: async (number) => {
      const directory = await directoryOf(number);
      if (directory === null) return [];
      const found: string[] = [];
      for (const entry of await listDirectory(directory)) {
        if ((await readFact(directory, entry, 'partition')) === null) continue;
        found.push(...(await numbers(join(directory, entry))));
      }
      for (const entry of await listDirectory(directory, 'holders')) {
        found.push(...(await numbers(join(directory, 'holders', entry))));
      }
      return found;
    },
    loops: async () => {
      const found: LoopDevice[] = [];
      for (const entry of await listDirectory(root, 'block')) {
        const backingFile = await readFact(root, 'block', entry, 'loop/backing_file');
        const [number] = await numbers(join(root, 'block', entry));
        if (backingFile !== null && number !== undefined) found.push({ number, backingFile });
      }
      return found;
    },
    btrfsMembers: async () => {
      const found: string[][] = [];
      for (const uuid of await listDirectory(root, 'fs/btrfs')) {
        const members: string[] = [];
        for (const entry of await listDirectory(root, 'fs/btrfs', uuid, 'devices')) {
          members.push(...(await numbers(join(root, 'fs/btrfs', uuid, 'devices', entry))));
        }
        if (members.length > 0) found.push(members);
      }
      return found;
    },
    numberOf: async (path) => {
      const status = await stat(path, { bigint: true }).catch(() => null);
      return status?.isBlockDevice() === true ? deviceNumber(status.rdev) : null;
    },
  };
}

/** None or one. */
async function numbers(directory: string): Promise<string[]> {
  const number = await readFact(directory, 'dev');
  return number === null ? [] : [number];
}

/**
 * Paths of the loop devices over a block device or a file, under whatever name that was attached.
 */
export async function loopsOver(status: BigIntStats): Promise<string[]> {
  const stack = readBlockStack();
  const found: string[] = [];
  for (const { number, backingFile } of await stack.loops()) {
    const backing = await stat(backingFile, { bigint: true }).catch(() => null);
    if (backing === null) continue;
    const isSame = status.isBlockDevice()
      ? backing.isBlockDevice() && backing.rdev === status.rdev
      : backing.dev === status.dev && backing.ino === status.ino;
    if (isSame) found.push(`/dev/${await stack.nameOf(number)}`);
  }
  return found;
}
