/** Loop devices that are backed up while they are written to, by the command line, in this process. */
import { type ChildProcess, spawn } from 'node:child_process';
import { open, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { native } from '../../../src/native/index.js';
import { attachTracker } from '../../../src/native/testing.js';
import { findTrackPlace, type TrackPlace } from '../../../src/track/place.js';
import { newRecord, writeRecord } from '../../../src/track/record.js';
import { checkTracking } from '../../../src/track/tracked.js';
import { sizeOf } from '../disks/images.js';
import { attachLoop, run } from '../disks/loop-device.js';
import { attachPartitioned } from '../disks/partition-table.js';
import {
  IN_MEMORY,
  lastResult,
  type Machine,
  makeMachine,
  type Outcome,
  outcome,
  runHere,
} from '../machines/stillpoint.js';
import type { Requirement } from '../requirements.js';

/** Null if this kernel tells this user what is written, else the reason for skipping. */
export const whyNoTracking: string | null = await checkTracking('it').then(
  () => null,
  (error: unknown) => (error instanceof StillpointError ? error.reason : String(error)),
);

export const LIVE_REQUIREMENTS: readonly Requirement[] = ['root', 'loop', { missing: whyNoTracking }];

const SECTOR_BYTES = 512;
const GRAIN_BYTES = 4 * KiB;

/** Removes the device's tracker when the test ends, whatever became of it. */
export async function untrackAtEnd(t: ExecutionContext, path: string): Promise<TrackPlace> {
  const place = await findTrackPlace(path);
  // Of a device that had its number before.
  await native.detachTracker(place.directory);
  t.teardown(() => native.detachTracker(place.directory));
  return place;
}

/** Part of a disk, or all of it: what is backed up. */
export interface LiveDisk {
  /** `/dev/loop0`, or a partition of it. */
  readonly device: string;
  readonly disk: string;
  readonly image: string;
  /** In the image. */
  readonly beginByte: number;
  readonly sizeBytes: number;
  readonly place: TrackPlace;
}

export interface LiveDiskOptions {
  readonly sizeBytes: number;
  /** In sectors: where it begins and how long it is. Without: the whole disk. */
  readonly partition?: { readonly start: number; readonly length: number } | undefined;
  readonly image?: string;
}

export async function liveDisk(
  t: ExecutionContext,
  machine: Machine,
  options: LiveDiskOptions,
): Promise<LiveDisk> {
  const image = options.image ?? join(machine.directory, 'disk.img');
  if (options.image === undefined) {
    await writeFile(image, '');
    await truncate(image, options.sizeBytes);
  }
  const { partition } = options;
  const disk =
    partition === undefined
      ? attachLoop(t, image)
      : await attachPartitioned(t, image, 0x11223344, [partition]);
  const device = partition === undefined ? disk : `${disk}p1`;
  if (partition !== undefined) await untrackAtEnd(t, disk);
  return {
    ...{ device, disk, image, place: await untrackAtEnd(t, device) },
    beginByte: (partition?.start ?? 0) * SECTOR_BYTES,
    sizeBytes: (partition?.length ?? options.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES,
  };
}

/** A tracker as the product attaches it; `isWrong`: it marks a write as done when it is submitted. */
export async function trackNow(place: TrackPlace, isWrong: boolean): Promise<void> {
  const target = { ...place.target, grainBytes: GRAIN_BYTES, marksDoneWhenQueued: isWrong };
  const tracker = await attachTracker(place.directory, target);
  writeRecord(tracker, newRecord(place, tracker, new Date()));
  await tracker.close();
}

export interface LiveResult {
  readonly point: Point;
  readonly tracking: { readonly used: boolean; readonly reason: string };
  readonly warnings: readonly string[];
}

export const NAME = 'd';

export class LiveWorld {
  readonly machine: Machine;
  readonly disk: LiveDisk;

  private constructor(machine: Machine, disk: LiveDisk) {
    this.machine = machine;
    this.disk = disk;
  }

  static async make(t: ExecutionContext, options: LiveDiskOptions, parent = IN_MEMORY): Promise<LiveWorld> {
    const machine = await makeMachine(t, 'live', parent);
    return new LiveWorld(machine, await liveDisk(t, machine, options));
  }

  /** A device that is there already, all of it. */
  static async on(t: ExecutionContext, machine: Machine, device: string): Promise<LiveWorld> {
    const sizeBytes = sizeOf(device);
    const place = await untrackAtEnd(t, device);
    return new LiveWorld(machine, { device, disk: device, image: device, beginByte: 0, sizeBytes, place });
  }

  at(name: string): string {
    return join(this.machine.directory, name);
  }

  get backupArgs(): string[] {
    return ['backup', this.disk.device, '--name', NAME, '--store', this.at('store'), '--json'];
  }

  tryBackup(...args: string[]): Promise<Outcome> {
    return runHere(this.machine, ...this.backupArgs, ...args);
  }

  async backup(t: ExecutionContext, ...args: string[]): Promise<LiveResult> {
    const result = await this.tryBackup(...args);
    if (result.code !== 0)
      t.fail(`backup ${args.join(' ')}: ${result.code}\n${result.stdout}${result.stderr}`);
    return lastResult<LiveResult>(result.stdout);
  }

  /** @returns where the restored image lies. */
  async restored(t: ExecutionContext, sequence: number): Promise<string> {
    const target = this.at('restored');
    await rm(target, { force: true });
    const args = ['restore', `${NAME}@${sequence}`, target, '--store', this.at('store'), '--json'];
    const result = await runHere(this.machine, ...args);
    if (result.code !== 0) t.fail(`${result.stdout}${result.stderr}`);
    return target;
  }

  /**
   * The device has to be at rest, and what was written to it on it.
   * @returns where it differs from the point, in blocks of 4 KiB.
   */
  async missing(t: ExecutionContext, sequence: number): Promise<number[]> {
    const restored = await this.restored(t, sequence);
    return differingBlocks(this.disk.image, this.disk.beginByte, restored, this.disk.sizeBytes);
  }

  /** Backs up with marks, and compares. @returns the point */
  async backupAndCompare(t: ExecutionContext, label: string, ...args: string[]): Promise<LiveResult> {
    const result = await this.backup(t, ...args);
    const missing = await this.missing(t, result.point.sequence);
    t.deepEqual(missing.slice(0, 10), [], `${label}: ${missing.length} blocks are missing`);
    return result;
  }
}

const CHUNK_BYTES = 1 * MiB;
export const COMPARED_BYTES = 4 * KiB;

/** Of the image's bytes from `beginByte` on, and all of the other. */
export async function differingBlocks(
  image: string,
  beginByte: number,
  other: string,
  sizeBytes: number,
): Promise<number[]> {
  const [one, two] = [await open(image), await open(other)];
  const found: number[] = [];
  try {
    if ((await two.stat()).size !== sizeBytes) throw new Error(`${other}: not ${sizeBytes} bytes`);
    const [a, b] = [Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)];
    for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, sizeBytes - at);
      await one.read(a, 0, length, beginByte + at);
      await two.read(b, 0, length, at);
      if (a.subarray(0, length).equals(b.subarray(0, length))) continue;
      for (let from = 0; from < length; from += COMPARED_BYTES) {
        const to = Math.min(from + COMPARED_BYTES, length);
        if (!a.subarray(from, to).equals(b.subarray(from, to))) found.push((at + from) / COMPARED_BYTES);
      }
    }
    return found;
  } finally {
    await one.close();
    await two.close();
  }
}

