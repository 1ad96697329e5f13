/** A disk with a partition table, a file system and swap: backed up without swap, restored, and used. */
import { existsSync } from 'node:fs';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../src/domain/base/limits.js';
import type { Point } from '../../src/domain/point/point.js';
import { attachLoop, detachLoop, temporaryDirectory, run as tool } from '../helpers/disks/loop-device.js';
import { writeGpt } from '../helpers/disks/partition-table.js';
import { lastResult, makeMachine, runExpecting } from '../helpers/machines/stillpoint.js';
import { programs, testWith } from '../helpers/requirements.js';

const SIZE = 48 * MiB;
const SECTOR = 512;
const [ROOT, SWAP, DATA] = [
  { start: MiB, length: 16 * MiB },
  { start: 17 * MiB, length: 12 * MiB },
  { start: 29 * MiB, length: 18 * MiB },
];

function attach(t: ExecutionContext, image: string): string {
  const loop = attachLoop(t, image, { partitionScan: true });
  for (const [n, { start, length }] of [ROOT, SWAP, DATA].entries()) {
    // A kernel without GPT support has to be told.
    if (!existsSync(`${loop}p${n + 1}`))
      tool('addpart', loop, String(n + 1), String(start / SECTOR), String(length / SECTOR));
  }
  return loop;
}

testWith(
  ['root', 'loop', ...programs('mkfs.ext4', 'fsck.ext4', 'mkswap', 'blkid', 'addpart')],
  'a disk without its swap: the table, file systems and swap itself work after a restore',
  async (t) => {
    const directory = await temporaryDirectory(t);
    const [image, target] = [join(directory, 'disk.img'), join(directory, 'restored.img')];
    const store = join(directory, 'store');
    const file = await open(image, 'w');
    await file.truncate(SIZE);
    await file.close();
    await writeGpt(
      image,
      9,
      [ROOT, SWAP, DATA].map(({ start, length }) => ({ start: start / SECTOR, length: length / SECTOR })),
    );
    const loop = attach(t, image);
    tool('mkfs.ext4', '-q', `${loop}p1`);
    tool('mkswap', '--uuid', '11111111-2222-3333-4444-555555555555', `${loop}p2`);
    tool('mkfs.ext4', '-q', `${loop}p3`);
    const swap = await open(`${loop}p2`, 'r+');
    await swap.write(Buffer.alloc(4 * MiB, 'secret'), 0, 4 * MiB, 6 * MiB);
    await swap.sync();
    await swap.close();
    const machine = await makeMachine(t, 'host');
    const backup = async (...options: string[]) => {
      const args = ['backup', loop, '--name', 'disk', '--store', store, '--json', ...options];
      return lastResult<{ point: Point }>((await runExpecting(t, machine, 0, ...args)).stdout).point;
    };
    const point = await backup('--exclude-swap');
    const excluded = [
      { byteOffset: SWAP.start + 65_536, byteLength: SWAP.length - 3 * 65_536, reason: 'partition 2, swap' },
    ];
    t.deepEqual(point.excluded, excluded);
    const listed = await runExpecting(t, machine, 0, 'points', '--store', store);
    t.regex(listed.stdout, /disk@1: leaves out partition 2, swap: 11\.8 MiB, zeros in the point/);
    const restored = await runExpecting(t, machine, 0, 'restore', 'disk@1', target, '--store', store);
    t.regex(restored.stderr, /disk@1 leaves out partition 2, swap/);
    detachLoop(loop);
    const bytes = await readFile(image);
    bytes.fill(0, SWAP.start + 65_536, SWAP.start + SWAP.length);
    t.true(bytes.equals(await readFile(target)));
    const disk = attach(t, target);
    t.regex(tool('blkid', '-p', '-o', 'export', disk), /PTTYPE=gpt/);
    for (const partition of [1, 3]) tool('fsck.ext4', '-f', '-n', `${disk}p${partition}`);
    t.regex(tool('blkid', '-p', `${disk}p2`), /UUID="11111111-2222-3333-4444-555555555555".*TYPE="swap"/);
    detachLoop(disk);
    await rm(target);

    const again = attach(t, image);
    const some = await runExpecting(
      t,
      machine,
      0,
      ...['backup', again, '--name', 'disk', '--store', store, '--accept-identity', '--partitions', '1'],
    );
    t.regex(some.stdout, /left out partition 2; partition 3: 30(\.0)? MiB/);
    t.regex(some.stderr, /not the same as in disk@1/);
  },
);
