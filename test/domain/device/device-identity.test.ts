import test from 'ava';
import { compareDevices } from '../../../src/domain/device/device-identity.js';
import type { DeviceIdentity } from '../../../src/domain/point/point.js';

const disk = (fields: Partial<DeviceIdentity>): DeviceIdentity => ({
  type: 'block',
  path: '/dev/sda',
  logicalSectorSize: 512,
  ...fields,
});
const image = (fields: Partial<DeviceIdentity>): DeviceIdentity =>
  disk({ type: 'image', path: '/a.img', ...fields });

const SAME: readonly [string, DeviceIdentity, DeviceIdentity][] = [
  ['a disk under another path', disk({ wwn: 'w' }), disk({ wwn: 'w', path: '/dev/sdb' })],
  [
    'a disk formatted anew',
    disk({ serial: 's', filesystemUuid: 'a' }),
    disk({ serial: 's', filesystemUuid: 'b' }),
  ],
  ['a disk of which less is known now', disk({ wwn: 'w', serial: 's' }), disk({ serial: 's' })],
  ['a disk with another sector size', disk({ wwn: 'w' }), disk({ wwn: 'w', logicalSectorSize: 4096 })],
  ['disks without any id', disk({}), disk({ path: '/dev/loop7' })],
  ['disks whose ids can’t be compared', disk({ wwn: 'w' }), disk({ serial: 's' })],
  [
    'a disk partitioned anew, known by its WWN',
    disk({ wwn: 'w', partitionTableUuid: 'a', content: 'gpt' }),
    disk({ wwn: 'w', partitionTableUuid: 'b', content: 'gpt' }),
  ],
  [
    'a partition formatted anew',
    disk({ partitionUuid: 'p', filesystemUuid: 'a', content: 'ext4' }),
    disk({ partitionUuid: 'p', filesystemUuid: 'b', content: 'xfs' }),
  ],
  [
    'a wiped disk that is known by its serial',
    disk({ serial: 's', filesystemUuid: 'a', content: 'ext4' }),
    disk({ serial: 's', content: 'none' }),
  ],
  [
    'a disk under another node, known by its table',
    disk({ partitionTableUuid: 'a', content: 'gpt' }),
    disk({ partitionTableUuid: 'a', content: 'gpt', path: '/dev/vdc' }),
  ],
  [
    'a generic serial changed with the place in the machine, and the table tells',
    disk({ serial: 'drive-scsi0', partitionTableUuid: 'a' }),
    disk({ serial: 'drive-scsi1', partitionTableUuid: 'a' }),
  ],
  ['only a generic serial', disk({ serial: 'QM00005' }), disk({ serial: 'QM00005' })],
  ['nobody could look for what is written on it', disk({ filesystemUuid: 'a', content: 'ext4' }), disk({})],
  [
    'a point of a time when less was known',
    disk({ filesystemUuid: 'a' }),
    disk({ filesystemUuid: 'a', partitionTableUuid: 'b', content: 'gpt' }),
  ],
  ['a blank disk', disk({ content: 'none' }), disk({ content: 'none', path: '/dev/loop7' })],
  [
    'a LUKS mapping opened under another name',
    disk({ byId: `dm-uuid-CRYPT-LUKS2-${'0a'.repeat(16)}-home` }),
    disk({ byId: `dm-uuid-CRYPT-LUKS2-${'0a'.repeat(16)}-spare` }),
  ],
  [
    'udev gives a name of another kind first',
    disk({ byId: 'ata-DISK_X1', wwn: 'w' }),
    disk({ byId: 'wwn-0x5000c500a1b2c3d4', wwn: 'w' }),
  ],
  ['a moved image', image({ inode: '8:1/5' }), image({ inode: '8:1/5', path: '/b.img' })],
  ['an image after a restart', image({ inode: '8:1/5' }), image({ inode: '8:17/5' })],
  ['an image without inode', image({}), image({ inode: '8:1/5' })],
];

/**
 * Not the other way round: what was blank may be formatted, and what had an id does not
 * lose it unless it is wiped.
 */
const SAME_ONE_WAY: readonly [string, DeviceIdentity, DeviceIdentity][] = [
  ['first mkfs', disk({ content: 'none' }), disk({ filesystemUuid: 'a', content: 'ext4' })],
  ['first partition table', disk({}), disk({ partitionTableUuid: 'a', content: 'gpt' })],
  [
    'first mkfs, and a generic serial',
    disk({ serial: 'QM00005', content: 'none' }),
    disk({ serial: 'QM00005', filesystemUuid: 'a', content: 'ext4' }),
  ],
];

