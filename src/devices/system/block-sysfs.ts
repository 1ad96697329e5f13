/**
 * A block device as the kernel's sysfs shows it: what it is part of, what it consists of, what is stacked on
 * it, how much was written.
 */
import { readdir, readFile, realpath } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface BlockNode {
  /** `8:1` */
  readonly number: string;
  /** Kernel name: `sda1`, `dm-0`. */
  readonly name: string;
  /** Its directory under /sys. */
  readonly directory: string;
}

export interface BlockFamily {
  readonly self: BlockNode;
  /** The whole disk, where self is a partition. */
  readonly disk: BlockNode | null;
  /** Where self is a whole disk. */
  readonly partitions: readonly BlockNode[];
}

/**
 * Trimmed content of a sysfs file; null if there is none (or it can't be read, as
 * attributes of some drivers).
 */
export async function readFact(...path: string[]): Promise<string | null> {
  try {
    const text = (await readFile(join(...path), 'utf8')).trim();
    return text === '' ? null : text;
  } catch {
    return null;
  }
}

export async function listDirectory(...path: string[]): Promise<string[]> {
  try {
    return await readdir(join(...path));
  } catch {
    return [];
  }
}

async function node(directory: string): Promise<BlockNode | null> {
  const number = await readFact(directory, 'dev');
  return number === null ? null : { number, name: basename(directory), directory };
}

export async function childPartitions(directory: string): Promise<BlockNode[]> {
  const partitions: BlockNode[] = [];
  for (const name of await listDirectory(directory)) {
    const child = join(directory, name);
    if ((await readFact(child, 'partition')) === null) continue;
    const found = await node(child);
    if (found !== null) partitions.push(found);
  }
  return partitions;
}

/** Null where sysfs does not know the device. */
export async function readBlockFamily(number: string): Promise<BlockFamily | null> {
  let directory: string;
  try {
    directory = await realpath(`/sys/dev/block/${number}`);
  } catch {
    return null;
  }
  const self = await node(directory);
  if (self === null) return null;
  if ((await readFact(directory, 'partition')) !== null) {
    return { self, disk: await node(dirname(directory)), partitions: [] };
  }
  return { self, disk: null, partitions: await childPartitions(directory) };
}

/** What stands on a device: device-mapper (with its mapping's name), md, bcache. */
export async function readHolders(device: BlockNode): Promise<string[]> {
  const names = await listDirectory(device.directory, 'holders');
  return Promise.all(
    names.map(async (name) => {
      const mapping = await readFact('/sys/class/block', name, 'dm', 'name');
      return mapping === null ? name : `${name} (${mapping})`;
    }),
  );
}

/**
 * Sectors written and discarded; only ever growing while the device is attached. Operations are not counted:
 * a flush is one, also our own. Null where there are no counters.
 */
export async function sectorsChanged(device: BlockNode): Promise<number | null> {
  const fields = (await readFact(device.directory, 'stat'))?.split(/\s+/).map(Number);
  const [written, discarded = 0] = [fields?.[6], fields?.[13]];
  return written === undefined ? null : written + discarded;
}

const IN_FLIGHT_TRIES = 100;
const IN_FLIGHT_PAUSE_MS = 10;

/**
 * Waits for a moment at which no write is in flight to the device or partition, a second at most.
 * @param number `MAJOR:MINOR`
 * @returns false if there was none, or the kernel does not tell.
 */
export async function writesHaveEnded(number: string): Promise<boolean> {
  const family = await readBlockFamily(number);
  if (family === null) return false;
  const queueOwner = family.disk ?? family.self;
  if ((await readFact(queueOwner.directory, 'queue', 'iostats')) === '0') return false;
  for (let tries = 0; tries < IN_FLIGHT_TRIES; tries += 1) {
    const [, writes] = (await readFact(family.self.directory, 'inflight'))?.split(/\s+/) ?? [];
    // Some drivers count first and then tell that it is completed.
    await sleep(IN_FLIGHT_PAUSE_MS);
    if (writes === '0') return true;
  }
  return false;
}

/**
 * A sample of the sectors that a device's content depends on. A partition also changes when somebody writes
 * through the whole disk: such writes are the disk's sectors less those of all its partitions. The counters
 * can't be read at one moment, so that the difference is bounded from both sides: the disk's are read before
 * and after the partitions'.
 */
export interface WriteSample {
  readonly own: number;
  readonly throughDiskMin: number;
  readonly throughDiskMax: number;
}

/** Null where the kernel keeps no counters for the device (`queue/iostats` is 0). */
export async function sampleWrites(family: BlockFamily): Promise<WriteSample | null> {
  const queueOwner = family.disk ?? family.self;
  if ((await readFact(queueOwner.directory, 'queue', 'iostats')) === '0') return null;
  const own = await sectorsChanged(family.self);
  if (own === null) return null;
  if (family.disk === null) return { own, throughDiskMin: 0, throughDiskMax: 0 };
  const before = await sectorsChanged(family.disk);
  let throughPartitions = 0;
  for (const partition of await childPartitions(family.disk.directory)) {
    throughPartitions += (await sectorsChanged(partition)) ?? 0;
  }
  const after = await sectorsChanged(family.disk);
  if (before === null || after === null) return null;
  return { own, throughDiskMin: before - throughPartitions, throughDiskMax: after - throughPartitions };
}

/** True if the device was certainly written to between two samples. */
export function wroteBetween(before: WriteSample, after: WriteSample): boolean {
  return after.own !== before.own || after.throughDiskMin > before.throughDiskMax;
}
