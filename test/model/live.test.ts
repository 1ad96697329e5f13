/**
 * No change is missed: devices are written to in every way while they are backed up, again and again; after
 * each run the writers stop, a last backup reads what the marks name, and its point is compared with the
 * device, byte by byte. On an ordinary loop device; test/e2e/live/slow-medium.test.ts has the other one.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../src/domain/base/limits.js';
import { FILESYSTEM_BYTES, FILESYSTEM_PROGRAMS, makeFilesystem } from '../helpers/disks/filesystem.js';
import { mount, run } from '../helpers/disks/loop-device.js';
import { errorOf } from '../helpers/live/errors.js';
import {
  COMPARED_BYTES,
  flushNodes,
  LIVE_REQUIREMENTS,
  LiveWorld,
  startWriting,
  trackNow,
} from '../helpers/live/world.js';
import { programs, testWith } from '../helpers/requirements.js';
import { LONG, type Random, seededRandom } from '../helpers/seed.js';

const KINDS = ['raw', 'ext4', 'xfs', 'btrfs'] as const;
type Kind = (typeof KINDS)[number];

/** Runs on one device before the next is made. */
const RUNS_PER_DEVICE = LONG ? 8 : 2;
const DEVICES = LONG ? 16 : 1;
const SECTOR_BYTES = 512;

interface Figures {
  runs: number;
  points: number;
  fuzzy: number;
  refused: number;
  comparedBlocks: number;
  missing: number;
  markedBytes: number;
  changedBytes: number;
}

/** On a whole disk, or a partition that begins and ends nowhere in particular. */
async function makeWorld(t: ExecutionContext, random: Random, kind: Kind, isPartition: boolean) {
  const bytes = (kind === 'raw' ? 24 * MiB : FILESYSTEM_BYTES[kind]) + (kind === 'raw' ? 1536 : 0);
  const start = random.pick([63, 2048, 2049]);
  const length = bytes / SECTOR_BYTES + random.below(16);
  return LiveWorld.make(
    t,
    isPartition
      ? { sizeBytes: (start + length + 100) * SECTOR_BYTES, partition: { start, length } }
      : { sizeBytes: bytes },
  );
}

const REFUSALS = ['device-changed', 'device-in-use'];

/** Backs up again and again until the writers have ended. */
async function consume(
  t: ExecutionContext,
  world: LiveWorld,
  random: Random,
  isOver: () => boolean,
  figures: Figures,
): Promise<void> {
  do {
    await sleep(random.below(150));
    const isFuzzy = random.below(3) === 0;
    const args = [
      '--accept-identity',
      ...(isFuzzy ? ['--fuzzy'] : []),
      ...(random.below(12) === 0 ? ['--full'] : []),
    ];
    const result = await world.tryBackup(...args);
    if (result.stdout.includes('"kind":"fuzzy"')) figures.fuzzy += 1;
    if (result.stdout.includes('"event":"result"')) figures.points += 1;
    else if (REFUSALS.includes(errorOf(result.stdout).code ?? '')) figures.refused += 1;
    else t.fail(`${result.code}: ${result.stdout}${result.stderr}`);
  } while (!isOver());
}

async function oneRun(
  t: ExecutionContext,
  world: LiveWorld,
  random: Random,
  kind: Kind,
  figures: Figures,
): Promise<void> {
  const { disk } = world;
  const common = {
    ...{ seed: random.below(1e9), threads: 1 + random.below(3) },
    ...{ operations: LONG ? 200 : 100, pauseMs: random.below(25) },
  };
  const nodes = [...new Set([disk.device, disk.disk])];
  const mountPoint = world.at('mnt');
  let unmount = (): void => undefined;
  if (kind !== 'raw') unmount = await mount(t, disk.device, mountPoint);
  const sizes = nodes.map((path) => ({ path, sizeBytes: Number(run('blockdev', '--getsize64', path)) }));
  const writer = startWriting(t, {
    ...common,
    ...(kind === 'raw'
      ? { nodes: sizes, whole: true }
      : { directory: mountPoint, fileBytesMax: Math.floor(disk.sizeBytes / 12) }),
  });
  if (random.below(5) > 0) await consume(t, world, random, writer.isOver, figures);
  await writer.ended;
  unmount();
  flushNodes(...nodes);
  // A device that was made anew is the same one.
  const { point, tracking } = await world.backup(t, '--accept-identity');
  t.true(tracking.used, tracking.reason);
  const missing = await world.missing(t, point.sequence);
  figures.runs += 1;
  figures.comparedBlocks += Math.ceil(disk.sizeBytes / COMPARED_BYTES);
  figures.missing += missing.length;
  figures.markedBytes += point.statistics.scannedBytes;
  figures.changedBytes += point.statistics.changedBytes;
  t.deepEqual(missing.slice(0, 10), [], `${kind} on ${disk.device}, run ${figures.runs}: ${missing.length}`);
  // What was read beside the marks has found nothing either.
  t.is(point.kind, 'idle');
}

testWith(
  [...LIVE_REQUIREMENTS, ...programs('python3', 'addpart', ...Object.values(FILESYSTEM_PROGRAMS).flat())],
  'no change is missed, whoever writes in which way while it is backed up',
  async (t) => {
    t.timeout(3_600_000);
    const random = seededRandom(t);
    const figures: Figures = {
      ...{ runs: 0, points: 0, fuzzy: 0, refused: 0 },
      ...{ comparedBlocks: 0, missing: 0, markedBytes: 0, changedBytes: 0 },
    };
    const from = random.below(8);
    for (let index = 0; index < DEVICES; index += 1) {
      // Each kind, on a disk and on a partition, over some runs of the test.
      const kind = KINDS[(from + index * (LONG ? 1 : 3)) % 4] ?? 'raw';
      const world = await makeWorld(t, random, kind, (from + index) % 8 < 4 !== (index % 2 === 0));
      if (kind !== 'raw') makeFilesystem(kind, world.disk.device);
      const options = random.below(2) === 0 ? [] : ['--block-size', random.pick(['4K', '16K', '256K'])];
      flushNodes(world.disk.disk, world.disk.device);
      await trackNow(world.disk.place, false);
      await world.backup(t, ...options);
      for (let runs = 0; runs < RUNS_PER_DEVICE; runs += 1) await oneRun(t, world, random, kind, figures);
    }
    const { markedBytes, changedBytes } = figures;
    t.log(
      JSON.stringify({ ...figures, overMarked: (markedBytes / Math.max(1, changedBytes) - 1).toFixed(3) }),
    );
    t.is(figures.missing, 0);
  },
);
