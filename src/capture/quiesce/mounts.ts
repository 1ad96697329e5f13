/**
 * Which mounted file systems are on a device, wholly or in part, also through partitions, device mapper, md,
 * loop devices and files on each other; and in which order to freeze them: the top of a stack before what is
 * below it, because its last writes must still get through.
 */
import { readFile, realpath } from 'node:fs/promises';
import { type BlockStack, readBlockStack } from '../../devices/system/block-stack.js';
import { type Mount, mountShownAt, parseMountinfo, unescapeOctal } from '../../devices/system/mount-table.js';

export interface Filesystem {
  readonly number: string;
  readonly type: string;
  /** A mount through which it can be reached; null: all of its mounts are hidden by others. */
  readonly mount: { readonly id: number; readonly path: string } | null;
  /** One of its mount points, to name it. */
  readonly path: string;
  /** There is nothing to freeze. */
  readonly readOnly: boolean;
}

export interface DeviceFilesystems {
  /** In the order to freeze. */
  readonly filesystems: readonly Filesystem[];
  /** Clauses about what no freeze can hold: swap. */
  readonly notes: readonly string[];
}

export interface MountTexts {
  /** Of /proc/self/mountinfo. */
  readonly mountinfo: string;
  /** Of /proc/swaps. */
  readonly swaps: string;
}

/**
 * @param paths the device or image, and the devices that show the same content (as /dev/nbd0 that a tap is
 * attached as).
 */
export async function findFilesystems(paths: readonly string[]): Promise<DeviceFilesystems> {
  const [mountinfo, swaps] = await Promise.all(
    ['/proc/self/mountinfo', '/proc/swaps'].map((path) => readFile(path, 'utf8').catch(() => '')),
  );
  const real = await Promise.all(paths.map((path) => realpath(path).catch(() => path)));
  return planFreeze(real, { mountinfo: mountinfo ?? '', swaps: swaps ?? '' }, readBlockStack());
}

/** @param paths resolved; those that are no block devices are taken for images. */
export async function planFreeze(
  paths: readonly string[],
  texts: MountTexts,
  stack: BlockStack,
): Promise<DeviceFilesystems> {
  const mounts = parseMountinfo(texts.mountinfo);
  const filesystems = await filesystemsOf(mounts, stack);
  const loops = await stack.loops();
  const seen = new Set<unknown>();
  const ordered: Filesystem[] = [];
  const notes: string[] = [];

  // Depth first: a file system comes after all that stands on it.
  const visitDevice = async (number: string): Promise<void> => {
    if (seen.has(number)) return;
    seen.add(number);
    for (const other of await stack.above(number)) await visitDevice(other);
    const node = await stack.nameOf(number);
    for (const { number: loop, backingFile } of loops) {
      if ((await stack.numberOf(backingFile)) === number) await visitDevice(loop);
    }
    for (const entry of filesystems) if (entry.devices.has(number)) await visitFilesystem(entry);
    if (swaps.some((swap) => swap.number === number)) notes.push(`swap on /dev/${node} goes on`);
  };
  const visitFilesystem = async ({ filesystem, lies }: KnownFilesystem): Promise<void> => {
    if (seen.has(filesystem)) return;
    seen.add(filesystem);
    for (const loop of loops) if (lies(loop.backingFile)) await visitDevice(loop.number);
    for (const { path, number } of swaps) {
      if (number === null && lies(path)) notes.push(`swap in the file ${path} goes on`);
    }
    ordered.push(filesystem);
  };

  const swaps = await Promise.all(
    swapPaths(texts.swaps).map(async (path) => ({ path, number: await stack.numberOf(path) })),
  );
  for (const path of paths) {
    const number = await stack.numberOf(path);
    if (number !== null) await visitDevice(number);
    else for (const loop of loops) if (loop.backingFile === path) await visitDevice(loop.number);
  }
  return { filesystems: ordered, notes };
}

interface KnownFilesystem {
  readonly filesystem: Filesystem;
  /** Numbers of the block devices that it lies on. */
  readonly devices: ReadonlySet<string>;
  /** Whether a path shows a file of it. */
  readonly lies: (path: string) => boolean;
}

/** One for each superblock, however often it is mounted. */
async function filesystemsOf(mounts: readonly Mount[], stack: BlockStack): Promise<KnownFilesystem[]> {
  const members = await stack.btrfsMembers();
  const known: KnownFilesystem[] = [];
  for (const number of new Set(mounts.map((mount) => mount.number))) {
    const own = mounts.filter((mount) => mount.number === number);
    const [first] = own;
    if (first === undefined) continue;
    const devices = new Set([number]);
    if (number.startsWith('0:') && first.source.startsWith('/dev/')) {
      const source = await stack.numberOf(first.source);
      if (source !== null) devices.add(source);
      for (const member of members.find((group) => group.some((one) => one === source)) ?? []) {
        devices.add(member);
      }
    }
    // The whole of it rather than a bind mount, which may be a single file.
    const reachable = own
      .filter((mount) => mountShownAt(mount.mountPoint, mounts) === mount)
      .sort((a, b) => a.root.length - b.root.length)[0];
    known.push({
      devices,
      lies: (path) => mountShownAt(path, mounts)?.number === number,
      filesystem: {
        number,
        type: first.type,
        mount: reachable === undefined ? null : { id: reachable.id, path: reachable.mountPoint },
        path: (reachable ?? first).mountPoint,
        readOnly: own.every((mount) => mount.superReadOnly),
      },
    });
  }
  return known;
}

function swapPaths(text: string): string[] {
  return text
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [path = ''] = line.split(/\s+/);
      return path === '' ? [] : [unescapeOctal(path)];
    });
}

/** The number of the file system that a path lies on. */
export async function filesystemNumberOf(path: string): Promise<string | null> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
  return mountShownAt(await realpath(path), mounts)?.number ?? null;
}

/**
 * The file systems that were named by mount points, in that order.
 * @returns null in place of a path that is not a mount point.
 */
export async function filesystemsAt(paths: readonly string[]): Promise<(Filesystem | null)[]> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
  return Promise.all(
    paths.map(async (path) => {
      const real = await realpath(path).catch(() => path);
      const mount = mountShownAt(real, mounts);
      if (mount === null || mount.mountPoint !== real) return null;
      const { number, type, id, superReadOnly } = mount;
      return { number, type, mount: { id, path: real }, path: real, readOnly: superReadOnly };
    }),
  );
}
