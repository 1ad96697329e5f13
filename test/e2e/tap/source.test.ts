/**
 * What is under a tap is cut, grows, is replaced or goes: its users and points get what is true,
 * or an error that says so.
 */
import { rename, rm, truncate, writeFile } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { makeStampedImage } from '../../helpers/bytes/stamped-blocks.js';
import { difference, sizeOf } from '../../helpers/disks/images.js';
import { attachLoop, run } from '../../helpers/disks/loop-device.js';
import { nbdsh } from '../../helpers/disks/nbdsh.js';
import {
  EXIT_WARNINGS,
  lastResult,
  makeMachine,
  restore,
  runExpecting,
} from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { type BackupResult, type Tapped, tapped } from '../../helpers/worlds/tapped.js';

const BLOCK = 64 * KiB;
const SIZE = 4 * MiB;

async function fullImage(path: string): Promise<void> {
  const blockIndexes = Array.from({ length: SIZE / BLOCK }, (_, index) => index);
  await makeStampedImage(path, { sizeBytes: SIZE, blockSize: BLOCK, seed: 1, blockIndexes });
}

async function tappedImage(t: ExecutionContext): Promise<Tapped> {
  const machine = await makeMachine(t, 'source');
  await fullImage(`${machine.directory}/disk.img`);
  return tapped(t, { machine, source: `${machine.directory}/disk.img` });
}

const command = ({ source, name, at }: Tapped) => [
  ...['backup', source, '--name', name, '--store', at('store'), '--json'],
];

async function refusal(t: ExecutionContext, tap: Tapped): Promise<string> {
  return (await runExpecting(t, tap.machine, 1, ...command(tap))).stdout;
}

async function warned(t: ExecutionContext, tap: Tapped, text: RegExp): Promise<BackupResult> {
  const { stdout } = await runExpecting(t, tap.machine, EXIT_WARNINGS, ...command(tap));
  const result = lastResult<BackupResult>(stdout);
  t.is(result.point.warnings.length, 1);
  t.regex(result.point.warnings[0] ?? '', text);
  return result;
}

testWith(
  programs('nbdsh'),
  'an image that is cut: EIO, no point, and a write does not bring it back',
  async (t) => {
    const tap = await tappedImage(t);
    await tap.backup();
    await truncate(tap.source, SIZE / 2);
    const errors = await nbdsh(
      t,
      tap.uri,
      'h = connected()',
      `half, last = ${SIZE / 2}, ${SIZE - 4096}`,
      'result = [error(lambda: h.pread(4096, half)), error(lambda: h.pwrite(b"a" * 4096, last)),',
      '  error(lambda: h.zero(4096, half)), error(lambda: h.trim(4096, half)),',
      '  error(lambda: h.pread(4096, 0)), error(lambda: h.pwrite(b"a" * 4096, 0))]',
    );
    t.deepEqual(errors, ['EIO', 'EIO', 'EIO', 'EIO', null, null]);
    t.is(sizeOf(tap.source), SIZE / 2);
    t.regex(await refusal(t, tap), new RegExp(`it shrank from ${SIZE} to ${SIZE / 2} bytes under its tap`));
    const { stdout } = await runExpecting(t, tap.machine, 0, 'tap', 'status', tap.name);
    t.regex(stdout, /^disk: serving, its source has changed\n/);
    t.regex(stdout, / problem {3}it shrank from/);

    // Nobody wrote the zeros that are there now, and they are in no map.
    await truncate(tap.source, SIZE);
    const { point, tracking } = await warned(
      t,
      tap,
      /cut to 2097152 bytes under its tap, and has grown again/,
    );
    t.false(tracking.used);
    await restore(t, tap.machine, tap.at('store'), `disk@${point.sequence}`, tap.at('restored'));
    t.is(difference(tap.at('restored'), tap.source), null);
  },
);

testWith(
  programs('nbdsh'),
  'an image that is cut and grows again between two looks is read as a whole',
  async (t) => {
    const tap = await tappedImage(t);
    await tap.backup();
    await truncate(tap.source, SIZE / 2);
    await truncate(tap.source, SIZE);
    await nbdsh(t, tap.uri, 'result = connected().pwrite(b"a" * 4096, 0)');
    const { tracking } = await tap.checkPoint();
    t.false(tracking.used);
  },
);

