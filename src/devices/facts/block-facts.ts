/**
 * The facts of a block device that src/domain/device/instant-proof.ts judges: its own counter of writes, and,
 * for each device or file below it, the writes that bypassed the devices above: for the whole disk of a
 * partition, the disks of a logical volume or an array, the file of a loop device, and so on down.
 */
import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  type BelowFacts,
  type BlockFacts,
  type SourcePresence,
  writtenPast,
} from '../../domain/device/instant-proof.js';
import { syncFile } from '../../native/files.js';
import {
  type BlockFamily,
  type BlockNode,
  childPartitions,
  listDirectory,
  readBlockFamily,
  readFact,
  sectorsChanged,
} from '../system/block-sysfs.js';
import { deviceNumber } from '../system/in-use.js';
import { readSharedKind } from '../system/shared-devices.js';
import { doubtfulBelowLoop, fileKey, fileTimes, waitForTick } from './honest-times.js';

const execute = promisify(execFile);
const LOSETUP_TIMEOUT_MS = 5_000;
/** How often counters are read until nobody writes meanwhile. */
const SAMPLE_TRIES = 20;
const SAMPLE_PAUSE_MS = 10;
const SECTOR_BYTES = 512;

export interface BlockState {
  readonly facts: BlockFacts;
  /** Null: the kernel has none, so that another disk may get the same number unnoticed. */
  readonly diskSequence: string | null;
  /** It consists of other devices. */
  readonly isStacked: boolean;
  /** Files below it, whose pages this host caches. */
  readonly filesBelow: readonly string[];
}

/** @returns null: the kernel does not know it. */
export async function readBlockPresence(number: string): Promise<SourcePresence | null> {
  const family = await readBlockFamily(number);
  return family === null ? null : presenceOf(family, await readDiskSequence(family));
}

async function readDiskSequence({ self, disk }: BlockFamily): Promise<string | null> {
  return readFact((disk ?? self).directory, 'diskseq');
}

async function presenceOf({ self }: BlockFamily, diskSequence: string | null): Promise<SourcePresence> {
  const sectors = Number((await readFact(self.directory, 'size')) ?? 0);
  return { key: `${self.number}:${diskSequence ?? '-'}`, sizeBytes: sectors * SECTOR_BYTES };
}

/**
 * From when it resolves on, what is written shows in the next facts. Dirty pages of the devices
 * below are written first.
 * @param number `MAJOR:MINOR` @returns null: the kernel does not know it.
 */
export async function readBlockState(number: string): Promise<BlockState | null> {
  const family = await readBlockFamily(number);
  if (family === null) return null;
  const { self } = family;
  const found = new Below();
  await found.addUnder(family);
  const diskSequence = await readDiskSequence(family);
  return {
    facts: {
      ...(await presenceOf(family, diskSequence)),
      written: (await isCounted(family)) ? await sectorsChanged(self) : null,
      doubt: found.doubt,
      below: found.facts,
    },
    diskSequence,
    isStacked: found.isStacked,
    filesBelow: found.files,
  };
}

class Below {
  readonly facts: BelowFacts[] = [];
  readonly files: string[] = [];
  doubt: string | null = null;
  isStacked = false;
  readonly #seen = new Set<string>();

  /** All that the device lies on. */
  async addUnder({ self, disk }: BlockFamily): Promise<void> {
    if (disk !== null) return this.#add(disk.number, []);
    const kind = await readSharedKind(self);
    if (kind !== null) this.doubt ??= `others can write to it past this machine: ${nameOf(self)} is ${kind}`;
    for (const name of await listDirectory(self.directory, 'slaves')) {
      this.isStacked = true;
      const number = await readFact('/sys/class/block', name, 'dev');
      if (number !== null) await this.#add(number, []);
    }
    const backing = await readFact(self.directory, 'loop', 'backing_file');
    if (backing !== null) await this.#addBacking(self, backing);
  }

  /** @param above what lies on it beside its partitions and holders */
  async #add(number: string, above: readonly BlockNode[]): Promise<void> {
    if (this.#seen.has(number)) return;
    this.#seen.add(number);
    const family = await readBlockFamily(number);
    if (family === null) return;
    // What is dirty in its own page cache is written to it past what lies on it, sooner or later.
    await syncFile(nameOf(family.self)).catch(() => undefined);
    const past = (await isCounted(family)) ? await samplePast(family.self, above) : null;
    this.facts.push({ name: nameOf(family.self), past: past === null ? null : String(past) });
    await this.addUnder(family);
  }

  async #addBacking(loop: BlockNode, path: string): Promise<void> {
    const status = await stat(path, { bigint: true }).catch(() => null);
    if (status === null || !(await isBacking(loop, status.dev, status.ino))) {
      this.doubt ??= `the file of ${nameOf(loop)} can't be seen: it was deleted, or belongs to another container`;
      return;
    }
    if (status.isBlockDevice()) {
      this.isStacked = true;
      return this.#add(deviceNumber(status.rdev), [loop]);
    }
    this.files.push(path);
    const fileSystem = await doubtfulBelowLoop(path);
    if (fileSystem !== null) {
      this.doubt ??= `the times of the file of ${nameOf(loop)} can't be trusted: it lies on ${fileSystem}`;
      return;
    }
    await waitForTick(path);
    const now = await stat(path, { bigint: true });
    this.facts.push({ name: path, past: `${fileKey(now)}:${now.size}:${fileTimes(now)}` });
  }
}

/** The kernel's path of it may name another file here, where it was attached in another mount namespace. */
async function isBacking(loop: BlockNode, device: bigint, inode: bigint): Promise<boolean> {
  const columns = ['--noheadings', '--output', 'BACK-MAJ:MIN,BACK-INO'];
  const { stdout } = await execute('losetup', ['--list', ...columns, nameOf(loop)], {
    timeout: LOSETUP_TIMEOUT_MS,
  }).catch(() => ({ stdout: '' }));
  return stdout.trim().replace(/\s+/, ' ') === `${deviceNumber(device)} ${inode}`;
}

async function isCounted({ self, disk }: BlockFamily): Promise<boolean> {
  return (await readFact((disk ?? self).directory, 'queue', 'iostats')) !== '0';
}

async function samplePast(node: BlockNode, above: readonly BlockNode[]): Promise<number | null> {
  const holders = await Promise.all(
    (await listDirectory(node.directory, 'holders')).map((name) => nodeOf(name)),
  );
  for (let tries = 0; tries < SAMPLE_TRIES; tries += 1) {
    const before = await sectorsChanged(node);
    const nodes = [...(await childPartitions(node.directory)), ...holders, ...above];
    const sectors = await Promise.all(
      nodes.map((upper) => (upper === null ? Promise.resolve(null) : sectorsChanged(upper))),
    );
    const past = writtenPast(before, sectors, await sectorsChanged(node));
    if (past !== null) return past;
    await sleep(SAMPLE_PAUSE_MS);
  }
  return null;
}

async function nodeOf(name: string): Promise<BlockNode | null> {
  const number = await readFact('/sys/class/block', name, 'dev');
  return number === null ? null : ((await readBlockFamily(number))?.self ?? null);
}

/** `cciss!c0d0` is `/dev/cciss/c0d0`. */
const nameOf = ({ name }: BlockNode): string => `/dev/${name.replaceAll('!', '/')}`;
