/** The tap as an NBD server: against others without a snapshot, with one held, its longest stalls, the cost of its map file. */
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Load, type LoadResult, runFio, runNbdcopy } from './fio.js';
import { type NbdServer, PEERS, TapServer } from './nbd-servers.js';
import { shell } from './process.js';
import { byteStream } from './random.js';
import { type Row, rate, times } from './report.js';
import { tapBackupFigures } from './tap-backup-figures.js';

const MIB = 2 ** 20;
const IMAGE_BYTES = 1024 * MIB;
const BLOCK_BYTES = 65_536;
/** Its regions are 16,384, of 4 MiB each. */
const WIDE_BYTES = 64 * 2 ** 30;
const FREE_TARGET = 0.9;
const HELD_TARGET = 0.5;
const STALL_LIMIT_MS = 100;
const PEER_ROUNDS = 3;

type Shape = Omit<Load, 'seconds' | 'rangeBytes'>;
const RANDOM_WRITE: Shape = {
  name: '4 KiB random write, QD 32',
  pattern: 'randwrite',
  blockBytes: 4096,
  depth: 32,
};
const RANDOM_WRITE_ALONE: Shape = { ...RANDOM_WRITE, name: '4 KiB random write, QD 1', depth: 1 };
const SEQUENTIAL_WRITE: Shape = {
  name: '1 MiB sequential write, QD 4',
  pattern: 'write',
  blockBytes: MIB,
  depth: 4,
};
const SHAPES: readonly Shape[] = [
  RANDOM_WRITE,
  RANDOM_WRITE_ALONE,
  { ...RANDOM_WRITE, name: '4 KiB random read, QD 32', pattern: 'randread' },
  SEQUENTIAL_WRITE,
  { ...SEQUENTIAL_WRITE, name: '1 MiB sequential read, QD 4', pattern: 'read' },
];

interface Bench {
  readonly directory: string;
  readonly image: string;
  readonly rounds: number;
  readonly seconds: number;
}

