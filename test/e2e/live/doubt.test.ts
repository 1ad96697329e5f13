/** Whatever makes the marks doubtful: everything is read, or the error is clear; never is a point false. */
import { readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { native } from '../../../src/native/index.js';
import { takeTracked } from '../../../src/track/tracked.js';
import { attachLoopAgain, detachLoop, run } from '../../helpers/disks/loop-device.js';
import { errorOf } from '../../helpers/live/errors.js';
import {
  differingBlocks,
  LIVE_REQUIREMENTS,
  type LiveResult,
  LiveWorld,
  trackNow,
} from '../../helpers/live/world.js';
import { EXIT_WARNINGS, lastResult } from '../../helpers/machines/stillpoint.js';
import { testWith } from '../../helpers/requirements.js';
import { LONG } from '../../helpers/seed.js';

const SIZE = 8 * MiB;
const BLOCK = 64 * KiB;

async function makeWorld(t: ExecutionContext): Promise<LiveWorld> {
  const world = await LiveWorld.make(t, { sizeBytes: SIZE });
  await change(world, 0);
  await trackNow(world.disk.place, false);
  await world.backup(t);
  return world;
}

let generation = 0;

/** Through the device. */
async function change(world: LiveWorld, block: number): Promise<void> {
  generation += 1;
  const device = await native.openDevice(world.disk.device, { write: true });
  await device.write(block * BLOCK, Buffer.alloc(4 * KiB, `change ${generation} `));
  await device.close();
}

/** The point is the device, and was made by reading everything, for this reason; null: by marks. */
async function check(t: ExecutionContext, world: LiveWorld, reason: RegExp | null, ...args: string[]) {
  const result: LiveResult = await world.backupAndCompare(t, String(reason), ...args);
  t.is(result.point.provider, 'live');
  t.is(result.tracking.used, reason === null, result.tracking.reason);
  if (reason !== null) t.regex(result.tracking.reason, reason);
  return result;
}

testWith(LIVE_REQUIREMENTS, 'without marks that can be believed everything is read', async (t) => {
  const world = await makeWorld(t);
  const { place, device, image } = world.disk;
  await change(world, 3);
  await check(t, world, null);

  for (const pin of LONG ? await readdir(place.directory) : ['link0', 'program2', 'done']) {
    await rm(join(place.directory, pin));
    await change(world, 5);
    await check(t, world, /tracking was broken/);
    await change(world, 6);
    await check(t, world, null);
  }

  for (const record of ['{', '{"version":7}', JSON.stringify({ version: 1, points: [] })]) {
    const tracker = await native.openTracker(place.directory);
    tracker.writeRecord(Buffer.from(record));
    await tracker.close();
    await change(world, 7);
    await check(t, world, /record is damaged/);
  }

  await change(world, 8);
  await check(t, world, /asked for/, '--full');
  await change(world, 9);
  await check(t, world, null);

  // Changed while nothing could be seen, under the same number.
  detachLoop(device);
  await truncate(image, 0);
  await truncate(image, SIZE);
  await writeFile(image, Buffer.alloc(3 * BLOCK, 'other'), { flag: 'r+' });
  attachLoopAgain(device, image);
  await check(t, world, /another disk has its number/);
  await change(world, 10);
  await check(t, world, null);

  await truncate(image, SIZE + MiB);
  run('losetup', '--set-capacity', device);
  const result = await world.backup(t);
  t.false(result.tracking.used);
  t.is(result.point.geometry.sizeBytes, SIZE + MiB);
  const restored = await world.restored(t, result.point.sequence);
  t.deepEqual(await differingBlocks(image, 0, restored, SIZE + MiB), []);
});

testWith(LIVE_REQUIREMENTS, 'marks are of one receiver: another one gets everything', async (t) => {
  const world = await makeWorld(t);
  const other = world.at('other');
  await change(world, 3);
  await check(t, world, null);
  await change(world, 4);
  const elsewhere = await world.backup(t, '--store', other);
  t.false(elsewhere.tracking.used, elsewhere.tracking.reason);
  await change(world, 5);
  await check(t, world, /the marks are not since the last point/);
});

testWith(LIVE_REQUIREMENTS, 'a write that nothing has shown is found by the sample', async (t) => {
  const world = await makeWorld(t);
  // Everywhere, so that any block of the sample shows it.
  await writeFile(world.disk.image, Buffer.alloc(SIZE, 'behind its back'), { flag: 'r+' });
  run('blockdev', '--flushbufs', world.disk.device);
  const { code, stdout } = await world.tryBackup();
  t.is(code, EXIT_WARNINGS, stdout);
  const { point, tracking } = lastResult<LiveResult>(stdout);
  t.false(tracking.used);
  t.regex(tracking.reason, /missed a change/);
  t.deepEqual(await world.missing(t, point.sequence), []);
});

testWith(LIVE_REQUIREMENTS, 'two commands do not work with one tracker', async (t) => {
  const world = await makeWorld(t);
  const tracked = await takeTracked(world.disk.place);
  const { code, stdout } = await world.tryBackup();
  t.not(code, 0);
  t.is(errorOf(stdout).code, 'session-busy', stdout);
  await tracked.close();
  await change(world, 1);
  await check(t, world, null);
});

testWith(LIVE_REQUIREMENTS, 'pins that are removed while it is backed up cost no write', async (t) => {
  const world = await makeWorld(t);
  const { place, device } = world.disk;
  const hook = world.at('hook');
  const write = `dd if=/dev/urandom of=${device} bs=4096 seek=100 count=1 conv=notrunc,fsync status=none`;
  await writeFile(hook, `#!/bin/sh\nrm ${place.directory}/link*\n${write}\necho ready\nread -r word\n`, {
    mode: 0o755,
  });
  await change(world, 3);
  const { point } = await world.backup(t, '--hook', hook);
  t.deepEqual(await world.missing(t, point.sequence), []);
  await change(world, 4);
  await check(t, world, /tracking was broken/);
});
