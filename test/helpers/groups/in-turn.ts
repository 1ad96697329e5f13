/** Sides that a program writes to in turn, each write after the answer to the one before. */
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { GroupMember } from '../../../src/agent/group/options.js';
import { startProcess, stopTap } from '../../../src/tap/launch.js';
import { addTap } from '../../../src/tap/registry/registry.js';
import { makeFilesystem } from '../disks/filesystem.js';
import { unfreeze } from '../disks/freezable.js';
import { attachLoop, detachLoop, mount } from '../disks/loop-device.js';
import { NbdWriter } from '../disks/nbd-writer.js';
import { untrackAtEnd } from '../live/world.js';
import { COMMAND } from '../machines/stillpoint.js';
import { settingsFor } from '../worlds/taps.js';

const SLOT_BYTES = 4096;
const FAST_NUMBERS = 1_000;

/** One of those that are written to in turn. */
export interface Side {
  readonly member: GroupMember;
  /** Resolves when it is answered, and durable if that is what an answer means. */
  readonly write: (n: number) => Promise<void>;
  /** All numbers that an image of it has, ascending. */
  readonly numbersIn: (image: string) => Promise<number[]>;
}

export async function emptyImage(path: string, sizeBytes: number): Promise<string> {
  await writeFile(path, '');
  await truncate(path, sizeBytes);
  return path;
}

async function numbersOf(path: string): Promise<number[]> {
  const bytes = await readFile(path);
  const numbers: number[] = [];
  for (let at = 0; at < bytes.length; at += SLOT_BYTES) if (bytes[at] === 1) numbers.push(at / SLOT_BYTES);
  return numbers;
}

export interface TappedImage {
  readonly image: string;
  readonly client: NbdWriter;
  /** That serves it. */
  readonly processId: number;
}

/** In a process of its own, which outlives agents. @param directory also the state directory */
export async function tapImage(
  t: ExecutionContext,
  directory: string,
  name: string,
  sizeBytes: number,
): Promise<TappedImage> {
  const image = await emptyImage(join(directory, `${name}.img`), sizeBytes);
  const tap = await addTap(directory, settingsFor({ directory, image }, { name }));
  const serve = ['tap', 'serve', name, '--state', directory, '--json'];
  const { processId } = await startProcess(tap, [process.execPath, COMMAND, ...serve]);
  t.teardown(() => stopTap(tap).catch(() => undefined));
  const { listen, exportName } = tap.settings;
  const client = await NbdWriter.connect((listen[0] ?? '').replace(/^unix:/, ''), exportName);
  t.teardown(() => client.close());
  return { image, client, processId };
}

export async function tapped(
  t: ExecutionContext,
  directory: string,
  name: string,
  sizeBytes: number,
): Promise<Side> {
  const { image, client } = await tapImage(t, directory, name, sizeBytes);
  return {
    member: { path: image, device: name, provider: 'tap' },
    write: (n) => client.write(n * SLOT_BYTES, Buffer.alloc(SLOT_BYTES, 1)),
    numbersIn: numbersOf,
  };
}

export async function live(t: ExecutionContext, directory: string, sizeBytes: number): Promise<Side> {
  const device = attachLoop(t, await emptyImage(join(directory, 'live.img'), sizeBytes));
  await untrackAtEnd(t, device);
  makeFilesystem('ext4', device);
  const path = join(directory, 'mounted');
  await mount(t, device, path);
  t.teardown(() => void unfreeze(path));
  const file = await open(join(path, 'numbers'), 'w');
  t.teardown(() => file.close());
  return {
    member: { path: device, device: 'live', provider: 'live' },
    write: async (n) => {
      await file.write(Buffer.alloc(SLOT_BYTES, 1), 0, SLOT_BYTES, n * SLOT_BYTES);
      await file.datasync();
    },
    numbersIn: async (image) => {
      const seen = `${image}-mounted`;
      const loop = attachLoop(t, image);
      const unmount = await mount(t, loop, seen);
      const numbers = await numbersOf(join(seen, 'numbers'));
      unmount();
      detachLoop(loop);
      return numbers;
    },
  };
}

/** Everything that was written up to some moment is there, and nothing later. */
export function isOneInstant(sides: readonly (readonly number[])[]): boolean {
  const numbers = sides.flat().sort((a, b) => a - b);
  return numbers.every((n, i) => n === i + 1);
}

/** Ascending numbers to the sides in turn. */
export class Writer {
  readonly #sides: readonly Side[];
  #written = 0;
  #isOver = false;

  readonly #numbersMax: number;

  /** @param sizeBytes of each side: a file system needs some room of its own */
  constructor(sides: readonly Side[], sizeBytes: number) {
    this.#sides = sides;
    this.#numbersMax = sizeBytes / SLOT_BYTES / 2;
  }

  /** Resolves when it is stopped. */
  async start(): Promise<void> {
    this.#isOver = false;
    const many = this.#written + FAST_NUMBERS;
    while (!this.#isOver && this.#written < this.#numbersMax) {
      await this.#sides[(this.#written + 1) % this.#sides.length]?.write(this.#written + 1);
      this.#written += 1;
      // On a machine that is slow for everything else it is not to use up its room.
      if (this.#written % 4 === 0) await sleep(this.#written < many ? 2 : 50);
    }
  }

  stop(): void {
    this.#isOver = true;
  }

  async further(): Promise<void> {
    for (const enough = this.#written + 10; this.#written < enough; ) {
      if (enough > this.#numbersMax) throw new Error('there is no room for more');
      await sleep(5);
    }
  }
}
