/**
 * The tracker and the live copy: what tracking costs those who write, what a backup of few changes takes, how
 * long file systems are frozen.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Marks } from '../src/capture/providers/live/marks.js';
import { findTrackPlace } from '../src/track/place.js';
import { removeTracked, takeTracked } from '../src/track/tracked.js';
import { measure, shell } from './process.js';
import { mebibytes, type Row, seconds, times } from './report.js';
import { type BackupOutcome, COMMAND, Installation } from './stillpoint.js';

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const TiB = 2 ** 40;
const BLOCK = 65_536;
const CHANGED_BLOCKS = 1000;
const MEMORY_FILE = '/dev/shm/stillpoint-bench-live.img';
const BPF_STATISTICS = '/proc/sys/kernel/bpf_stats_enabled';

export async function liveFigures(parent: string, quick: boolean): Promise<Row[]> {
  if (!existsSync('/sys/kernel/btf/vmlinux')) return [];
  const directory = join(parent, 'live');
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  try {
    return [
      ...(await trackingCost(directory, quick ? 3 : 11)),
      ...(await fewChanges(directory)),
      ...(await freezes(directory, quick ? 5 : 50)),
    ];
  } finally {
    rmSync(MEMORY_FILE, { force: true });
    rmSync(directory, { recursive: true, force: true });
  }
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

async function withLoop<T>(file: string, bytes: number, work: (device: string) => Promise<T>): Promise<T> {
  shell('truncate', `--size=${bytes}`, file);
  const direct = file.startsWith('/dev/shm') ? [] : ['--direct-io=on'];
  const device = shell('losetup', '--find', '--show', ...direct, file).trim();
  try {
    return await work(device);
  } finally {
    const place = await findTrackPlace(device);
    await removeTracked(place.directory, device);
    shell('losetup', '--detach', device);
    rmSync(file);
  }
}

interface Written {
  readonly perSecond: number;
  readonly bytes: number;
}

async function write(device: string, directory: string): Promise<Written> {
  const output = join(directory, 'fio.json');
  await measure('fio', [
    ...['--name=bench', `--filename=${device}`, '--rw=randwrite', '--bs=4k', '--direct=1'],
    ...[
      '--ioengine=libaio',
      '--iodepth=32',
      '--time_based',
      '--runtime=2',
      '--randrepeat=0',
      '--norandommap',
    ],
    ...['--output-format=json', `--output=${output}`],
  ]);
  const text = readFileSync(output, 'utf8');
  const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as {
    jobs: [{ write: { iops: number; io_bytes: number } }];
  };
  return { perSecond: jobs[0].write.iops, bytes: jobs[0].write.io_bytes };
}

function trackingCost(directory: string, rounds: number): Promise<Row[]> {
  return withLoop(MEMORY_FILE, GiB, async (device) => {
    const place = await findTrackPlace(device);
    const without: number[] = [];
    const tracked: number[] = [];
    let runNs = 0;
    let bytes = 0;
    await write(device, directory);
    for (let round = 0; round < rounds; round += 1) {
      without.push((await write(device, directory)).perSecond);
      const { tracker, close } = await takeTracked(place);
      tracked.push((await write(device, directory)).perSecond);
      // Counting the time takes time of its own.
      writeFileSync(BPF_STATISTICS, '1');
      const before = tracker.counters().runNs;
      bytes += (await write(device, directory)).bytes;
      runNs += tracker.counters().runNs - before;
      writeFileSync(BPF_STATISTICS, '0');
      await close();
      await removeTracked(place.directory, device);
    }
    const ratio = median(tracked) / median(without);
    return [
      {
        figure: '4 KiB random writes to a loop device over memory, tracked',
        ours: `${Math.round(median(tracked) / 1000)} k/s`,
        yardstick: `not tracked ${Math.round(median(without) / 1000)} k/s`,
        ...{ ratio: times(ratio), target: '≥ 0.97 ×', met: ratio >= 0.97 },
      },
      plain(
        'CPU time of the tracker, by GiB of 4 KiB writes',
        `${((runNs / bytes) * (GiB / 1e6)).toFixed(0)} ms`,
      ),
    ];
  });
}

function plain(figure: string, ours: string): Row {
  return { figure, ours, yardstick: '', ratio: null, target: null, met: null };
}

/** Of a device whose first point came from its sparse image: to read 1 TiB of zeros says nothing. */
async function fewChanges(directory: string): Promise<Row[]> {
  const image = join(directory, 'wide.img');
  const installation = await Installation.make(join(directory, 'installation'));
  try {
    shell('truncate', `--size=${TiB}`, image);
    const { point } = await installation.backup(image);
    return await withLoop(image, TiB, async (device) => {
      const tracked = await takeTracked(await findTrackPlace(device));
      await new Marks(tracked).adopt(point.id, [], BLOCK, true);
      const { memoryBytes, target } = tracked.tracker;
      await tracked.close();
      let last: BackupOutcome | null = null;
      const wallMs: number[] = [];
      for (let round = 0; round < 4; round += 1) {
        scatter(device);
        last = await installation.backup(device, undefined, ['--accept-identity']);
        // The first one writes the tree anew.
        if (round > 0) wallMs.push(last.wallMs);
      }
      const took = median(wallMs);
      return [
        {
          figure: `next backup of ${CHANGED_BLOCKS} changed blocks of a 1 TiB device, by the tracker's marks`,
          ours: seconds(took),
          ...{ yardstick: '', ratio: null, target: '< 1 s', met: took < 1000 },
        },
        plain('… resident memory of the agent', mebibytes(last?.peakResidentBytes ?? 0)),
        plain(
          `memory of the kernel for 1 TiB, a mark for ${target.grainBytes / 1024} KiB`,
          mebibytes(memoryBytes),
        ),
      ];
    });
  } finally {
    await installation.remove();
  }
}

