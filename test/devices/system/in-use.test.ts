import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { deviceNumber, findUses, isOpenForWriting } from '../../../src/devices/system/in-use.js';
import { attachLoop, mount, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { attachPartitioned } from '../../helpers/disks/partition-table.js';
import { testWith } from '../../helpers/requirements.js';

async function makeImage(path: string, sizeBytes = 16 * 1024 * 1024): Promise<string> {
  const file = await open(path, 'w');
  await file.truncate(sizeBytes);
  await file.close();
  return path;
}

test('device numbers above the old limits', (t) => {
  t.is(deviceNumber(0x801n), '8:1');
  t.is(deviceNumber(0xfd00n), '253:0');
  t.is(deviceNumber(0x12300045n), '0:74565'); // minor 0x12345
});

test('an image that nobody has open is free; one open for writing is not, and the process is named', async (t) => {
  const path = await makeImage(join(await temporaryDirectory(t, 'in-use'), 'disk.img'));
  t.deepEqual(await findUses(path, 'all'), []);
  const writer = await open(path, 'r+');
  const uses = await findUses(path, 'all');
  await writer.close();
  t.is(uses.length, 1);
  t.like(uses[0], { writable: true, exclusive: false });
  t.regex(uses[0]?.how ?? '', new RegExp(`^open for writing by .* \\(process ${process.pid}\\)$`));
});

test('another process that reads is a use, but no writer', async (t) => {
  const path = await makeImage(join(await temporaryDirectory(t, 'in-use'), 'disk.img'));
  const file = await open(path, 'r');
  const reader = spawn('sleep', ['60'], { stdio: [file.fd, 'ignore', 'ignore'] });
  await once(reader, 'spawn');
  await file.close();
  t.teardown(() => reader.kill());
  const uses = await findUses(path, 'all');
  t.is(uses.length, 1);
  t.true(uses.every((use) => !use.writable && /for reading by/.test(use.how)));
  t.false(isOpenForWriting(path));
  t.deepEqual(await findUses(path, 'writers'), []);
});

testWith(['root', 'loop'], 'a loop device and its backing image', async (t) => {
  const path = await makeImage(join(await temporaryDirectory(t, 'in-use'), 'disk.img'));
  const loop = attachLoop(t, path);
  t.deepEqual(await findUses(loop, 'all'), []);
  const [use] = await findUses(path, 'all');
  t.like(use, { how: `attached as ${loop}`, writable: true });
  t.is(use?.remedy, `Detach it first: losetup --detach ${loop}`);
});

testWith(['root', 'loop'], 'an image behind a read-only loop device has no writer', async (t) => {
  const path = await makeImage(join(await temporaryDirectory(t, 'in-use'), 'disk.img'));
  const loop = attachLoop(t, path, { readOnly: true });
  const uses = await findUses(path, 'all');
  t.deepEqual(
    uses.map((use) => [use.how, use.writable]),
    [[`attached read-only as ${loop}`, false]],
  );
});

for (const fileSystem of ['ext4', 'btrfs'] as const) {
  testWith(
    ['root', 'loop', { program: `mkfs.${fileSystem}` }],
    `a mounted ${fileSystem} is named, read-only or not`,
    async (t) => {
      const directory = await temporaryDirectory(t, 'in-use');
      const loop = attachLoop(t, await makeImage(join(directory, 'disk.img'), 256 * 1024 * 1024));
      run(`mkfs.${fileSystem}`, '-q', loop);
      const mountPoint = join(directory, 'a mount');
      const unmount = await mount(t, loop, mountPoint);
      t.like((await findUses(loop, 'all'))[0], {
        how: `mounted at ${mountPoint}`,
        writable: true,
        exclusive: true,
      });
      run('mount', '--options', 'remount,ro', mountPoint);
      t.like((await findUses(loop, 'all'))[0], {
        how: `mounted read-only at ${mountPoint}`,
        writable: false,
      });
      unmount();
      t.deepEqual(await findUses(loop, 'all'), []);
    },
  );
}

testWith(['root', 'loop', { program: 'mkswap' }], 'swap is named', async (t) => {
  const directory = await temporaryDirectory(t, 'in-use');
  const loop = attachLoop(t, await makeImage(join(directory, 'disk.img')));
  run('mkswap', loop);
  run('swapon', loop);
  try {
    t.like((await findUses(loop, 'all'))[0], { how: 'used as swap', writable: true });
  } finally {
    run('swapoff', loop);
  }
});

testWith(
  ['root', 'loop', { program: 'mkfs.ext4' }],
  'a mounted partition makes its disk used, and the other way round not its sibling',
  async (t) => {
    const directory = await temporaryDirectory(t, 'in-use');
    const image = await makeImage(join(directory, 'disk.img'), 64 * 1024 * 1024);
    const loop = await attachPartitioned(t, image, 0x1234, [
      { start: 2048, length: 65_536 },
      { start: 67_584, length: 32_768 },
    ]);
    run('mkfs.ext4', '-q', `${loop}p1`);
    await mount(t, `${loop}p1`, join(directory, 'mount'));
    t.like((await findUses(loop, 'all'))[0], { how: `mounted at ${join(directory, 'mount')}` });
    t.deepEqual(await findUses(`${loop}p2`, 'all'), []);
  },
);
