/** What a held snapshot costs the writers: their speed, and the longest that one of them waits. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type LoadResult, runFio } from './fio.js';
import type { TapServer } from './nbd-servers.js';
import { shell } from './process.js';
import { type Row, times } from './report.js';
import {
  type Bench,
  figure,
  IMAGE_BYTES,
  load,
  RANDOM_WRITE,
  Samples,
  SEQUENTIAL_WRITE,
  type Shape,
  startTap,
  withServer,
} from './tap-bench.js';

const BLOCK_BYTES = 65_536;
const RATIO_TARGET = 0.5;
const STALL_LIMIT_MS = 100;

export async function whileHeld(bench: Bench): Promise<Row[]> {
  const rows: Row[] = [];
  for (const shape of [RANDOM_WRITE, SEQUENTIAL_WRITE]) {
    const samples = new Samples();
    for (let round = 0; round < bench.rounds; round++) await heldRound(bench, shape, samples);
    const free = samples.median('free');
    for (const [kind, what] of [
      ['full', 'all blocks needed, from its first moment on'],
      ['later', 'all blocks needed, afterwards'],
      ['map', 'every tenth block needed, from its first moment on'],
    ] as const) {
      const ratio = samples.median(kind) / free;
      rows.push({
        figure: `tap, ${shape.name}, snapshot held: ${what}`,
        ours: figure(shape.name, samples.median(kind)),
        yardstick: `no snapshot ${figure(shape.name, free)}`,
        ratio: times(ratio),
        target: `≥ ${times(RATIO_TARGET)}`,
        met: ratio >= RATIO_TARGET,
      });
    }
  }
  return rows;
}

async function heldRound(bench: Bench, shape: Shape, samples: Samples): Promise<void> {
  const { directory } = bench;
  const tap = await startTap(bench);
  const run = async (name: string) => {
    shell('sync', '--file-system', directory);
    samples.add(name, (await runFio(tap.uri, load(bench, shape), directory)).bytesPerSecond);
  };
  await withServer(tap, async () => {
    await run('free');
    const point = await tap.hold(directory, null);
    await run('full');
    await run('later');
    await tap.call('commit');
    const tenth = load(bench, SEQUENTIAL_WRITE, {
      pattern: 'write:576k',
      blockBytes: BLOCK_BYTES,
      seconds: 0,
    });
    await runFio(tap.uri, { ...tenth, options: [`--io_size=${IMAGE_BYTES / 10}`] }, directory);
    await tap.hold(directory, point);
    await run('map');
  });
}

interface Situation {
  readonly name: string;
  /** Done while writers write. @returns the longest stall that the tap has told of holds that are over. */
  work(tap: TapServer, isOver: () => boolean): Promise<number>;
}

/** Writers at full speed, or one that writes once a millisecond. */
const WRITERS: readonly (readonly [string, readonly string[]])[] = [
  ['QD 32', []],
  ['one write each ms', ['--iodepth=1', '--rate_iops=1000']],
];

export async function stalls(bench: Bench): Promise<Row[]> {
  const { directory } = bench;
  const situations: readonly Situation[] = [
    { name: 'no snapshot', work: async () => 0 },
    {
      name: 'one snapshot held',
      work: async (tap) => {
        await tap.hold(directory, null);
        return 0;
      },
    },
    {
      name: 'snapshots taken and committed all the time',
      work: (tap, isOver) => cutRepeatedly(bench, tap, isOver),
    },
  ];
  const rows: Row[] = [];
  for (const [writers, options] of WRITERS) {
    const free: number[] = [];
    for (const { name, work } of situations) {
      const stall = await longestStall(bench, options, work);
      if (free.length === 0) free.push(stall.clientMs);
      rows.push({
        figure: `longest write, 4 KiB random, ${writers}, ${name}`,
        ours: `${milliseconds(stall.clientMs)} (in the tap itself ${milliseconds(stall.tapMs)})`,
        yardstick: `no snapshot ${milliseconds(free[0] ?? Number.NaN)}`,
        ratio: null,
        target: `≤ ${milliseconds(STALL_LIMIT_MS)}`,
        met: stall.clientMs <= STALL_LIMIT_MS,
      });
    }
  }
  return rows;
}

const milliseconds = (ms: number) => `${ms.toFixed(1)} ms`;

async function longestStall(
  bench: Bench,
  options: readonly string[],
  work: Situation['work'],
): Promise<{ readonly clientMs: number; readonly tapMs: number }> {
  const { directory } = bench;
  const tap = await startTap(bench);
  return withServer(tap, async () => {
    let isOver = false;
    const running: Promise<LoadResult> = runFio(
      tap.uri,
      load(bench, RANDOM_WRITE, { seconds: 3 * bench.seconds, options }),
      directory,
    ).finally(() => {
      isOver = true;
    });
    await sleep(300);
    const [{ longestMs }, earlierMs] = await Promise.all([running, work(tap, () => isOver)]);
    return { clientMs: longestMs, tapMs: Math.max(earlierMs, await toldStallMs(tap)) };
  });
}

async function cutRepeatedly(bench: Bench, tap: TapServer, isOver: () => boolean): Promise<number> {
  let longestMs = 0;
  while (!isOver()) {
    await tap.hold(bench.directory, null);
    await sleep(20);
    await tap.call('commit');
    await sleep(20);
    longestMs = Math.max(longestMs, await toldStallMs(tap));
  }
  return longestMs;
}

/** Since the latest hold began. */
async function toldStallMs(tap: TapServer): Promise<number> {
  const { counters } = await tap.call('status');
  return counters.longestStallMicroseconds / 1000;
}
