/**
 * What a backup through a tap reads: what changed and a sample; and what becomes of a map that
 * the sample proves wrong.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { encodeMark, MARK_BYTES } from '../../../src/devices/facts/half-restored.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { makePoint } from '../../helpers/bytes/points.js';
import { difference } from '../../helpers/disks/images.js';
import { openPastTheTap, writePastTheTap } from '../../helpers/disks/past-the-tap.js';
import {
  EXIT_WARNINGS,
  lastResult,
  makeMachine,
  restore,
  runExpecting,
} from '../../helpers/machines/stillpoint.js';
import { refused } from '../../helpers/refused.js';
import { TapWorld } from '../../helpers/worlds/tap.js';

const BLOCK = 64 * KiB;
const SAMPLE_BLOCKS_MAX = 64;

test('a few changed blocks: only these and the sample are read', async (t) => {
  const world = await TapWorld.make(t, 1024 * MiB);
  await world.start();
  await world.backup();
  await world.writeBlocks([0, 1, 5000, 16_383], BLOCK);
  const made = await world.backup();
  t.true(made.tracking?.used);
  const { scannedBytes, changedBytes } = made.point.statistics;
  t.is(changedBytes, 4 * BLOCK);
  t.true(
    scannedBytes > 4 * BLOCK && scannedBytes <= (4 + SAMPLE_BLOCKS_MAX) * BLOCK,
    `${scannedBytes} bytes`,
  );
  t.is(difference(await world.restore(made.point), world.image), null);
  t.true((await world.backup()).point.statistics.scannedBytes <= SAMPLE_BLOCKS_MAX * BLOCK);
});

test('a block written past the tap, in the sample: the map is voided, all is read, and the point is right', async (t) => {
  const world = await TapWorld.make(t, 256 * MiB);
  await world.start();
  await world.backup();
  const missed = 1234;
  await writePastTheTap(t, world.image, [missed], BLOCK);
  await world.writeBlocks([7], BLOCK);
  const onlyOthers = await world.backup({ sampleRandom: () => 0 });
  t.deepEqual(onlyOthers.warnings, [], 'not in the sample, it is not seen');
  const made = await world.backup({ sampleRandom: () => (missed + 0.5) / 4096 });
  t.false(made.tracking?.used);
  t.is(made.warnings.length, 1);
  t.regex(made.warnings[0] ?? '', /missed a change: block 1234 differs from the last point \(1 of 1/);
  t.is(made.point.statistics.scannedBytes, 256 * MiB);
  t.is(difference(await world.restore(made.point), world.image), null);
  const next = await world.backup({ sampleRandom: () => (missed + 0.5) / 4096 });
  t.true(next.tracking?.used);
  t.deepEqual(next.warnings, []);
});

test('what is half restored is seen through a tap, whether all is read or what changed', async (t) => {
  const world = await TapWorld.make(t, 64 * MiB);
  await world.start();
  const file = await openPastTheTap(t, world.image);
  const mark = () => file.write(encodeMark(makePoint(), new Date()), 0, MARK_BYTES, 0);
  await mark();
  await refused(t, world.backup(), 'half-restored', /to point disk1@1/);
  await world.writeBlocks([0], BLOCK);
  t.false((await world.backup()).tracking?.used);
  await world.writeBlocks([0, 9], BLOCK);
  await mark();
  await refused(t, world.backup(), 'half-restored', /to point disk1@1/);
  await world.writeBlocks([0], BLOCK);
  const made = await world.backup();
  t.true(made.tracking?.used);
  t.is(difference(await world.restore(made.point), world.image), null);
});

test('the command says so, with its exit code', async (t) => {
  const machine = await makeMachine(t, 'sample');
  const at = (name: string) => join(machine.directory, name);
  const file = await open(at('disk.img'), 'w');
  await file.truncate(8 * MiB);
  await file.close();
  const command = (code: number, ...args: string[]) => runExpecting(t, machine, code, ...args, '--json');
  await command(0, 'tap', 'add', at('disk.img'), '--name', 'vm');
  t.teardown(() => command(0, 'tap', 'remove', 'vm'));
  const backup = ['backup', at('disk.img'), '--store', at('store'), '--name', 'vm'];
  await command(0, ...backup);
  await writePastTheTap(
    t,
    at('disk.img'),
    Array.from({ length: 128 }, (_, index) => index),
    BLOCK,
  );
  const { point } = lastResult<{ point: Point }>((await command(EXIT_WARNINGS, ...backup)).stdout);
  t.is(point.statistics.changedBytes, 8 * MiB);
  await restore(t, machine, at('store'), 'vm@latest', at('restored'));
  t.is(difference(at('restored'), at('disk.img')), null);
  await command(0, ...backup);
});