function scatter(device: string): void {
  shell(
    'python3',
    '-c',
    `import os, random
fd = os.open(${JSON.stringify(device)}, os.O_WRONLY)
for _ in range(${CHANGED_BLOCKS}): os.pwrite(fd, os.urandom(${BLOCK}), random.randrange(${TiB / BLOCK}) * ${BLOCK})
os.fsync(fd)`,
  );
}

/** Of backups in a row, under 20 MB/s of random writes to a file of 1 GiB. */
function freezes(directory: string, count: number): Promise<Row[]> {
  return withLoop(join(directory, 'mounted.img'), 3 * GiB, async (device) => {
    const mountPoint = join(directory, 'mounted');
    shell('mkfs.ext4', '-q', '-F', device);
    mkdirSync(mountPoint, { recursive: true });
    shell('mount', device, mountPoint);
    const report = join(directory, 'load.json');
    const load = startLoad(join(mountPoint, 'file'), report);
    try {
      const frozen: number[] = [];
      await waitForFile(join(mountPoint, 'file'));
      for (let round = 0; round < count; round += 1) {
        const store = join(directory, 'store');
        const state = join(directory, 'state');
        const { stdout } = await measure(process.execPath, [
          ...[COMMAND, '--state', state, '--json', 'backup', device, '--name', 'disk', '--store', store],
        ]);
        const { point } = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
        frozen.push(point.providerFacts.frozenMs);
      }
      load.kill('SIGINT');
      await once(load, 'close');
      const longestMs = longestWriteMs(report);
      frozen.sort((a, b) => a - b);
      const p99 = frozen[Math.ceil(frozen.length * 0.99) - 1] ?? 0;
      return [
        {
          figure: `freeze of ext4 under 20 MB/s of 4 KiB random writes, ${count} backups in a row`,
          ours: `p50 ${median(frozen).toFixed(0)} ms, p99 ${p99.toFixed(0)} ms`,
          ...{ yardstick: '', ratio: null, target: 'p99 ≤ 100 ms', met: p99 <= 100 },
        },
        plain('… the longest write that the application saw meanwhile', `${longestMs.toFixed(0)} ms`),
      ];
    } finally {
      if (load.exitCode === null && load.signalCode === null) {
        load.kill('SIGKILL');
        await once(load, 'close');
      }
      shell('umount', mountPoint);
    }
  });
}

function longestWriteMs(report: string): number {
  const text = readFileSync(report, 'utf8');
  const { jobs } = JSON.parse(text.slice(text.indexOf('{'))) as {
    jobs: { write: { clat_ns: { max: number } } }[];
  };
  return Math.max(...jobs.map(({ write }) => write.clat_ns.max)) / 1e6;
}

function startLoad(file: string, report: string): ChildProcess {
  return spawn(
    'fio',
    [
      ...['--name=load', `--filename=${file}`, '--size=1g', '--rw=randwrite', '--bs=4k', '--direct=1'],
      ...['--ioengine=psync', '--numjobs=4', '--thread', '--rate=5m', '--time_based', '--runtime=3600'],
      ...['--output-format=json', `--output=${report}`],
    ],
    { stdio: 'ignore' },
  );
}

async function waitForFile(file: string): Promise<void> {
  const isWritten = () => existsSync(file) && Number(shell('stat', '--format=%b', file)) * 512 > 900 * MiB;
  while (!isWritten()) await new Promise((resolve) => setTimeout(resolve, 200));
}
