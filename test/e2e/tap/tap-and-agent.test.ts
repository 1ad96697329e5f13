/** A tap and the processes that use it live and die apart: what the map is worth after each of their ends. */
import { rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { makeStampedImage } from '../../helpers/bytes/stamped-blocks.js';
import { attachLoop, run } from '../../helpers/disks/loop-device.js';
import { makeMachine } from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { type BackupResult, succeeds, type Tapped, tapped } from '../../helpers/worlds/tapped.js';

const BLOCK = 64 * KiB;
const SIZE = 64 * MiB;
/** A map that is used leaves most of it unread, whole regions and the sample included. */
const MUCH = SIZE / 2;
const QEMU_IO = programs('qemu-io');

/** A large image with little in it, tapped, with one point. */
async function withPoint(t: ExecutionContext): Promise<Tapped> {
  const machine = await makeMachine(t, 'apart');
  const source = `${machine.directory}/disk.img`;
  await makeStampedImage(source, { sizeBytes: SIZE, blockSize: BLOCK, seed: 1, blockIndexes: [0, 1, 800] });
  const tap = await tapped(t, { machine, source });
  t.false((await tap.backup()).tracking.used);
  return tap;
}

let pattern = 0;

/** Fills blocks with something new. */
async function write(t: ExecutionContext, tap: Tapped, ...blockIndexes: number[]): Promise<void> {
  pattern = (pattern % 255) + 1;
  const commands = blockIndexes.flatMap((index) => ['-c', `write -P ${pattern} ${index * BLOCK} ${BLOCK}`]);
  await succeeds(t, 'qemu-io', '-f', 'raw', ...commands, tap.uri);
}

function usesMap(t: ExecutionContext, { tracking, point }: BackupResult, changedBlocks: number): void {
  t.true(tracking.used, tracking.reason);
  t.true(point.statistics.scannedBytes < MUCH, `${point.statistics.scannedBytes} bytes read`);
  t.is(point.statistics.changedBytes, changedBlocks * BLOCK);
}

async function usesNoMap(
  t: ExecutionContext,
  tap: Tapped,
  reason: RegExp,
  changedBlocks: number,
  ...args: string[]
): Promise<void> {
  t.regex((await tap.report()).status.map.reason, reason);
  const { tracking, point } = await tap.checkPoint(...args);
  t.false(tracking.used);
  t.regex(tracking.reason, reason);
  t.is(point.statistics.scannedBytes, SIZE);
  t.is(point.statistics.changedBytes, changedBlocks * BLOCK);
}

testWith(QEMU_IO, 'a backup that is killed gives its snapshot back, and the map is kept', async (t) => {
  const tap = await withPoint(t);
  await write(t, tap, 10, 11, 12);
  const paused = await tap.pausedBackup();
  t.is((await tap.report()).status.hold?.state, 'held');
  await write(t, tap, 12, 13);
  paused.child.kill('SIGKILL');
  for (let tries = 0; (await tap.report()).status.hold !== null; tries += 1) {
    t.true(tries < 20, 'the snapshot is still held');
    await sleep(100);
  }
  await write(t, tap, 14);
  usesMap(t, await tap.checkPoint(), 5);
  usesMap(t, await tap.checkPoint(), 0);
});

testWith(QEMU_IO, 'a tap that dies under a backup: the backup fails, the next one is right', async (t) => {
  const tap = await withPoint(t);
  await write(t, tap, 10, 11);
  const paused = await tap.pausedBackup();
  await write(t, tap, 11, 12);
  await tap.kill();
  const { code, stdout } = await paused.go();
  t.true(code === 1 || code === 5, `exit code ${code}`);
  t.regex(stdout, /"event":"error"/);
  await tap.start();
  usesMap(t, await tap.checkPoint(), 3);
});

testWith(QEMU_IO, 'a tap that is stopped and started again knows what was written', async (t) => {
  const tap = await withPoint(t);
  await write(t, tap, 3, 1000);
  await tap.stop();
  await tap.start();
  t.is((await tap.report()).status.map.changedBlocks, 2);
  await write(t, tap, 4);
  usesMap(t, await tap.checkPoint(), 3);
});

testWith(QEMU_IO, 'a tap that is killed names whole regions afterwards', async (t) => {
  const tap = await withPoint(t);
  await write(t, tap, 3, 1000);
  await tap.kill();
  await tap.start();
  t.true((await tap.report()).status.map.changedBlocks > 2);
  usesMap(t, await tap.checkPoint(), 2);
});

testWith(QEMU_IO, 'an image that was written past its stopped tap: the map is not used', async (t) => {
  const tap = await withPoint(t);
  await write(t, tap, 3);
  await tap.stop();
  run(
    'dd',
    'if=/dev/urandom',
    `of=${tap.source}`,
    `bs=${BLOCK}`,
    'seek=900',
    'count=2',
    'conv=notrunc',
    'status=none',
  );
  await tap.start();
  await usesNoMap(t, tap, /changed or replaced while the tap did not run/, 3);
  await write(t, tap, 7);
  usesMap(t, await tap.checkPoint(), 1);
});

testWith(QEMU_IO, 'an image that was replaced beside its killed tap: the map is not used', async (t) => {
  const tap = await withPoint(t);
  await tap.kill();
  run('cp', '--sparse=always', tap.source, tap.at('copy'));
  run(
    'dd',
    'if=/dev/urandom',
    `of=${tap.at('copy')}`,
    `bs=${BLOCK}`,
    'seek=9',
    'count=1',
    'conv=notrunc',
    'status=none',
  );
  run('mv', tap.at('copy'), tap.source);
  await tap.start();
  await usesNoMap(t, tap, /another (file|device|image)/, 1, '--accept-identity');
});

testWith(
  ['root', 'loop', ...QEMU_IO],
  'a block device that was written past its stopped tap: the map is not used',
  async (t) => {
    const machine = await makeMachine(t, 'apart');
    const image = `${machine.directory}/disk.img`;
    run('truncate', '--size', String(SIZE), image);
    const source = attachLoop(t, image);
    const tap = await tapped(t, { machine, source });
    await tap.backup();
    await write(t, tap, 3);
    await tap.stop();
    await tap.start();
    usesMap(t, await tap.checkPoint(), 1);
    rmSync(tap.at('restored-2'));
    await tap.stop();
    run(
      'dd',
      'if=/dev/urandom',
      `of=${source}`,
      `bs=${BLOCK}`,
      'seek=900',
      'count=2',
      'conv=fsync',
      'status=none',
    );
    await tap.start();
    await usesNoMap(t, tap, /written to or attached again while the tap did not run/, 2);
  },
);
