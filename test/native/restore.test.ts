/** RestoreWriter through the addon: memory devices, sparse images, refusals, closing with work in flight. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../src/domain/base/limits.js';
import { type Device, native, type TreeFile } from '../../src/native/index.js';
import { createMemoryDevice } from '../../src/native/testing.js';
import { batchOf } from '../helpers/bytes/block-batch.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { makeTree } from '../helpers/bytes/trees.js';
import { attachLoop } from '../helpers/disks/loop-device.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 64 * KiB;
const SIZE = 100 * BLOCK + 1000;
const POINT = '77'.repeat(16);

interface World {
  readonly directory: string;
  readonly tree: TreeFile;
  /** Every third block and the short last one. */
  readonly blocks: ReadonlyMap<number, Buffer>;
}

async function inWorld(t: ExecutionContext, body: (world: World) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'stillpoint-restore-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const blocks = new Map<number, Buffer>();
  for (let i = 1; i < 100; i += 3)
    blocks.set(i, Buffer.concat([randomBytes(100), Buffer.alloc(BLOCK - 100, i)]));
  blocks.set(100, randomBytes(1000));
  const leaves = new Map([...blocks].map(([index, bytes]) => [index, PLAIN.leafDigest(bytes)]));
  const tree = await makeTree(join(directory, 'tree'), { sizeBytes: SIZE, blockSize: BLOCK }, leaves, POINT);
  await body({ directory, tree, blocks });
  await tree.close();
}

async function expectContent(t: ExecutionContext, device: Device, { blocks }: World): Promise<void> {
  const expected = Buffer.alloc(SIZE);
  for (const [index, bytes] of blocks) bytes.copy(expected, index * BLOCK);
  t.true((await device.read(0, SIZE)).equals(expected));
}

test('a restored image is the point, with its holes, and verifies', async (t) => {
  await inWorld(t, async (world) => {
    const path = join(world.directory, 'image');
    const device = await native.openDevice(path, { write: true, create: true, sizeBytes: SIZE });
    const writer = native.createRestoreWriter(device, world.tree);
    t.is(await writer.verify(), 1, 'an empty image lacks the first block that is not zero');
    const { writtenBytes } = await writer.write(await batchOf(POINT, world.blocks), POINT);
    t.is(writtenBytes, 33 * BLOCK + 1000);
    await writer.flush();
    const done: number[] = [];
    t.is(await writer.verify((doneBytes) => done.push(doneBytes)), null);
    t.is(done.at(-1), SIZE);
    await expectContent(t, device, world);
    t.true(statSync(path).blocks * 512 <= 34 * BLOCK + 64 * KiB);

    await device.write(50 * BLOCK, Buffer.from([1]));
    t.is(await writer.verify(), 50, 'a byte where zeros belong');
    await writer.zero(50 * BLOCK, BLOCK);
    t.is(await writer.verify(), null);
    await Promise.all([writer.close(), device.close()]);
  });
});

test('zero() makes used bytes zeros, in memory too', async (t) => {
  await inWorld(t, async (world) => {
    const device = createMemoryDevice(SIZE);
    await device.write(0, Buffer.alloc(SIZE, 0xee));
    const writer = native.createRestoreWriter(device, world.tree);
    t.is(await writer.verify(), 0);
    await writer.zero(0, SIZE);
    await writer.write(await batchOf(POINT, world.blocks), POINT);
    t.is(await writer.verify(), null);
    await expectContent(t, device, world);
    await writer.close();
  });
});

test('what is not the point is refused before it is written', async (t) => {
  await inWorld(t, async (world) => {
    const device = createMemoryDevice(SIZE);
    const writer = native.createRestoreWriter(device, world.tree);
    const wrong = await batchOf(POINT, new Map([[4, randomBytes(BLOCK)]]));
    await t.throwsAsync(writer.write(wrong, POINT), { code: 'bad-digest' });
    const elsewhere = await batchOf(POINT, new Map([[0, world.blocks.get(1) ?? Buffer.alloc(0)]]));
    await t.throwsAsync(writer.write(elsewhere, POINT), { code: 'bad-digest' });
    const body = await batchOf(POINT, world.blocks);
    await t.throwsAsync(writer.write(body, '00'.repeat(16)), { code: 'bad-session' });
    await t.throwsAsync(writer.write(body.subarray(1), POINT), { code: 'bad-magic' });
    t.true((await device.read(0, SIZE)).every((byte) => byte === 0));
    device.addBadWriteRange(70 * BLOCK, 512);
    await t.throwsAsync(writer.write(body, POINT), { code: 'EIO' });
    await writer.close();
    t.throws(() => native.createRestoreWriter(createMemoryDevice(SIZE - 1), world.tree), {
      code: 'geometry-mismatch',
    });
  });
});

test('close ends a verification in flight and waits for writes', async (t) => {
  await inWorld(t, async (world) => {
    const device = createMemoryDevice(SIZE);
    const writer = native.createRestoreWriter(device, world.tree);
    const written = writer.write(await batchOf(POINT, world.blocks), POINT);
    const closed = writer.close();
    t.is((await written).writtenBytes, 33 * BLOCK + 1000);
    await closed;
    await t.throwsAsync(writer.verify(), { code: 'closed' });

    const tall = await native.createTree(join(world.directory, 'tall'), 2 ** 34, BLOCK, PLAIN);
    const slow = createMemoryDevice(2 ** 34);
    slow.setReadDelayMs(5);
    const verifier = native.createRestoreWriter(slow, tall);
    const verified = verifier.verify();
    const rejected = t.throwsAsync(verified, { code: 'cancelled' });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await verifier.close();
    await rejected;
    await Promise.all([slow.close(), tall.close()]);
  });
});

for (const sectorSize of [512, 4096] as const) {
  testWith(['loop'], `a used block device with sectors of ${sectorSize} becomes the point`, async (t) => {
    await inWorld(t, async (world) => {
      const backing = join(world.directory, 'backing');
      // Larger than the point, and full of something else: the point ends in the middle of a sector.
      writeFileSync(backing, Buffer.alloc(102 * BLOCK, 0xdd));
      const path = attachLoop(t, backing, { sectorSize });
      const device = await native.openDevice(path, { write: true, exclusive: true });
      t.true(device.direct);
      const writer = native.createRestoreWriter(device, world.tree);
      t.is(await writer.verify(), 0);
      await writer.zero(0, 101 * BLOCK);
      await writer.write(await batchOf(POINT, world.blocks), POINT);
      t.is(await writer.verify(), null);
      await expectContent(t, device, world);
      t.true(
        (await device.read(101 * BLOCK, BLOCK)).every((byte) => byte === 0xdd),
        'the rest is left alone',
      );
      await writer.close();
      await device.close();
    });
  });
}
