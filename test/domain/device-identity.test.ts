import test from 'ava';
import { compareDevices } from '../../src/domain/device-identity.js';
import type { DeviceIdentity } from '../../src/domain/point.js';

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
  ['a moved image', image({ inode: '8:1/5' }), image({ inode: '8:1/5', path: '/b.img' })],
  ['an image after a restart', image({ inode: '8:1/5' }), image({ inode: '8:17/5' })],
  ['an image without inode', image({}), image({ inode: '8:1/5' })],
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
    disk({ serial: 's', byId: 'b' }),
    disk({ serial: 't', byId: 'c' }),
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
    /inode was "8:1\/5" and now is "8:1\/6"/,
  ],
  [
    'same inode number elsewhere',
    image({ inode: '8:1/5' }),
    image({ inode: '8:17/5', path: '/b.img' }),
    /inode/,
  ],
  ['other path, no inode', image({}), image({ path: '/b.img' }), /path was "\/a.img"/],
];

for (const [what, last, now] of SAME) {
  test(`the same device: ${what}`, (t) => {
    t.deepEqual(compareDevices(last, now), { same: true });
    t.deepEqual(compareDevices(now, last), { same: true });
  });
}

for (const [what, last, now, reason] of CHANGED) {
  test(`another device: ${what}`, (t) => {
    const comparison = compareDevices(last, now);
    t.regex(comparison.same ? '' : comparison.reason, reason);
    t.false(compareDevices(now, last).same);
  });
}
