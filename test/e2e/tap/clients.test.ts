/**
 * NBD clients that others have written, against a tap: what they write is in the image, and in the
 * point that is made of it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { makeStampedImage } from '../../helpers/bytes/stamped-blocks.js';
import { allocatedBytes, difference, readRange } from '../../helpers/disks/images.js';
import { attachLoop, detachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { NBD_FUSE_REQUIREMENTS, nbdFile } from '../../helpers/disks/nbd-fuse.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { client, DATA_BYTES, succeeds, tapped, tappedData } from '../../helpers/worlds/tapped.js';

const SIZE = 16 * MiB;
const BLOCK = 64 * KiB;

testWith(programs('nbdinfo'), 'nbdinfo sees the export as it is', async (t) => {
  const tap = await tappedData(t, '--export', 'a disk/1');
  const about = JSON.parse(await succeeds(t, 'nbdinfo', '--json', tap.uri));
  t.is(about.protocol, 'newstyle-fixed');
  t.true(about.structured);
  t.like(about.exports[0], {
    ...{ 'export-name': 'a disk/1', 'export-size': DATA_BYTES, is_read_only: false, is_rotational: false },
    ...{ can_cache: true, can_df: true, can_fast_zero: true, can_flush: true, can_fua: true },
    ...{ can_multi_conn: true, can_trim: true, can_zero: true },
    ...{ block_size_minimum: 512, block_size_preferred: 4096, block_size_maximum: 32 * MiB },
    contexts: ['base:allocation'],
  });
  const list = JSON.parse(await succeeds(t, 'nbdinfo', '--list', '--json', tap.uri));
  t.deepEqual(
    list.exports.map((entry: Record<string, unknown>) => entry['export-name']),
    ['a disk/1'],
  );
  const wrong = await client('nbdinfo', tap.uri.replace('disk', 'disc'));
  t.not(wrong.code, 0);
  t.regex(wrong.stderr, /No such file or directory|ENOENT/);

  const map = JSON.parse(await succeeds(t, 'nbdinfo', '--map', '--json', tap.uri)) as {
    offset: number;
    length: number;
    type: number;
  }[];
  const data = map.filter(({ type }) => type === 0).map(({ offset, length }) => [offset, length]);
  t.deepEqual(data, [
    [BLOCK, 3 * BLOCK],
    [100 * BLOCK, BLOCK],
    [255 * BLOCK, BLOCK],
  ]);
  t.true(map.every(({ type }) => type === 0 || type === 3));
  t.is(
    map.reduce((sum, { length }) => sum + length, 0),
    DATA_BYTES,
  );
});

testWith(programs('nbdcopy', 'nbdinfo'), 'nbdcopy copies out and in, over TCP too', async (t) => {
  const tap = await tappedData(t, '--listen', 'tcp:127.0.0.1:0');
  t.regex(tap.uri, /^nbd:\/\/127\.0\.0\.1:\d+\/disk$/);
  await succeeds(t, 'nbdcopy', '--connections=4', tap.uri, tap.at('out'));
  t.is(difference(tap.at('out'), tap.source), null);
  await tap.checkPoint();
  const blockIndexes = Array.from({ length: 256 }, (_, index) => index).filter((index) => index % 5 !== 1);
  await makeStampedImage(tap.at('in'), { sizeBytes: DATA_BYTES, blockSize: BLOCK, seed: 4, blockIndexes });
  await succeeds(t, 'nbdcopy', '--connections=4', '--flush', tap.at('in'), tap.uri);
  t.is(difference(tap.at('in'), tap.source), null);
  const { point } = await tap.checkPoint();
  t.true(point.statistics.changedBytes <= (blockIndexes.length + 5) * BLOCK);
  t.true((await allocatedBytes(tap.source)) < SIZE - 40 * BLOCK, 'its holes are holes there');
});

testWith(programs('qemu-img'), 'qemu-img reads, compares and converts', async (t) => {
  const tap = await tappedData(t);
  await tap.backup();
  const about = JSON.parse(await succeeds(t, 'qemu-img', 'info', '--output=json', '-f', 'raw', tap.uri));
  t.is(about['virtual-size'], DATA_BYTES);
  const compare = (path: string) => client('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', tap.uri, path);
  await succeeds(t, 'qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', tap.uri, tap.at('out.qcow2'));
  await succeeds(t, 'qemu-img', 'convert', '-O', 'raw', tap.at('out.qcow2'), tap.at('out'));
  t.is(difference(tap.at('out'), tap.source), null);
  await makeStampedImage(tap.at('in'), {
    ...{ sizeBytes: DATA_BYTES, blockSize: BLOCK, seed: 4, blockIndexes: [0, 2, 100, 256] },
  });
  t.is((await compare(tap.at('in'))).code, 1);
  await succeeds(t, 'qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', tap.at('in'), tap.uri);
  t.is((await compare(tap.at('in'))).code, 0);
  t.is(difference(tap.at('in'), tap.source), null);
  t.true((await tap.checkPoint()).tracking.used);
});

testWith(programs('qemu-io'), 'qemu-io: every command, aligned and not', async (t) => {
  const tap = await tapped(t, { sizeBytes: SIZE });
  await tap.backup();
  const io = async (...commands: string[]) => {
    const { code, stdout, stderr } = await client(
      'qemu-io',
      ...['--cache', 'none', '-f', 'raw', '-d', 'unmap'],
      ...commands.flatMap((command) => ['-c', command]),
      tap.uri,
    );
    return { code, text: `${stdout}${stderr}` };
  };
  const done = await io(
    ...['write -P 1 0 1M', 'aio_write -P 2 1M 1M', 'aio_write -P 3 2M 64k', 'aio_flush'],
    ...['write -f -P 4 3M 4k', 'write -P 5 5000 777', 'write -P 6 16777215 1'],
    ...['write -z 64k 64k', 'write -z -u 192k 64k', 'write -z 300000 100', 'discard 1M 512k', 'flush'],
    ...['read -P 0 64k 64k', 'read -P 0 192k 64k', 'read -P 1 128k 64k', 'read -P 5 5000 777'],
    ...['read -P 0 300000 100', 'read -P 0 1M 512k', 'read -P 2 1536k 512k', 'read -P 3 2M 64k'],
    ...['read -P 4 3M 4k', 'read -P 6 16777215 1', 'aio_read -P 2 1536k 128k', 'aio_flush'],
  );
  t.is(done.code, 0, done.text);
  t.notRegex(done.text, /verification failed|error/i);
  const image = await readRange(tap.source, 0, SIZE);
  for (const [byteOffset, byteLength, value] of [
    ...([
      [0, 4096, 1],
      [5000, 777, 5],
      [5777, 59_759, 1],
      [65_536, 65_536, 0],
    ] as const),
    ...([
      [131_072, 65_536, 1],
      [3 * MiB, 4096, 4],
      [SIZE - 1, 1, 6],
    ] as const),
  ]) {
    t.deepEqual(image.subarray(byteOffset, byteOffset + byteLength), Buffer.alloc(byteLength, value));
  }
  t.true((await tap.checkPoint()).tracking.used);
});

testWith(programs('qemu-nbd', 'nbdcopy'), 'qemu-nbd serves a tap on to others', async (t) => {
  const tap = await tappedData(t);
  await tap.backup();
  const socket = tap.at('qemu.sock');
  const server = spawn(
    'qemu-nbd',
    ['-f', 'raw', '-k', socket, '--persistent', '--shared=4', '--cache=none', '--discard=unmap', tap.uri],
    { stdio: 'ignore' },
  );
  const ended = once(server, 'exit');
  t.teardown(() => server.kill('SIGKILL'));
  while (!existsSync(socket)) {
    if (server.exitCode !== null) throw new Error('qemu-nbd does not start');
    await sleep(20);
  }
  const through = `nbd+unix:///?socket=${socket}`;
  await succeeds(t, 'nbdcopy', through, tap.at('out'));
  t.is(difference(tap.at('out'), tap.source), null);
  const blockIndexes = Array.from({ length: 200 }, (_, index) => index + 7);
  await makeStampedImage(tap.at('in'), { sizeBytes: DATA_BYTES, blockSize: BLOCK, seed: 8, blockIndexes });
  await succeeds(t, 'nbdcopy', '--flush', tap.at('in'), through);
  server.kill('SIGTERM');
  await ended;
  t.is(difference(tap.at('in'), tap.source), null);
  t.true((await tap.checkPoint()).tracking.used);
});

testWith(
  programs('fio'),
  'fio: several jobs on connections of their own read back what they wrote',
  async (t) => {
    const jobs = 4;
    const tap = await tapped(t, { sizeBytes: jobs * SIZE, args: ['--block-size', '16K'] });
    const fio = async (seed: number) => {
      const printed = await succeeds(
        t,
        'fio',
        ...['--name=verified', '--ioengine=nbd', `--uri=${tap.uri}`, '--output-format=json'],
        ...['--rw=randwrite', '--bsrange=512-200k', '--blockalign=512', `--randseed=${seed}`],
        ...[`--size=${SIZE}`, `--offset_increment=${SIZE}`, `--numjobs=${jobs}`, '--iodepth=16'],
        ...[
          '--fsync=64',
          '--verify=crc32c',
          '--do_verify=1',
          '--verify_fatal=1',
          '--verify_backlog=32',
          '--verify_state_save=0',
        ],
      );
      const { jobs: reports } = JSON.parse(printed.slice(printed.indexOf('{'))) as {
        jobs: { error: number; write: { io_bytes: number }; read: { io_bytes: number } }[];
      };
      t.is(reports.length, jobs);
      for (const { error, write, read } of reports) {
        t.is(error, 0);
        t.true(write.io_bytes > SIZE / 2 && read.io_bytes >= write.io_bytes, JSON.stringify({ write, read }));
      }
    };
    await tap.backup();
    await fio(1);
    t.true((await tap.checkPoint()).tracking.used);
    await tap.backup('--block-size', '16K');
    await fio(2);
    t.true((await tap.checkPoint()).tracking.used);
    t.is((await tap.report()).status.counters.errors, 0);
  },
);

testWith(
  [...NBD_FUSE_REQUIREMENTS, ...programs('mkfs.ext4', 'e2fsck', 'fstrim')],
  'ext4 on a tap, by nbdfuse and a loop device',
  async (t) => {
    const tap = await tapped(t, { sizeBytes: 4 * SIZE });
    await tap.backup();
    const disk = await nbdFile(t, tap.at('nbd'), [tap.uri]);
    const loop = attachLoop(t, disk.path);
    await succeeds(t, 'mkfs.ext4', '-q', loop);
    const mountPoint = tap.at('mnt');
    const unmount = await mount(t, loop, mountPoint);
    const content = Buffer.alloc(3 * MiB + 17, 'what is written to a file on a tap; ');
    for (const name of ['kept', 'removed']) await writeFile(join(mountPoint, name), content);
    run('sync', '--file-system', mountPoint);
    const before = await allocatedBytes(tap.source);
    run('rm', join(mountPoint, 'removed'));
    run('sync', '--file-system', mountPoint);
    await succeeds(t, 'fstrim', mountPoint);
    const after = await allocatedBytes(tap.source);
    t.true(after <= before - 2 * MiB, `a trim gives room back: ${before} to ${after} bytes`);
    unmount();
    detachLoop(loop);
    await disk.unmount();
    const { tracking, point } = await tap.checkPoint();
    t.true(tracking.used);
    await succeeds(t, 'e2fsck', '-fn', tap.source);
    const restored = attachLoop(t, tap.at(`restored-${point.sequence}`), { readOnly: true });
    await mount(t, restored, tap.at('restored-mnt'), 'ro');
    await writeFile(tap.at('content'), content);
    t.is(difference(tap.at('restored-mnt/kept'), tap.at('content')), null);
  },
);
