/** An image in use, by commands: a mounted file system in it that is written to all the time. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Point } from '../../src/domain/point/point.js';
import {
  changeTree,
  FILESYSTEM_BYTES,
  fillTree,
  listTree,
  makeFilesystem,
} from '../helpers/disks/filesystem.js';
import { difference } from '../helpers/disks/images.js';
import { attachLoop, detachLoop, mount, run } from '../helpers/disks/loop-device.js';
import {
  lastResult,
  makeMachine,
  restore,
  run as runCommand,
  runExpecting,
} from '../helpers/machines/stillpoint.js';
import { programs, testWith } from '../helpers/requirements.js';
import { makeCloningDisk } from '../helpers/worlds/reflink.js';

/** It does not stop for anything. */
const BUSY = 'while :; do dd if=/dev/urandom of="$1/busy" bs=64k count=4 conv=notrunc status=none; done';

const addFile = (root: string): Promise<void> => writeFile(join(root, 'tree', 'more'), randomBytes(100_000));

testWith(
  ['root', 'loop', ...programs('mkfs.xfs', 'mkfs.ext4', 'e2fsck', 'qemu-img')],
  'a mounted file system in an image: clean at each point, only changes are read, and a restore over it is a change',
  async (t) => {
    const disk = await makeCloningDisk(t, 'xfs');
    const machine = await makeMachine(t, 'reflink');
    const at = (name: string) => join(machine.directory, name);
    const to = ['--store', at('store')];
    const { image } = disk;
    await writeFile(image, '');
    await truncate(image, FILESYSTEM_BYTES.ext4);
    makeFilesystem('ext4', image);
    const device = attachLoop(t, image);
    const mountPoint = at('inside');
    const unmount = await mount(t, device, mountPoint);
    const backup = async (...args: string[]) => {
      const { stdout } = await runExpecting(
        t,
        machine,
        0,
        'backup',
        image,
        ...to,
        '--name',
        'vm',
        '--json',
        ...args,
      );
      return lastResult<{ point: Point; tracking: { used: boolean; reason: string } }>(stdout);
    };
    await fillTree(mountPoint);
    const writer = spawn('sh', ['-c', BUSY, 'sh', mountPoint], { stdio: 'ignore' });
    t.teardown(() => writer.kill('SIGKILL'));
    const trees: string[] = [];
    for (const [index, write] of [async () => undefined, changeTree, addFile].entries()) {
      await write(mountPoint);
      trees.push(listTree(mountPoint));
      const { point, tracking } = await backup();
      t.like(point, { kind: 'filesystem', provider: 'reflink', warnings: [] });
      t.is(tracking.used, index > 0, tracking.reason);
      await restore(t, machine, at('store'), `vm@${index + 1}`, at(`restored-${index}`));
      const clone = join(disk.mountPoint, `.disk.img.stillpoint-${point.id}`);
      t.is(difference(clone, at(`restored-${index}`)), null);
      t.regex(
        run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', clone, at(`restored-${index}`)),
        /identical/,
      );
      run('e2fsck', '-f', '-n', at(`restored-${index}`));
    }
    writer.kill('SIGKILL');
    await once(writer, 'exit');
    for (const [index, tree] of trees.entries()) {
      const again = await mount(t, attachLoop(t, at(`restored-${index}`)), at(`mounted-${index}`), 'ro');
      t.is(listTree(at(`mounted-${index}`)), tree);
      again();
    }

    // A scan of everything finds what the extents told.
    unmount();
    detachLoop(device);
    t.like((await backup()).point, { kind: 'idle', provider: 'reflink' });
    const full = await backup('--full');
    t.like(full, { tracking: { used: false, reason: 'everything is to be read' } });
    t.is(full.point.statistics.changedBytes, 0);
    const inspected = await runCommand(machine, 'inspect', image);
    t.regex(inspected.stdout, new RegExp(`stillpoint-${full.point.id}, which the last backup kept`));

    await restore(t, machine, at('store'), 'vm@1', image, '--overwrite');
    const again = await backup();
    t.true(again.tracking.used, again.tracking.reason);
    t.is(difference(image, at('restored-0')), null);
    await restore(t, machine, at('store'), `vm@${again.point.sequence}`, at('again'));
    t.is(difference(at('again'), image), null);
    t.like(await runCommand(machine, 'compare', image, `vm@${again.point.sequence}`, ...to), { code: 0 });

    // The user may remove the clone at any time.
    const [clone = ''] = await disk.clones();
    await rm(join(disk.mountPoint, clone));
    t.like(await backup('--provider', 'reflink'), {
      tracking: { used: false, reason: 'no clone of the last point is kept' },
      point: { statistics: { changedBytes: 0 } },
    });
    t.is((await disk.clones()).length, 1);
  },
);
