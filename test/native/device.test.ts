import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { native } from '../../src/native/index.js';
import { createMemoryDevice } from '../../src/native/testing.js';
import { attachLoop, detachLoop, temporaryDirectory } from '../helpers/disks/loop-device.js';
import { testWith } from '../helpers/requirements.js';

for (const sectorSize of [512, 4096] as const) {
  testWith(
    ['root', 'loop'],
    `a loop device with ${sectorSize}-byte sectors is read and written to its last byte`,
    async (t) => {
      const image = join(await temporaryDirectory(t, 'device'), 'image');
      // No multiple of 64 KiB: a tail of three sectors.
      const content = randomBytes((1 << 20) + 3 * sectorSize);
      await writeFile(image, content);
      const path = attachLoop(t, image, { sectorSize });
      const device = await native.openDevice(path, { write: true, exclusive: true });
      t.like(device, {
        path,
        type: 'block',
        sizeBytes: content.length,
        logicalSectorSize: sectorSize,
        direct: true,
      });

      t.deepEqual(await device.read(0, content.length), content);
      for (const [offset, length] of [
        [0, 1],
        [sectorSize - 1, 2],
        [65_536, sectorSize],
        [777, 300_001],
        [content.length - 1, 1],
        [content.length, 0],
        [content.length - sectorSize - 1, sectorSize + 1],
      ] as const) {
        t.deepEqual(await device.read(offset, length), content.subarray(offset, offset + length));
        const bytes = randomBytes(length);
        await device.write(offset, bytes);
        bytes.copy(content, offset);
      }
      t.deepEqual(await device.read(0, content.length), content);
      await t.throwsAsync(device.read(content.length - 1, 2), { code: 'argument', message: /outside/ });
      await t.throwsAsync(device.write(content.length, Buffer.of(1)), { code: 'argument' });

      await t.throwsAsync(native.openDevice(path, { exclusive: true }), { code: 'EBUSY' });
      await device.flush();
      await device.close();
      // close() has closed the descriptors: the device can go.
      detachLoop(path);
      t.deepEqual(await readFile(image), content);
    },
  );
}

testWith(['root', 'loop', { program: 'mkfs.ext4' }], 'exclusive open refuses a mounted device', async (t) => {
  const directory = await temporaryDirectory(t, 'device');
  const image = join(directory, 'image');
  await writeFile(image, '');
  await truncate(image, 8 << 20);
  const path = attachLoop(t, image);
  execFileSync('mkfs.ext4', ['-q', path]);
  execFileSync('mount', [path, directory]);
  try {
    await t.throwsAsync(native.openDevice(path, { exclusive: true }), { code: 'EBUSY' });
  } finally {
    execFileSync('umount', [path]);
  }
  await (await native.openDevice(path, { exclusive: true })).close();
});

test('an image is made sparse, of the asked size, and read back in any pieces', async (t) => {
  const path = join(await temporaryDirectory(t, 'device'), 'image');
  const sizeBytes = 1_000_001;
  const device = await native.openDevice(path, { write: true, create: true, sizeBytes });
  t.like(device, { type: 'file', sizeBytes, direct: false });
  t.deepEqual(await device.read(0, sizeBytes), Buffer.alloc(sizeBytes));
  t.is((await stat(path)).blocks, 0);
  const bytes = randomBytes(100_000);
  await device.write(sizeBytes - 100_000, bytes);
  // Many at once, in any order.
  const pieces = await Promise.all(
    Array.from({ length: 100 }, (_, i) => device.read(sizeBytes - 100_000 + i * 1000, 1000)),
  );
  t.deepEqual(Buffer.concat(pieces), bytes);
  await device.close();
});

test('close waits for work in flight, and every call after it is refused', async (t) => {
  const device = createMemoryDevice(1 << 20);
  device.setReadDelayMs(100);
  const settled: string[] = [];
  const reads = [0, 1, 2].map((i) => device.read(i, 10).then(() => settled.push('read')));
  const closes = [device.close(), device.close()].map((close) => close.then(() => settled.push('close')));
  await t.throwsAsync(device.read(0, 1), { code: 'closed' });
  await t.throwsAsync(device.write(0, Buffer.of(1)), { code: 'closed' });
  await t.throwsAsync(device.flush(), { code: 'closed' });
  await Promise.all([...reads, ...closes]);
  t.deepEqual(settled, ['read', 'read', 'read', 'close', 'close']);
  await device.close();
  t.is(device.sizeBytes, 1 << 20);
});

test('the memory device fails where it is told', async (t) => {
  const device = createMemoryDevice(1 << 20, { logicalSectorSize: 4096 });
  t.is(device.logicalSectorSize, 4096);
  device.addBadRange(8192, 4096, 1);
  await t.throwsAsync(device.read(0, 65_536), {
    code: 'EIO',
    message: 'memory: read at byte 8192: Input/output error',
  });
  t.like(await device.read(0, 65_536).catch((e: unknown) => e), { length: 65_536 });
  device.addBadRange(0, 1);
  device.addBadWriteRange(0, 1);
  t.like(await t.throwsAsync(device.read(0, 1)), { code: 'EIO', path: 'memory', byteOffset: 0 });
  await t.throwsAsync(device.write(0, Buffer.of(1)), { code: 'EIO' });
  device.clearFaults();
  await device.write(0, Buffer.of(1));
  t.deepEqual(await device.read(0, 2), Buffer.of(1, 0));
});

test('wrong arguments are named, not crashes', async (t) => {
  const device = createMemoryDevice(4096);
  const wrong = (value: unknown): never => value as never;
  for (const call of [
    () => device.read(wrong('0'), 1),
    () => device.read(-1, 1),
    () => device.read(0.5, 1),
    () => device.read(Number.NaN, 1),
    () => device.read(0, 2 ** 40),
    () => device.write(0, wrong('text')),
    () => device.write(0, wrong(new Uint16Array(2))),
    () => native.openDevice(wrong(7)),
    () => native.openDevice('a\0b'),
    () => native.openDevice('x', wrong('options')),
    () => native.openDevice('x', { write: wrong(1) }),
  ]) {
    await t.throwsAsync(call, { code: 'argument' });
  }
  t.throws(() => createMemoryDevice(-1), { code: 'argument' });
  t.throws(() => createMemoryDevice(1, { logicalSectorSize: 1000 }), { code: 'argument' });
  t.throws(() => native.createScan(wrong({}), { base: wrong(device) }), {
    code: 'argument',
    message: 'device: expected a Device',
  });
  t.throws(() => native.createScan(device, { base: wrong(device) }), {
    code: 'argument',
    message: 'base: expected a TreeFile',
  });
});

test('a file that is open for writing is told from one that is not', async (t) => {
  const path = join(await temporaryDirectory(t, 'device'), 'image');
  const writer = await open(path, 'w');
  t.true(native.isOpenForWriting(path));
  await writer.close();
  t.false(native.isOpenForWriting(path));
  t.throws(() => native.isOpenForWriting(`${path}.none`), { code: 'ENOENT' });
});
