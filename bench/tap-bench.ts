/** What the figures of the tap have in common: the image, the loads, who is started how. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Load } from './fio.js';
import { type NbdServer, type StartServer, TapServer } from './nbd-servers.js';
import { shell } from './process.js';
import { byteStream } from './random.js';
import { rate } from './report.js';

const MIB = 2 ** 20;
export const IMAGE_BYTES = 1024 * MIB;

export type Shape = Omit<Load, 'seconds' | 'rangeBytes'>;
export const RANDOM_WRITE: Shape = {
  name: '4 KiB random write, QD 32',
  pattern: 'randwrite',
  blockBytes: 4096,
  depth: 32,
};
export const RANDOM_WRITE_ALONE: Shape = { ...RANDOM_WRITE, name: '4 KiB random write, QD 1', depth: 1 };
export const SEQUENTIAL_WRITE: Shape = {
  name: '1 MiB sequential write, QD 4',
  pattern: 'write',
  blockBytes: MIB,
  depth: 4,
};
export const SHAPES: readonly Shape[] = [
  RANDOM_WRITE,
  RANDOM_WRITE_ALONE,
  { ...RANDOM_WRITE, name: '4 KiB random read, QD 32', pattern: 'randread' },
  SEQUENTIAL_WRITE,
  { ...SEQUENTIAL_WRITE, name: '1 MiB sequential read, QD 4', pattern: 'read' },
];

export interface Bench {
  readonly directory: string;
  readonly image: string;
  readonly rounds: number;
  /** Of one run. */
  readonly seconds: number;
  readonly peers: readonly StartServer[];
}

/** Without holes: contestants are to write, not to allocate. */
export function makeImage(path: string): void {
  const bytes = byteStream('tap');
  const descriptor = openSync(path, 'w');
  for (let offset = 0; offset < IMAGE_BYTES; offset += MIB) writeSync(descriptor, bytes(MIB));
  closeSync(descriptor);
}

/** Results by name, of which the median counts. */
export class Samples {
  readonly #values = new Map<string, number[]>();

  add(name: string, value: number): void {
    this.#values.set(name, [...(this.#values.get(name) ?? []), value]);
  }

  median(name: string): number {
    const values = (this.#values.get(name) ?? []).toSorted((a, b) => a - b);
    return values[Math.floor(values.length / 2)] ?? Number.NaN;
  }

  names(): string[] {
    return [...this.#values.keys()];
  }
}

export function load(bench: Bench, shape: Shape, changes: Partial<Load> = {}): Load {
  return { ...shape, seconds: bench.seconds, rangeBytes: IMAGE_BYTES, ...changes };
}

export async function withServer<Result>(server: NbdServer, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } finally {
    await server.stop();
  }
}

/** A tap that remembers changes since a point, as each has after its first backup. */
export async function startTap(bench: Bench): Promise<TapServer> {
  const tap = await TapServer.start(bench.image, bench.directory, mapOf(bench));
  await tap.hold(bench.directory, null);
  await tap.call('commit');
  shell('sync', '--file-system', bench.directory);
  return tap;
}

export const mapOf = (bench: Bench) => join(bench.directory, 'map');

/** In the unit that suits the load. */
export const figure = (name: string, bytesPerSecond: number) =>
  name.startsWith('4 KiB') ? perSecond(bytesPerSecond / 4096) : rate(bytesPerSecond, 1000);

export const perSecond = (count: number) => `${(count / 1000).toFixed(1)} k/s`;
