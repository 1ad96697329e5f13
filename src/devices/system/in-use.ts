/**
 * Which programs use a device or an image. A backup minds those that can write; a restore minds all of them.
 * The kernel's exclusive open catches most of them, but says only EBUSY; this names the user and the remedy.
 */

import type { BigIntStats } from 'node:fs';
import { access, readdir, readFile, readlink, stat } from 'node:fs/promises';
import { native } from '../../native/index.js';
import { type BlockNode, listDirectory, readBlockFamily, readFact, readHolders } from './block-sysfs.js';
import { type Mount, parseMountinfo, unescapeOctal } from './mount-table.js';
import { processName } from './processes.js';

export interface DeviceUse {
  /** A clause: "mounted at /srv", "attached as /dev/loop3", "open for writing by qemu (process 123)". */
  readonly how: string;
  /** The user may write. */
  readonly writable: boolean;
  /** The kernel refuses an exclusive open meanwhile. */
  readonly exclusive: boolean;
  /** A sentence. */
  readonly remedy: string;
  /** Where the user is a process. */
  readonly processId?: number;
}

export function deviceNumber(rdev: bigint): string {
  const major = ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & 0xfffff000n);
  const minor = (rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/**
 * @param whom `writers`: of processes that only read some may be left out.
 * @returns empty if nobody is known to use it; those who can write first.
 */
export async function findUses(path: string, whom: 'writers' | 'all'): Promise<DeviceUse[]> {
  const status = await stat(path, { bigint: true });
  await requireKernelViews();
  const uses = status.isBlockDevice() ? await blockDeviceUses(status) : await imageUses(path, status, whom);
  return uses.sort((a, b) => Number(b.writable) - Number(a.writable));
}

/**
 * Where they are not mounted, nobody would seem to use anything. @throws the system's error, with the path
 */
async function requireKernelViews(): Promise<void> {
  await access('/proc/self/mountinfo');
  await access('/sys/class');
}

async function blockDeviceUses(status: BigIntStats): Promise<DeviceUse[]> {
  const family = await readBlockFamily(deviceNumber(status.rdev));
  const nodes =
    family === null ? [] : [family.self, ...family.partitions, ...(family.disk ? [family.disk] : [])];
  const numbers = new Set([deviceNumber(status.rdev), ...nodes.map((node) => node.number)]);
  const uses = [
    ...(await mountsOf(numbers)),
    ...(await swapsOn((other) => numbers.has(deviceNumber(other.rdev)))),
  ];
  for (const node of nodes) uses.push(...(await holdersOf(node)));
  uses.push(...(await loopsOver((other) => other.isBlockDevice() && numbers.has(deviceNumber(other.rdev)))));
  uses.push(
    ...(await processesWith((other) => other.isBlockDevice() && numbers.has(deviceNumber(other.rdev)))),
  );
  return uses;
}

async function imageUses(path: string, status: BigIntStats, whom: 'writers' | 'all'): Promise<DeviceUse[]> {
  const same = (other: BigIntStats) => other.dev === status.dev && other.ino === status.ino;
  const uses = [...(await loopsOver(same)), ...(await swapsOn(same))];
  const hasWriter = isOpenForWriting(path);
  // The kernel knows whether there is a writer; who it is takes a walk through all processes.
  if (whom === 'all' || hasWriter !== false) uses.push(...(await processesWith(same)));
  if (hasWriter === true && !uses.some((use) => use.writable)) {
    uses.push({
      how: 'open for writing',
      writable: true,
      exclusive: false,
      remedy: 'Stop what writes to it.',
    });
  }
  return uses;
}

/** Null where the kernel can't tell: on file systems without leases. */
export function isOpenForWriting(path: string): boolean | null {
  try {
    return native.isOpenForWriting(path);
  } catch {
    return null;
  }
}

async function mountsOf(numbers: ReadonlySet<string>): Promise<DeviceUse[]> {
  const uses: DeviceUse[] = [];
  for (const mount of parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'))) {
    if (!numbers.has(mount.number) && !(await isSource(mount, numbers))) continue;
    uses.push({
      how: `${mount.superReadOnly ? 'mounted read-only' : 'mounted'} at ${mount.mountPoint}`,
      writable: !mount.superReadOnly,
      exclusive: true,
      remedy: `Unmount it first: umount ${mount.mountPoint}`,
    });
  }
  return uses;
}

/** btrfs shows a device number of its own: there the source tells. */
async function isSource(mount: Mount, numbers: ReadonlySet<string>): Promise<boolean> {
  if (!mount.number.startsWith('0:') || !mount.source.startsWith('/dev/')) return false;
  const status = await tryStat(mount.source);
  return status?.isBlockDevice() === true && numbers.has(deviceNumber(status.rdev));
}

async function swapsOn(same: (status: BigIntStats) => boolean): Promise<DeviceUse[]> {
  const uses: DeviceUse[] = [];
  const table = await readFact('/proc/swaps');
  for (const line of table?.split('\n').slice(1) ?? []) {
    const path = unescapeOctal(line.split(/\s+/)[0] ?? '');
    const status = await tryStat(path);
    if (status === null || !same(status)) continue;
    uses.push({
      how: 'used as swap',
      writable: true,
      exclusive: true,
      remedy: `Turn it off first: swapoff ${path}`,
    });
  }
  return uses;
}

async function holdersOf(node: BlockNode): Promise<DeviceUse[]> {
  return (await readHolders(node)).map((holder) => ({
    how: `held by ${holder}`,
    writable: true,
    exclusive: true,
    remedy: `Stop ${holder} first, or name the device that is on top.`,
  }));
}

async function loopsOver(same: (status: BigIntStats) => boolean): Promise<DeviceUse[]> {
  const uses: DeviceUse[] = [];
  for (const name of await listDirectory('/sys/block')) {
    if (!name.startsWith('loop')) continue;
    const backing = await readFact('/sys/block', name, 'loop', 'backing_file');
    const status = backing === null ? null : await tryStat(backing);
    if (status === null || !same(status)) continue;
    const writable = (await readFact('/sys/block', name, 'ro')) !== '1';
    uses.push({
      how: `attached ${writable ? '' : 'read-only '}as /dev/${name}`,
      writable,
      exclusive: false,
      remedy: `Detach it first: losetup --detach /dev/${name}`,
    });
  }
  return uses;
}

const ACCESS_MODE = 0o3;

/** Processes that have the file open; as another user than root only one's own are visible. */
async function processesWith(same: (status: BigIntStats) => boolean): Promise<DeviceUse[]> {
  const uses: DeviceUse[] = [];
  for (const processId of await readdir('/proc')) {
    if (!/^\d+$/.test(processId)) continue;
    const descriptors = await listDirectory('/proc', processId, 'fd');
    const modes = await Promise.all(
      descriptors.map(async (descriptor) => {
        const link = `/proc/${processId}/fd/${descriptor}`;
        const target = await readlink(link).catch(() => '');
        if (!target.startsWith('/')) return null;
        const status = await tryStat(link);
        if (status === null || !same(status)) return null;
        const flags = /^flags:\s*([0-7]+)/m.exec(
          (await readFact('/proc', processId, 'fdinfo', descriptor)) ?? '',
        )?.[1];
        return flags === undefined ? null : (Number.parseInt(flags, 8) & ACCESS_MODE) !== 0;
      }),
    );
    const open = modes.filter((mode) => mode !== null);
    if (open.length === 0) continue;
    const writable = open.includes(true);
    const name = await processName(processId);
    uses.push({
      how: `open for ${writable ? 'writing' : 'reading'} by ${name} (process ${processId})`,
      writable,
      exclusive: false,
      remedy: `Stop ${name} first.`,
      processId: Number(processId),
    });
  }
  return uses;
}

async function tryStat(path: string): Promise<BigIntStats | null> {
  return stat(path, { bigint: true }).catch(() => null);
}
