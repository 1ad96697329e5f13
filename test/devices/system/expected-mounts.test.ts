import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  findUnmounted,
  mountPointsOfFstab,
  mountPointsOfUnit,
  unmountedAbove,
} from '../../../src/devices/system/expected-mounts.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';

test('mount points of an fstab: not the root, swap, comments', (t) => {
  const text = `# /dev/sda9 /commented ext4
UUID=1 / ext4 defaults 0 1
UUID=2\tnone swap sw 0 0
/dev/sdb1  /mnt/my\\040disk/  ext4 noauto 0 2
  LABEL=x /srv nfs4 x-systemd.automount

half`;
  t.deepEqual(mountPointsOfFstab(text), ['/mnt/my disk', '/srv']);
});

test('the mount point of a systemd unit', (t) => {
  t.deepEqual(mountPointsOfUnit('[Mount]\nWhat=/dev/sdb1\nWhere = /mnt/disk\n'), ['/mnt/disk']);
  t.deepEqual(mountPointsOfUnit('[Mount]\nWhat=/dev/sdb1\n'), []);
});

test('the deepest mount point at or above a path that nothing is mounted on', (t) => {
  const points = ['/mnt', '/mnt/a', '/mnt/ab', '/srv'];
  const mounted = (...paths: string[]) => paths.map((mountPoint) => ({ mountPoint, type: 'ext4' }));
  t.is(unmountedAbove('/mnt/a/store', points, []), '/mnt/a');
  t.is(unmountedAbove('/mnt/a', points, []), '/mnt/a');
  t.is(unmountedAbove('/mnt/a/store', points, mounted('/mnt/a')), '/mnt');
  t.is(unmountedAbove('/mnt/a/store', points, mounted('/mnt/a', '/mnt')), null);
  t.is(unmountedAbove('/mnt/abc', points, mounted('/mnt')), null);
  t.is(unmountedAbove('/srv/x', points, [{ mountPoint: '/srv', type: 'autofs' }]), '/srv', 'only a trigger');
});

test('what the machine says: its fstab and units; what can’t be read says nothing', async (t) => {
  const directory = await temporaryDirectory(t, 'fstab');
  const [fstab, units] = [join(directory, 'fstab'), join(directory, 'units')];
  const sources = { fstab, unitDirectories: [units, join(directory, 'missing')] };
  t.is(await findUnmounted(join(directory, 'disk/store'), sources), null);
  await writeFile(fstab, `UUID=1 ${directory}/disk ext4 defaults 0 2\n/dev/x /proc proc defaults 0 0\n`);
  await mkdir(units);
  await writeFile(join(units, 'other.mount'), `[Mount]\nWhere=${directory}/other\n`);
  t.is(await findUnmounted(join(directory, 'disk/store'), sources), join(directory, 'disk'));
  t.is(await findUnmounted(join(directory, 'other'), sources), join(directory, 'other'));
  t.is(await findUnmounted('/proc/1', sources), null, 'it is mounted');
});