testWith(programs('nbdsh'), 'an image that is cut while an instant is held gives no point', async (t) => {
  const tap = await tappedImage(t);
  await tap.backup();
  await nbdsh(t, tap.uri, 'result = connected().pwrite(b"a" * 4096, 0)');
  // What is cut off is in no map, and the session does not read it.
  const paused = await tap.pausedBackup();
  await truncate(tap.source, SIZE / 2);
  const cut = await paused.go();
  t.is(cut.code, 1);
  t.regex(cut.stdout, /it shrank from 4194304 to 2097152 bytes under its tap/);
});

testWith(
  programs('nbdsh'),
  'an image that is written to past its tap while an instant is held gives no point',
  async (t) => {
    const tap = await tappedImage(t);
    await tap.backup();
    await nbdsh(t, tap.uri, 'result = connected().pwrite(b"a" * 4096, 0)');
    const paused = await tap.pausedBackup();
    await writeFile(tap.source, 'past the tap', { flag: 'r+' });
    const { code, stdout } = await paused.go();
    t.is(code, 1);
    t.regex(stdout, /another process had it open for writing, past its tap/);
    t.false((await tap.checkPoint()).tracking.used);
  },
);

test('an image that grows: points of the old size, which say so; after a new start of the new size', async (t) => {
  const tap = await tappedImage(t);
  await tap.backup();
  await truncate(tap.source, 2 * SIZE);
  const { point } = await warned(t, tap, /it grew from 4194304 to 8388608 bytes under its tap/);
  t.is(point.geometry.sizeBytes, SIZE);
  await tap.kill();
  await tap.start();
  const next = await tap.checkPoint();
  t.is(next.point.geometry.sizeBytes, 2 * SIZE);
  t.false(next.tracking.used);
});

test('an image that is removed, or another one in its place, is not passed off as it', async (t) => {
  const tap = await tappedImage(t);
  await tap.backup();
  await rename(tap.source, tap.at('moved'));
  t.regex(await refusal(t, tap), /removed or renamed/);
  await fullImage(tap.source);
  t.regex(await refusal(t, tap), /something else is now in the place/);
  await rm(tap.source);
  await rename(tap.at('moved'), tap.source);
  t.true((await tap.checkPoint()).tracking.used);
});

testWith(['loop'], 'a block device that shrinks gives no point', async (t) => {
  const machine = await makeMachine(t, 'source');
  const backing = `${machine.directory}/backing`;
  await fullImage(backing);
  const loop = attachLoop(t, backing);
  const tap = await tapped(t, { machine, source: loop });
  await tap.backup();
  await truncate(backing, SIZE / 2);
  run('losetup', '--set-capacity', loop);
  t.regex(await refusal(t, tap), new RegExp(`it shrank from ${SIZE} to ${SIZE / 2} bytes under its tap`));
});

testWith(
  programs('qemu-img'),
  'a container is no raw disk: a tap refuses it, a backup says so',
  async (t) => {
    const machine = await makeMachine(t, 'source');
    for (const format of ['qcow2', 'vmdk', 'vhdx', 'vdi', 'vpc', 'parallels', 'qed']) {
      const image = `${machine.directory}/disk.${format}`;
      run('qemu-img', 'create', '-q', '-f', format, image, '64M');
      const { stderr } = await runExpecting(t, machine, 2, 'tap', 'add', image, '--no-start');
      t.regex(stderr, /it is a \w+ image: .*qemu-img convert .*--raw/, format);
    }
    const image = `${machine.directory}/disk.qcow2`;
    await runExpecting(t, machine, 0, 'tap', 'add', image, '--no-start', '--raw');
    const { stderr } = await runExpecting(
      t,
      machine,
      0,
      'backup',
      image,
      '--store',
      `${machine.directory}/store`,
    );
    t.regex(stderr, /it is a qcow2 image: .* The point is of the container/);
    const { stdout } = await runExpecting(t, machine, 0, 'inspect', image);
    t.regex(stdout, /^Not a raw disk: it is a qcow2 image/m);
  },
);
