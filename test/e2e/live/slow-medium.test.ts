/**
 * Writes that take 50 ms and overtake each other, on a device that is read meanwhile: a mark that is set only
 * when a write is submitted is cleared before the write has reached the disk, and what is read then is old.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { native } from '../../../src/native/index.js';
import { makeStampedImage, readStamp } from '../../helpers/bytes/stamped-blocks.js';
import { SLOW_DISK_REQUIREMENTS, slowDisk } from '../../helpers/live/slow-disk.js';
import {
  LIVE_REQUIREMENTS,
  type LiveResult,
  LiveWorld,
  startWriting,
  trackNow,
} from '../../helpers/live/world.js';
import { EXIT_OK, EXIT_WARNINGS, lastResult, makeMachine } from '../../helpers/machines/stillpoint.js';
import { testWith } from '../../helpers/requirements.js';
import { LONG, seededRandom } from '../../helpers/seed.js';

const BLOCK = 4 * KiB;
const SIZE = 8 * MiB;
const BLOCKS = SIZE / BLOCK;
const WRITE_MS = 50;
/** Of FUSE's twelve requests in flight some are left for reads. */
const WRITERS = 6;
const RUNS = LONG ? 12 : 1;
const WRITING_MS = 1200;

async function slowWorld(t: ExecutionContext): Promise<LiveWorld> {
  const machine = await makeMachine(t, 'slow');
  const device = await slowDisk(t, `${machine.directory}/disk`, { sizeBytes: SIZE, writeMs: WRITE_MS });
  return LiveWorld.on(t, machine, device);
}

/** Stamps blocks, each once: what is lost is not healed by a later write. In a process of its own. */
async function startStamping(t: ExecutionContext, world: LiveWorld, durationMs: number) {
  const { seed } = seededRandom(t);
  const image = world.at('stamped');
  const blockIndexes = Array.from({ length: BLOCKS }, (_, index) => index);
  await makeStampedImage(image, { sizeBytes: SIZE, blockSize: BLOCK, seed, blockIndexes });
  const nodes = [{ path: world.disk.device, sizeBytes: SIZE }];
  const writer = startWriting(t, { seed, threads: WRITERS, nodes, image, durationMs });
  const written = async () => (await writer.ended).trimEnd().split('\n').map(Number);
  return { written, isOver: writer.isOver };
}

const isStamped = (bytes: Uint8Array | undefined, blockIndex: number): boolean =>
  bytes !== undefined && readStamp(bytes)?.blockIndex === blockIndex;

/**
 * Copies in passes, one after the other, as a session does before its cut.
 * @param isWrong with a tracker that marks a write as done when it is submitted.
 * @returns how many blocks the copy has as they were before.
 */
async function lostInPasses(t: ExecutionContext, isWrong: boolean): Promise<number> {
  const world = await slowWorld(t);
  await trackNow(world.disk.place, isWrong);
  const device = await native.openDevice(world.disk.device, { direct: true });
  t.teardown(() => device.close());
  const tracker = await native.openTracker(world.disk.place.directory);
  t.teardown(() => tracker.close());
  const limits = { stagingMaxBytes: SIZE, cutMaxBytes: SIZE };
  const copy = await native.createLiveCopy(device, tracker, { blockSize: BLOCK, ...limits });
  t.teardown(() => copy.close());
  await copy.begin({ everything: false, sampleBlocks: [] });

  const image = new Map<number, Buffer>();
  let passes = 0;
  const pass = async (): Promise<void> => {
    await copy.collect();
    const blocks = (await copy.ship()).flatMap(([begin, end]) =>
      Array.from({ length: end - begin }, (_, index) => begin + index),
    );
    const read = async (block: number) => image.set(block, await device.read(block * BLOCK, BLOCK));
    await Promise.all(blocks.map(read));
    passes += 1;
  };
  const stamping = await startStamping(t, world, WRITING_MS);
  for (; !stamping.isOver(); await sleep(5)) await pass();
  const written = await stamping.written();
  await pass();
  const lost = written.filter((block) => !isStamped(image.get(block), block)).length;
  t.log(`${written.length} blocks written, ${passes} passes, ${lost} lost`);
  t.true(written.length > 0);
  return lost;
}

const NEEDED = [...LIVE_REQUIREMENTS, ...SLOW_DISK_REQUIREMENTS];

testWith(NEEDED, 'on a disk that is slow and reorders, no write is missed', async (t) => {
  t.timeout(30 * 60_000);
  for (let runs = 0; runs < RUNS; runs += 1) t.is(await lostInPasses(t, false), 0);
});

testWith(NEEDED, 'the same test finds that marks at submission alone lose writes', async (t) => {
  t.timeout(30 * 60_000);
  for (let runs = 0; runs < RUNS; runs += 1) t.true((await lostInPasses(t, true)) > 0);
});

/**
 * Points of the device, one after the other; then it rests, and the last one is looked at.
 * @returns how many blocks it lacks; 1 where the sample has found one before.
 */
async function lostInPoints(t: ExecutionContext, isWrong: boolean): Promise<number> {
  const world = await slowWorld(t);
  await trackNow(world.disk.place, isWrong);
  await world.backup(t, '--block-size', '4K');
  const stamping = await startStamping(t, world, 10 * WRITING_MS);
  const backUp = async (...args: string[]): Promise<LiveResult> => {
    const { code, stdout, stderr } = await world.tryBackup(...args);
    if (code !== EXIT_OK && code !== EXIT_WARNINGS) t.fail(stdout + stderr);
    return lastResult<LiveResult>(stdout);
  };
  const missed = ({ tracking }: LiveResult): boolean => /missed a change/.test(tracking.reason);
  while (!stamping.isOver()) {
    if (missed(await backUp('--fuzzy', '--freeze-deadline', '20'))) return 1;
  }
  const written = await stamping.written();
  const last = await backUp();
  if (missed(last)) return 1;
  const { point, tracking } = last;
  t.true(tracking.used, tracking.reason);
  const device = await native.openDevice(await world.restored(t, point.sequence));
  t.teardown(() => device.close());
  let lost = 0;
  for (const block of written) lost += isStamped(await device.read(block * BLOCK, BLOCK), block) ? 0 : 1;
  t.log(`${written.length} blocks written, ${point.sequence} points, ${lost} lost`);
  return lost;
}

if (LONG) {
  testWith(NEEDED, 'backed up again and again on a slow disk, no write is missed', async (t) => {
    t.timeout(30 * 60_000);
    t.is(await lostInPoints(t, false), 0);
  });

  testWith(NEEDED, 'with marks at submission alone, points lack writes', async (t) => {
    t.timeout(30 * 60_000);
    t.true((await lostInPoints(t, true)) > 0);
  });
}