/** @param quick shorter runs, fewer of them. */
export async function tapFigures(parent: string, quick: boolean): Promise<Row[]> {
  const directory = join(parent, 'tap');
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const bench: Bench = {
    directory,
    image: join(directory, 'disk.raw'),
    rounds: quick ? 1 : PEER_ROUNDS,
    seconds: quick ? 0.5 : 1,
  };
  try {
    makeImage(bench.image);
    return [
      ...(await againstPeers(bench)),
      ...(await whileHeld(bench)),
      ...(await stalls(bench)),
      ...(await mapCost(bench)),
      ...(await tapBackupFigures(directory, quick)),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Without holes: contestants are to write, not to allocate. */
function makeImage(path: string): void {
  const bytes = byteStream('tap');
  const descriptor = openSync(path, 'w');
  for (let offset = 0; offset < IMAGE_BYTES; offset += MIB) writeSync(descriptor, bytes(MIB));
  closeSync(descriptor);
}

/** Results by name, of which the median counts. */
class Samples {
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

function load(bench: Bench, shape: Shape, changes: Partial<Load> = {}): Load {
  return { ...shape, seconds: bench.seconds, rangeBytes: IMAGE_BYTES, ...changes };
}

async function withServer<Result>(server: NbdServer, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } finally {
    await server.stop();
  }
}

/** Nothing dirty is left from who was measured before. */
async function fresh(bench: Bench, mapPath: string | null): Promise<TapServer> {
  shell('sync', bench.directory);
  return TapServer.start(bench.image, bench.directory, mapPath);
}

const mapOf = (bench: Bench) => join(bench.directory, 'map');

// ---- against others ----

async function againstPeers(bench: Bench): Promise<Row[]> {
  const { image, directory, rounds } = bench;
  const servers = [
    (): Promise<NbdServer> => fresh(bench, mapOf(bench)),
    ...PEERS.map((start) => () => start(image, directory)),
  ];
  const measures: readonly [string, (uri: string) => Promise<number>][] = [
    ...SHAPES.map((shape): [string, (uri: string) => Promise<number>] => [
      shape.name,
      async (uri) => (await runFio(uri, load(bench, shape), directory)).bytesPerSecond,
    ]),
    ['nbdcopy from it', (uri) => runNbdcopy(uri, 'null:', IMAGE_BYTES)],
    ['nbdcopy to it', (uri) => runNbdcopy(source(bench), uri, IMAGE_BYTES)],
  ];
  shell('cp', '--sparse=never', '--reflink=never', image, source(bench));
  const rows: Row[] = [];
  for (const [name, run] of measures) {
    const samples = new Samples();
    for (let round = 0; round < rounds; round++) {
      for (const start of servers) {
        shell('sync', '--file-system', directory);
        const server = await start();
        samples.add(server.name, await withServer(server, () => run(server.uri)));
      }
    }
    rows.push(peerRow(name, samples));
  }
  rmSync(source(bench));
  return rows;
}

const source = (bench: Bench) => join(bench.directory, 'source.raw');

function peerRow(name: string, samples: Samples): Row {
  const [ours = '', ...peers] = samples.names();
  const ratio = samples.median(ours) / Math.max(...peers.map((peer) => samples.median(peer)));
  const told = (server: string) => figure(name, samples.median(server));
  return {
    figure: `tap, ${name}`,
    ours: told(ours),
    yardstick: peers.map((peer) => `${peer} ${told(peer)}`).join(', '),
    ratio: times(ratio),
    target: `≥ ${times(FREE_TARGET)} the fastest`,
    met: ratio >= FREE_TARGET,
  };
}

const figure = (name: string, bytesPerSecond: number) =>
  name.startsWith('4 KiB') ? perSecond(bytesPerSecond / 4096) : rate(bytesPerSecond, 1000);

const perSecond = (count: number) => `${(count / 1000).toFixed(1)} k/s`;

// ---- while a snapshot is held ----

async function whileHeld(bench: Bench): Promise<Row[]> {
  const rows: Row[] = [];
  for (const shape of [RANDOM_WRITE, SEQUENTIAL_WRITE]) {
    const samples = new Samples();
    for (let round = 0; round < bench.rounds; round++) await heldRound(bench, shape, samples);
    const free = samples.median('free');
    for (const [kind, what] of [
      ['full', 'all blocks needed, first second of the hold'],
      ['later', 'all blocks needed, afterwards'],
      ['map', 'every tenth block needed, first second of the hold'],
    ] as const) {
      const ratio = samples.median(kind) / free;
      rows.push({
        figure: `tap, ${shape.name}, snapshot held: ${what}`,
        ours: figure(shape.name, samples.median(kind)),
        yardstick: `no snapshot ${figure(shape.name, free)}`,
        ratio: times(ratio),
        target: `≥ ${times(HELD_TARGET)}`,
        met: ratio >= HELD_TARGET,
      });
    }
  }
  return rows;
}

async function heldRound(bench: Bench, shape: Shape, samples: Samples): Promise<void> {
  const { directory } = bench;
  const tap = await fresh(bench, mapOf(bench));
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

// ---- stalls ----

interface Situation {
  readonly name: string;
  /** Done while writers write, until `until` says so. */
  work(tap: TapServer, isOver: () => boolean): Promise<void>;
}

/** Writers at full speed, or one that writes once a millisecond. */
const WRITERS: readonly (readonly [string, readonly string[]])[] = [
  ['QD 32', []],
  ['one write each ms', ['--iodepth=1', '--rate_iops=1000']],
];

async function stalls(bench: Bench): Promise<Row[]> {
  const { directory } = bench;
  const situations: readonly Situation[] = [
    { name: 'no snapshot', work: async () => undefined },
    {
      name: 'one snapshot held',
      work: async (tap) => {
        await tap.hold(directory, null);
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
  const tap = await fresh(bench, mapOf(bench));
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
    await Promise.all([running, work(tap, () => isOver)]);
    const { counters } = await tap.call('status');
    return { clientMs: (await running).longestMs, tapMs: counters.longestStallMicroseconds / 1000 };
  });
}

async function cutRepeatedly(bench: Bench, tap: TapServer, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    await tap.hold(bench.directory, null);
    await sleep(20);
    await tap.call('commit');
    await sleep(20);
  }
}

// ---- the map file ----

async function mapCost(bench: Bench): Promise<Row[]> {
  const { directory } = bench;
  const wide = join(directory, 'wide.raw');
  const samples = new Samples();
  for (let round = 0; round < bench.rounds; round++) {
    for (const mapPath of [null, mapOf(bench)]) {
      const kind = mapPath === null ? 'without' : 'with';
      rmSync(wide, { force: true });
      shell('truncate', `--size=${WIDE_BYTES}`, wide);
      shell('sync', '--file-system', directory);
      const tap = await TapServer.start(wide, directory, mapPath);
      const run = async (name: string, rangeBytes: number) =>
        samples.add(
          `${name} ${kind}`,
          (await runFio(tap.uri, load(bench, RANDOM_WRITE, { rangeBytes }), directory)).bytesPerSecond,
        );
      await withServer(tap, async () => {
        // From a commit on there is a point, and changes since then are remembered.
        await tap.hold(directory, null);
        await tap.call('commit');
        await run('clean', WIDE_BYTES);
        await runFio(tap.uri, load(bench, RANDOM_WRITE, { rangeBytes: IMAGE_BYTES }), directory);
        await run('steady', IMAGE_BYTES);
      });
    }
  }
  rmSync(wide);
  const row = (name: string, what: string): Row => ({
    figure: `tap, 4 KiB random write, QD 32, ${what}, with map file`,
    ours: perSecond(samples.median(`${name} with`) / 4096),
    yardstick: `without ${perSecond(samples.median(`${name} without`) / 4096)}`,
    ratio: times(samples.median(`${name} with`) / samples.median(`${name} without`)),
    target: null,
    met: null,
  });
  return [
    row('clean', 'over 64 GiB right after a commit: nearly each write the first to its region'),
    row('steady', 'over 1 GiB already marked'),
  ];
}
