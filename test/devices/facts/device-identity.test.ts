import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { readDeviceIdentity } from '../../../src/devices/facts/device-identity.js';
import { makeStampedImage } from '../../helpers/bytes/stamped-blocks.js';
import { attachLoop, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { attachPartitioned } from '../../helpers/disks/partition-table.js';
import { testWith } from '../../helpers/requirements.js';

const MIB = 1024 * 1024;

test('an image is identified by its inode, also through a link', async (t) => {
  const directory = await temporaryDirectory(t, 'identity');
  const path = join(directory, 'disk.img');
  await makeStampedImage(path, { sizeBytes: MIB, blockSize: 65_536, seed: 1, blockIndexes: [] });
  run('ln', '-s', path, join(directory, 'link'));
  const identity = await readDeviceIdentity(join(directory, 'link'), 512);
  t.deepEqual(identity, await readDeviceIdentity(path, 512));
  t.is(identity.path, path);
  t.is(identity.inode?.split('/')[1], String((await stat(path)).ino));
  t.deepEqual(
    Object.values(identity).filter((value) => value === undefined || value === null),
    [],
  );
});

testWith(
  ['root', 'loop', { program: 'mkfs.ext4' }, { program: 'blkid' }],
  'a partition has its own UUID and its file system’s',
  async (t) => {
    const path = join(await temporaryDirectory(t, 'identity'), 'disk.img');
    await makeStampedImage(path, { sizeBytes: 64 * MIB, blockSize: 65_536, seed: 1, blockIndexes: [] });
    const partitionUuid = '0f1e2d3c-01';
    const loop = await attachPartitioned(t, path, 0x0f1e2d3c, [{ start: 2048, length: 65_536 }]);
    const filesystemUuid = '11111111-2222-3333-4444-555555555555';
    run('mkfs.ext4', '-q', '-U', filesystemUuid, `${loop}p1`);
    t.like(await readDeviceIdentity(`${loop}p1`, 512), {
      type: 'block',
      path: `${loop}p1`,
      partitionUuid,
      filesystemUuid,
      logicalSectorSize: 512,
    });
    const disk = await readDeviceIdentity(loop, 512);
    t.is(disk.partitionUuid, undefined);
    t.is(disk.filesystemUuid, undefined);
  },
);

testWith(['root', 'loop', 'device-mapper'], 'a mapped device is known by the mapper’s UUID', async (t) => {
  const path = join(await temporaryDirectory(t, 'identity'), 'disk.img');
  await makeStampedImage(path, { sizeBytes: MIB, blockSize: 65_536, seed: 1, blockIndexes: [] });
  const loop = attachLoop(t, path);
  const name = `stillpoint-test-${process.pid}`;
  run('dmsetup', 'create', name, '--uuid', `TEST-${name}`, '--table', `0 2048 linear ${loop} 0`);
  t.teardown(() => {
    run('dmsetup', 'remove', '--retry', name);
  });
  const identity = await readDeviceIdentity(run('readlink', '-f', `/dev/mapper/${name}`).trim(), 512);
  t.is(identity.byId, `dm-uuid-TEST-${name}`);
});
