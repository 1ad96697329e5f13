/**
 * Whole disks: the kernel has the partitions of what was restored, and what misleads
 * on a larger disk is told.
 */
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import type { ExecutionContext } from 'ava';
import { runRestore } from '../../../src/agent/restore/restore.js';
import { rereadPartitions } from '../../../src/agent/target/partitions.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { attachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { writeGpt } from '../../helpers/disks/partition-table.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { BackupWorld } from '../../helpers/worlds/backup.js';

/** In sectors; of the partitions that the kernel has. */
async function startsOf(loop: string): Promise<number[]> {
  const directory = `/sys/block/${basename(loop)}`;
  const names = (await readdir(directory)).filter((name) => name.startsWith(basename(loop)));
  const starts = await Promise.all(names.map((name) => readFile(`${directory}/${name}/start`, 'utf8')));
  return starts.map(Number).sort((one, two) => one - two);
}

/** A point of a disk with two partitions. */
async function world(t: ExecutionContext) {
  const made = await BackupWorld.make(t);
  const at = (name: string) => `${made.image}-${name}`;
  await writeFile(made.image, '');
  await truncate(made.image, 64 * MiB);
  await writeGpt(made.image, 7, [
    { start: 2048, length: 20_480 },
    { start: 40_960, length: 20_480 },
  ]);
  const { point } = await made.backup();
  const restore = async (target: string) => {
    const notices: string[] = [];
    const { receiver, stateDirectory } = made;
    const onEvent: Parameters<typeof runRestore>[0]['onEvent'] = (event) => {
      if (event.type === 'notice') notices.push(event.text);
    };
    const { warnings } = await runRestore({ receiver, point, target, stateDirectory, onEvent });
    return { notices, warnings };
  };
  const disk = async (name: string, sizeBytes: number) => {
    await writeFile(at(name), '');
    await truncate(at(name), sizeBytes);
    return at(name);
  };
  return { ...made, restore, disk };
}

/** However the loop device was made; the kernel may know GPT or not. */
function forgetPartitions(t: ExecutionContext, loop: string): void {
  t.teardown(() => run('sh', '-c', `partx --delete ${loop} || true`));
}

for (const partitionScan of [true, false]) {
  testWith(
    ['root', 'loop', ...programs('partx', 'blockdev')],
    `the kernel has the new partitions, ${partitionScan ? 'with' : 'without'} its own scan of the loop device`,
    async (t) => {
      const { restore, disk } = await world(t);
      const path = await disk('other', 64 * MiB);
      await writeGpt(path, 9, [{ start: 4096, length: 20_000 }]);
      const loop = attachLoop(t, path, { partitionScan });
      forgetPartitions(t, loop);
      run('partx', '--update', loop);
      t.deepEqual(await startsOf(loop), [4096]);
      t.deepEqual(await restore(loop), { notices: [], warnings: [] });
      t.deepEqual(await startsOf(loop), [2048, 40_960]);

      // Of a content without a table there are none.
      run('dd', 'if=/dev/zero', `of=${loop}`, 'bs=1M', 'count=64', 'conv=fsync', 'status=none');
      t.deepEqual(await rereadPartitions(loop), []);
      t.deepEqual(await startsOf(loop), []);
    },
  );
}

testWith(
  ['root', 'loop', ...programs('partx', 'blockdev', 'mkfs.ext4')],
  'partitions that are in use: a warning with the remedy; a partition is no disk',
  async (t) => {
    const { disk, image } = await world(t);
    const path = await disk('other', 64 * MiB);
    await writeGpt(path, 9, [{ start: 4096, length: 20_480 }]);
    const loop = attachLoop(t, path);
    forgetPartitions(t, loop);
    run('partx', '--update', loop);
    run('mkfs.ext4', '-q', `${loop}p1`);
    await mount(t, `${loop}p1`, `${image}-mount`);
    run('dd', `if=${image}`, `of=${loop}`, 'bs=1M', 'conv=fsync', 'status=none');
    const [warning = '', ...others] = await rereadPartitions(loop);
    t.deepEqual(others, []);
    t.regex(
      warning,
      /the kernel still has the partitions of the former content of \/dev\/loop\d+ \(.+\): stop what uses them and run "partprobe \/dev\/loop/,
    );
    t.deepEqual(await rereadPartitions(`${loop}p1`), []);
  },
);

testWith(
  ['root', 'loop', ...programs('partx', 'wipefs')],
  'on a larger disk: where the second table is, and signatures behind the point',
  async (t) => {
    const { restore, disk } = await world(t);
    const blank = attachLoop(t, await disk('blank', 96 * MiB));
    forgetPartitions(t, blank);
    const larger = `${blank} is larger than the point; its last ${32 * MiB} bytes stay as they are`;
    const moved = (loop: string) =>
      `the second partition table of ${loop} is not at its end, where programs look for it: sgdisk --move-second-header ${loop}`;
    const isBlank = `${blank} looks blank, so it is written without being read first`;
    t.deepEqual((await restore(blank)).notices, [larger, isBlank, moved(blank)]);

    const path = await disk('former', 96 * MiB);
    await writeGpt(path, 9, [{ start: 4096, length: 20_000 }]);
    // An md superblock of version 1.0, as the former content had one at its end.
    const superblock = Buffer.alloc(256);
    superblock.writeUInt32LE(0xa92b_4efc, 0);
    superblock.writeUInt32LE(1, 4);
    const sector = (96 * MiB) / 512 - 16;
    superblock.writeBigUInt64LE(BigInt(sector), 144);
    run(
      'sh',
      '-c',
      `printf %s ${superblock.toString('base64')} | base64 -d | dd of=${path} bs=512 seek=${sector} conv=notrunc status=none`,
    );
    const loop = attachLoop(t, path);
    forgetPartitions(t, loop);
    const { notices } = await restore(loop);
    t.true(notices.includes(moved(loop)), notices.join('\n'));
    const offset = `0x${(sector * 512).toString(16)}`;
    const stale = `behind the point, ${loop} still has a signature of its former content (linux_raid_member) that may mislead: wipefs --offset ${offset} ${loop}`;
    t.true(notices.includes(stale), notices.join('\n'));
    run('wipefs', '--offset', offset, loop);
    t.deepEqual((await restore(loop)).notices.slice(1), [moved(loop)]);
  },
);

testWith(
  ['root', 'loop', ...programs('wipefs')],
  'a point without a table on a larger disk that had one: its second table is told',
  async (t) => {
    const made = await BackupWorld.make(t);
    await made.makeImage(8 * MiB, [0, 3, 5]);
    const { point } = await made.backup();
    const path = `${made.image}-other`;
    await writeFile(path, '');
    await truncate(path, 32 * MiB);
    await writeGpt(path, 9, [{ start: 4096, length: 20_000 }]);
    const target = attachLoop(t, path);
    const notices: string[] = [];
    await runRestore({
      ...{ receiver: made.receiver, point, target, stateDirectory: made.stateDirectory },
      onEvent: (event) => event.type === 'notice' && notices.push(event.text),
    });
    const offset = `0x${(32 * MiB - 512).toString(16)}`;
    t.regex(
      notices.at(-1) ?? '',
      new RegExp(`former content \\(gpt\\) that may mislead: wipefs --offset ${offset} ${target}$`),
    );
  },
);