export interface WriterOptions {
  readonly seed: number;
  readonly threads: number;
  readonly operations?: number;
  readonly pauseMs?: number;
  readonly nodes?: readonly { readonly path: string; readonly sizeBytes: number }[];
  readonly directory?: string;
  readonly fileBytesMax?: number;
  readonly whole?: boolean;
  readonly sectorBytes?: number;
  readonly image?: string;
  readonly durationMs?: number;
  readonly file?: string;
  readonly blocks?: number;
  readonly strideBytes?: number;
}

const WRITER = fileURLToPath(new URL('../../../../../test/helpers/live/writer.py', import.meta.url));

/** Of the distribution: another interpreter that comes first in PATH may take long to start. */
const PATH = `/usr/bin:/usr/sbin:${process.env.PATH ?? ''}`;

export interface Writer {
  /** What it printed. Rejects if it failed. */
  readonly ended: Promise<string>;
  readonly process: ChildProcess;
  isOver(): boolean;
  kill(): Promise<void>;
}

/** Starts writing (writer.py). */
export function startWriting(t: ExecutionContext, options: WriterOptions): Writer {
  const child = spawn('python3', [WRITER, JSON.stringify({ whole: false, ...options })], {
    env: { ...process.env, PATH },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = outcome(child).then(({ code, signal, stdout, stderr }) => {
    if (code !== 0) throw new Error(`writer: ${code ?? signal}\n${stderr}`);
    return stdout;
  });
  ended.catch(() => undefined);
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL');
    await ended.catch(() => undefined);
  };
  return { ended, process: child, kill, isOver: () => child.exitCode !== null || child.signalCode !== null };
}

/** All that was written through any of the nodes is on the device. */
export function flushNodes(...nodes: string[]): void {
  for (const node of nodes) run('blockdev', '--flushbufs', node);
}