const CHANGED: readonly [string, DeviceIdentity, DeviceIdentity, RegExp][] = [
  ['type', disk({}), image({}), /type was "block" and now is "image"/],
  ['WWN', disk({ wwn: 'w', serial: 's' }), disk({ wwn: 'x', serial: 's' }), /WWN was "w" and now is "x"/],
  [
    'partition of one disk',
    disk({ wwn: 'w', partitionUuid: 'p' }),
    disk({ wwn: 'w', partitionUuid: 'q' }),
    /partition UUID/,
  ],
  [
    'several',
    disk({ serial: 's', byId: 'ata-b' }),
    disk({ serial: 't', byId: 'ata-c' }),
    /serial number .*, its by-id name/,
  ],
  [
    'only the file system known',
    disk({ filesystemUuid: 'a' }),
    disk({ filesystemUuid: 'b' }),
    /file-system UUID/,
  ],
  [
    'image replaced',
    image({ inode: '8:1/5' }),
    image({ inode: '8:1/6' }),
    /^another file has its path, a copy of it for example: its inode was "8:1\/5" and now is "8:1\/6"$/,
  ],
  [
    'same inode number elsewhere',
    image({ inode: '8:1/5' }),
    image({ inode: '8:17/5', path: '/b.img' }),
    /inode/,
  ],
  [
    'another partition table',
    disk({ partitionTableUuid: 'a', content: 'gpt' }),
    disk({ partitionTableUuid: 'b', content: 'gpt' }),
    /partition-table id was "a" and now is "b"/,
  ],
  [
    'another table behind a serial that every VM has',
    disk({ serial: 'QM00005', byId: 'ata-QEMU_HARDDISK_QM00005', partitionTableUuid: 'a' }),
    disk({ serial: 'QM00005', byId: 'ata-QEMU_HARDDISK_QM00005', partitionTableUuid: 'b' }),
    /partition-table id/,
  ],
  [
    'another member of the same array',
    disk({ filesystemUuid: 'a', memberUuid: 'm', content: 'linux_raid_member' }),
    disk({ filesystemUuid: 'a', memberUuid: 'n', content: 'linux_raid_member' }),
    /member UUID/,
  ],
  [
    'a table in place of a file system',
    disk({ filesystemUuid: 'a', content: 'ext4' }),
    disk({ partitionTableUuid: 'b', content: 'gpt' }),
    /is gone, and it now has the/,
  ],
  [
    'contents that have no id',
    disk({ content: 'squashfs' }),
    disk({ content: 'dos' }),
    /content was "squashfs" and now is "dos"/,
  ],
  [
    'another place, and nothing else is known',
    disk({ serial: 'QM00001' }),
    disk({ serial: 'QM00005' }),
    /serial number/,
  ],
  ['other path, no inode', image({}), image({ path: '/b.img' }), /path was "\/a.img"/],
];

for (const [what, last, now] of SAME) {
  test(`the same device: ${what}`, (t) => {
    t.deepEqual(compareDevices(last, now), { same: true });
    t.deepEqual(compareDevices(now, last), { same: true });
  });
}

for (const [what, last, now] of SAME_ONE_WAY) {
  test(`the same device now: ${what}`, (t) => {
    t.deepEqual(compareDevices(last, now), { same: true });
  });
}

test('a device that had an id has none now: both possibilities are named', (t) => {
  const last = disk({ serial: 'drive-scsi0', filesystemUuid: 'a', content: 'ext4' });
  t.deepEqual(compareDevices(last, disk({ serial: 'drive-scsi0', content: 'none' })), {
    same: false,
    reason:
      'its file-system UUID "a" is gone, and now nothing is on it: it was wiped, or another device is in its place',
  });
  const comparison = compareDevices(last, disk({ content: 'squashfs' }));
  t.regex(comparison.same ? '' : comparison.reason, /now squashfs without an id is on it/);
});

for (const [what, last, now, reason] of CHANGED) {
  test(`another device: ${what}`, (t) => {
    const comparison = compareDevices(last, now);
    t.regex(comparison.same ? '' : comparison.reason, reason);
    t.false(compareDevices(now, last).same);
  });
}
