/**
 * What goes wrong below a tap: its users learn of it as NBD says it, nothing that they wrote is missed, and a
 * backup fails before a write does.
 */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { makeStampedImage } from '../../helpers/bytes/stamped-blocks.js';
import { difference, readRange } from '../../helpers/disks/images.js';
import { attachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { NBD_FUSE_REQUIREMENTS, nbdFile } from '../../helpers/disks/nbd-fuse.js';
import { nbdsh } from '../../helpers/disks/nbdsh.js';
import { BAD_SECTOR_REQUIREMENTS, badSectorDevice } from '../../helpers/faults/bad-sectors.js';
import {
  backupExpecting,
  EXIT_WARNINGS,
  makeMachine,
  restore,
  restoreExpecting,
  run as stillpoint,
} from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { client, succeeds, type Tapped, tapped } from '../../helpers/worlds/tapped.js';

const BLOCK = 64 * KiB;
const SIZE = 4 * MiB;
const ALL = Array.from({ length: SIZE / BLOCK }, (_, index) => index);

function image(path: string, seed: number): Promise<void> {
  return makeStampedImage(path, { sizeBytes: SIZE, blockSize: BLOCK, seed, blockIndexes: ALL });
}

/**
 * A tapped image full of data that has one point, and after it was written anew from one end to the other.
 */
async function overwritten(t: ExecutionContext, ...args: string[]): Promise<Tapped> {
  const machine = await makeMachine(t, 'errors');
  const at = (name: string) => `${machine.directory}/${name}`;
  for (const [index, name] of ['disk.img', 'second', 'third'].entries()) await image(at(name), index);
  const tap = await tapped(t, { machine, source: at('disk.img'), args });
  await tap.backup();
  await succeeds(t, 'nbdcopy', at('second'), tap.uri);
  return tap;
}

/** The map is kept, and is enough: the next backup reads what it names, and has all. */
async function nextIsRight(t: ExecutionContext, tap: Tapped): Promise<void> {
  const { map, hold } = (await tap.report()).status;
  t.is(hold, null);
  t.is(map.pointIds?.length === 0, false, map.reason);
  const { point } = await tap.checkPoint();
  t.is(point.statistics.changedBytes, SIZE);
  t.is(difference(tap.source, tap.at('third')), null);
}

testWith(programs('nbdcopy'), 'a full preserve area fails the backup, never a write', async (t) => {
  const tap = await overwritten(t, '--preserve-max', '1M');
  const paused = await tap.pausedBackup();
  await succeeds(t, 'nbdcopy', tap.at('third'), tap.uri);
  const { code, stdout: said } = await paused.go();
  t.is(code, 1);
  t.regex(said, /the preserve area of 1048576 bytes is full/);
  t.regex(said, new RegExp(`would have needed at most ${SIZE} bytes`));
  await nextIsRight(t, tap);
});

testWith(programs('nbdcopy'), 'with --throttle writes wait for the backup instead', async (t) => {
  const tap = await overwritten(t, '--preserve-max', '1M', '--throttle');
  const paused = await tap.pausedBackup();
  const writing = client('nbdcopy', tap.at('third'), tap.uri);
  let written = false;
  void writing.then(() => {
    written = true;
  });
  while ((await tap.report()).status.hold?.preservedBytes !== MiB) t.false(written);
  t.false(written);
  const { code, stderr } = await paused.go();
  t.is(code, 0, stderr);
  t.is((await writing).code, 0);
  await restore(t, tap.machine, tap.at('store'), 'disk@2', tap.at('restored-second'));
  t.is(difference(tap.at('restored-second'), tap.at('second')), null, 'the instant, and nothing after it');
  await nextIsRight(t, tap);
});

testWith(
  ['root', ...programs('nbdcopy')],
  'a preserve directory on a full file system fails the backup, never a write',
  async (t) => {
    const machine = await makeMachine(t, 'full');
    const directory = `${machine.directory}/small`;
    await mount(t, 'tmpfs', directory, 'size=512k', 'tmpfs');
    const tap = await overwritten(t, '--preserve-dir', `${directory}/preserve`, '--preserve-max', '64M');
    const paused = await tap.pausedBackup();
    await succeeds(t, 'nbdcopy', tap.at('third'), tap.uri);
    const { code, stdout: said } = await paused.go();
    t.is(code, 1);
    t.regex(said, /preserve area could not be written.*ENOSPC|No space left/i);
    await nextIsRight(t, tap);
  },
);

testWith(
  ['root', 'loop', ...programs('mkfs.ext4')],
  'a preserve directory on what is tapped is refused',
  async (t) => {
    const machine = await makeMachine(t, 'own');
    const at = (name: string) => `${machine.directory}/${name}`;
    run('truncate', '--size', String(SIZE), at('disk.img'));
    run('mkfs.ext4', '-q', '-F', at('disk.img'));
    const loop = attachLoop(t, at('disk.img'));
    await mount(t, loop, at('mnt'));
    await mkdir(at('mnt/preserve'));
    for (const source of [at('disk.img'), loop]) {
      const { code, stderr } = await stillpoint(
        machine,
        ...['tap', 'add', source, '--name', 'own', '--preserve-dir', at('mnt/preserve')],
      );
      t.is(code, 2);
      t.regex(stderr, /the tap itself serves/);
    }
  },
);

testWith(
  ['root', ...programs('nbdsh')],
  'no room below an image: ENOSPC, and everything else goes on',
  async (t) => {
    const machine = await makeMachine(t, 'nospace');
    const directory = `${machine.directory}/small`;
    await mount(t, 'tmpfs', directory, 'size=4m', 'tmpfs');
    await writeFile(`${directory}/filler`, Buffer.alloc(3 * MiB));
    const source = `${directory}/disk.img`;
    run('truncate', '--size', String(SIZE), source);
    const tap = await tapped(t, { machine, source });
    await tap.backup();
    const errors = await nbdsh(
      t,
      tap.uri,
      'h = connected()',
      'piece = b"no room " * 8192',
      'result = [error(lambda: h.pwrite(piece, at * 65536)) for at in range(32)]',
      'result.append(error(lambda: h.pread(65536, 0)))',
      'result.append(error(lambda: h.flush()))',
    );
    const written = (errors as unknown[]).slice(0, 32);
    const failed = written.filter((error) => error !== null).length;
    t.true(failed > 12 && failed < 32, JSON.stringify(errors));
    t.deepEqual(new Set(written), new Set([null, 'ENOSPC']));
    t.deepEqual((errors as unknown[]).slice(32), [null, null]);
    const { map, counters } = (await tap.report()).status;
    t.is(map.writtenBlocks, 32, 'also what failed');
    t.is(counters.errors, failed);
    await tap.checkPoint();
    await rm(`${directory}/filler`);
    const after = await nbdsh(
      t,
      tap.uri,
      'h = connected()',
      'result = [error(lambda: h.pwrite(b"room" * 16384, at * 65536)) for at in range(32)]',
      'result.append(error(lambda: h.flush()))',
    );
    t.deepEqual(after, Array(33).fill(null));
    await tap.checkPoint();
  },
);

testWith(
  [...NBD_FUSE_REQUIREMENTS, ...programs('nbdkit', 'nbdsh')],
  'a device that fails to write: EIO, and its blocks are read by the next backup',
  async (t) => {
    const machine = await makeMachine(t, 'write-errors');
    const at = (name: string) => `${machine.directory}/${name}`;
    await image(at('disk.img'), 1);
    const disk = await nbdFile(t, at('nbd'), [
      ...['--command', 'nbdkit', '-s', '--exit-with-parent', '--filter=error', 'file', at('disk.img')],
      ...['error-pwrite=EIO', 'error-pwrite-rate=1', `error-pwrite-file=${at('fails')}`],
    ]);
    const loop = attachLoop(t, disk.path);
    const tap = await tapped(t, { machine, source: loop });
    await tap.backup();
    await writeFile(at('fails'), '');
    const failed = await nbdsh(
      t,
      tap.uri,
      'h, other = connected(), connected()',
      'result = [error(lambda: h.pwrite(b"a" * 65536, 0, nbd.CMD_FLAG_FUA))]',
      'result.append(error(lambda: h.flush()))',
      'result.append(error(lambda: other.flush()))',
    );
    t.deepEqual(failed, ['EIO', 'EIO', 'EIO']);
    t.is((await tap.report()).status.map.writtenBlocks, 1);
    await rm(at('fails'));
    // The kernel has told of it once: what the tap answers must not become better by that.
    const later = await nbdsh(t, tap.uri, 'result = error(lambda: connected().flush())');
    t.is(later, 'EIO');
    await tap.kill();
    await tap.start();
    const { point } = await tap.backup();
    t.true(point.statistics.scannedBytes >= BLOCK);
    await restore(t, machine, at('store'), 'disk@latest', at('restored'));
    t.is(difference(at('restored'), loop), null);
  },
);

testWith(
  [...BAD_SECTOR_REQUIREMENTS, ...programs('nbdsh')],
  'bad sectors: EIO for who reads them, and named in the point',
  async (t) => {
    const machine = await makeMachine(t, 'read-errors');
    const at = (name: string) => `${machine.directory}/${name}`;
    await image(at('disk.img'), 1);
    const device = await badSectorDevice(t, machine.directory, at('disk.img'));
    const bad = { byteOffset: 40 * BLOCK + 8 * KiB, byteLength: 4 * KiB };
    await device.setBad([bad]);
    const tap = await tapped(t, { machine, source: device.path, args: ['--read-only'] });
    const errors = await nbdsh(
      t,
      tap.uri,
      'h = connected()',
      `at = ${bad.byteOffset}`,
      'result = [error(lambda: h.pread(4096, at)), error(lambda: h.pread(65536, 40 * 65536)),',
      '  error(lambda: h.pread(4096, at - 4096)), error(lambda: h.pread(4096, at + 4096))]',
    );
    t.deepEqual(errors, ['EIO', 'EIO', null, null]);
    const args = ['--name', tap.name] as const;
    const point = await backupExpecting(t, machine, EXIT_WARNINGS, at('store'), device.path, ...args);
    t.deepEqual(point.badRanges, [{ ...bad, content: 'filler' }]);
    await restoreExpecting(t, machine, EXIT_WARNINGS, at('store'), 'disk@latest', at('restored'));
    const [restored, original] = [
      await readRange(at('restored'), 0, SIZE),
      await readRange(at('disk.img'), 0, SIZE),
    ];
    const end = bad.byteOffset + bad.byteLength;
    t.true(restored.subarray(0, bad.byteOffset).equals(original.subarray(0, bad.byteOffset)));
    t.true(restored.subarray(end).equals(original.subarray(end)));
  },
);
