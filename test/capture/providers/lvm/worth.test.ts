/** What a snapshot is worth by what lies on its volume: real file systems, loop devices for volumes. */
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  hasBtrfs,
  hasUnfrozenJournal,
  worthOf,
  worthOfBoth,
} from '../../../../src/capture/providers/lvm/filesystems.js';
import { freeze } from '../../../../src/capture/quiesce/freeze.js';
import { native } from '../../../../src/native/index.js';
import { freezable } from '../../../helpers/disks/freezable.js';
import { attachLoop, mount, run, temporaryDirectory } from '../../../helpers/disks/loop-device.js';
import { programs, testWith } from '../../../helpers/requirements.js';

testWith(
  ['root', 'loop'],
  'a file system mounted from the volume itself is frozen by LVM; one in a file on it is not',
  async (t) => {
    const { device, mountPoint } = await freezable(t, 'ext4');
    t.like(await worthOf(device), { kind: 'filesystem', warnings: [] });
    const inner = join(mountPoint, 'inner.img');
    await writeFile(inner, Buffer.alloc(8 * 1024 * 1024));
    run('mkfs.ext4', '-q', '-F', inner);
    const at = await temporaryDirectory(t, 'inner');
    await mount(t, attachLoop(t, inner), at);
    const before = await worthOf(device);
    const warning = `${at} was not frozen: LVM freezes only what is mounted from the volume itself`;
    t.like(before, { kind: 'crash', warnings: [warning] });
    t.is(worthOfBoth(before, before), before);
    run('mount', '-o', 'remount,ro', at);
    const after = await worthOf(device);
    t.is(after.kind, 'filesystem');
    t.like(worthOfBoth(before, after), {
      kind: 'crash',
      warnings: ['what is mounted from it changed while the snapshot was taken'],
    });
    t.is(worthOfBoth(after, before).kind, 'crash');
  },
);

testWith(
  ['root', 'loop'],
  'a volume that nobody can write to is idle, one that is open is not',
  async (t) => {
    const path = join(await temporaryDirectory(t, 'worth'), 'disk.img');
    await writeFile(path, Buffer.alloc(1024 * 1024));
    const device = attachLoop(t, path);
    t.is((await worthOf(device)).kind, 'idle');
    const holder = await native.openDevice(device, { exclusive: true });
    t.is((await worthOf(device)).kind, 'crash');
    await holder.close();
    const writer = await native.openDevice(device, { write: true });
    t.is((await worthOf(device)).kind, 'crash');
    await writer.close();
  },
);

testWith(
  ['root', 'loop', ...programs('mkfs.btrfs')],
  'a mounted btrfs is told, and not frozen',
  async (t) => {
    const directory = await temporaryDirectory(t, 'worth');
    const path = join(directory, 'disk.img');
    await writeFile(path, '');
    run('truncate', '--size=128M', path);
    run('mkfs.btrfs', '-q', path);
    const device = attachLoop(t, path);
    t.false(await hasBtrfs(device));
    await mount(t, device, directory);
    t.true(await hasBtrfs(device));
    t.like(await worthOf(device), {
      kind: 'crash',
      warnings: [`${directory} was not frozen: LVM freezes no btrfs`],
    });
  },
);

testWith(['root', 'loop'], 'an ext4 shows whether it was frozen; what is none shows nothing', async (t) => {
  const { image, mountPoint, target } = await freezable(t, 'ext4');
  const copy = join(await temporaryDirectory(t, 'worth'), 'copy.img');
  const isUnfrozen = async (): Promise<boolean> => {
    await copyFile(image, copy);
    const device = await native.openDevice(copy);
    try {
      return await hasUnfrozenJournal(device);
    } finally {
      await device.close();
    }
  };
  await writeFile(join(mountPoint, 'file'), 'x');
  run('sync', '--file-system', mountPoint);
  t.true(await isUnfrozen());
  const frozen = await freeze([target], { deadlineMs: 20_000 });
  t.false(await isUnfrozen());
  t.true((await frozen.thaw()).intact);
  await writeFile(copy, Buffer.alloc(100));
  const small = await native.openDevice(copy);
  t.false(await hasUnfrozenJournal(small));
  await small.close();
});
