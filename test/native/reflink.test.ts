import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../src/native/index.js';
import { temporaryDirectory } from '../helpers/disks/loop-device.js';
import { programs, testWith } from '../helpers/requirements.js';
import { makeCloningDisk } from '../helpers/worlds/reflink.js';

test('on a file system without clones, each question has an answer or an errno', async (t) => {
  const path = join(await temporaryDirectory(t, 'reflink', '/dev/shm'), 'file');
  await writeFile(path, 'x'.repeat(8192));
  const file = await open(path, 'r+');
  t.teardown(() => file.close());
  t.deepEqual(await native.cloneSupport(file.fd), {
    fileSystem: null,
    withoutReflink: false,
    realtime: false,
  });
  await t.throwsAsync(native.countExtents(file.fd), { code: 'EOPNOTSUPP' });
  await t.throwsAsync(native.countExtents(123_456), { code: 'EBADF' });
  await t.throwsAsync(native.countExtents(-1), { code: 'argument' });
  await t.throwsAsync(native.differingBlocks(file.fd, file.fd, 8192, 1000), { code: 'argument' });
});

testWith(
  ['root', 'loop', ...programs('mkfs.btrfs')],
  'what was begun goes on when the descriptors are closed; attributes are there or not',
  async (t) => {
    const { image, mountPoint } = await makeCloningDisk(t, 'btrfs');
    await writeFile(image, Buffer.alloc(100_000, 'clone'));
    const [source, target] = [await open(image), await open(join(mountPoint, 'clone'), 'wx')];
    t.like(await native.cloneSupport(source.fd), { fileSystem: 'btrfs' });
    await native.likenForClone(source.fd, target.fd);
    t.is(await native.getAttribute(target.fd, 'user.stillpoint'), null);
    await native.setAttribute(target.fd, 'user.stillpoint', Buffer.from('of it'));
    t.is(String(await native.getAttribute(target.fd, 'user.stillpoint')), 'of it');
    const cloning = native.cloneFile(source.fd, target.fd);
    await Promise.all([source.close(), target.close()]);
    t.true((await cloning) > 0);
    t.deepEqual(await readFile(join(mountPoint, 'clone')), await readFile(image));
  },
);
