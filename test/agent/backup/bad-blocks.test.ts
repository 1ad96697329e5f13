/** Backups of a device in memory with sectors that can't be read. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { BAD_BYTES_MAX } from '../../../src/domain/base/limits.js';
import { filler } from '../../../src/domain/point/bad-blocks.js';
import type { Point } from '../../../src/domain/point/point.js';
import { createMemoryDevice, type MemoryDevice } from '../../../src/native/testing.js';
import { stampedBlock } from '../../helpers/bytes/stamped-blocks.js';
import { refused } from '../../helpers/refused.js';
import { BackupWorld, BLOCK, faultyReceiver, providerOf } from '../../helpers/worlds/backup.js';

const SECTOR = 512;
const BLOCKS = 40;

interface World {
  readonly made: BackupWorld;
  readonly device: MemoryDevice;
  write(generation: number, blockIndexes: Iterable<number>): Promise<void>;
  backup(): Promise<Point>;
}

async function world(t: ExecutionContext, blockCount = BLOCKS): Promise<World> {
  const made = await BackupWorld.make(t);
  const device = createMemoryDevice(blockCount * BLOCK);
  t.teardown(() => device.close());
  const provider = providerOf(device);
  return {
    made,
    device,
    write: async (generation, blockIndexes) => {
      for (const blockIndex of blockIndexes) {
        await device.write(blockIndex * BLOCK, stampedBlock({ seed: 3, blockIndex, generation }, BLOCK));
      }
    },
    backup: async () => (await made.backup({ provider })).point,
  };
}

const blockOf = (contents: Buffer, blockIndex: number) =>
  contents.subarray(blockIndex * BLOCK, (blockIndex + 1) * BLOCK);

test('without an earlier point the sectors hold a marker that names itself, and are never zeros', async (t) => {
  const { made, device, write, backup } = await world(t);
  await write(1, [0, 1, 2]);
  const byteOffset = BLOCK + 3 * SECTOR;
  device.addBadRange(byteOffset, 2 * SECTOR);
  device.addBadRange(20 * BLOCK, SECTOR);
  const point = await backup();
  t.deepEqual(point.badRanges, [
    { byteOffset, byteLength: 2 * SECTOR, content: 'filler' },
    { byteOffset: 20 * BLOCK, byteLength: SECTOR, content: 'filler' },
  ]);
  t.regex(point.warnings.join(), /2 ranges could not be read: 0 bytes keep .* 1536 bytes are marked/);
  const contents = await made.contents(point);
  const expected = stampedBlock({ seed: 3, blockIndex: 1, generation: 1 }, BLOCK);
  expected.set(filler(byteOffset, 2 * SECTOR), 3 * SECTOR);
  t.true(blockOf(contents, 1).equals(expected));
  t.deepEqual(contents.subarray(20 * BLOCK, 20 * BLOCK + SECTOR), Buffer.from(filler(20 * BLOCK, SECTOR)));
  t.true(
    blockOf(contents, 20)
      .subarray(SECTOR)
      .every((byte) => byte === 0),
  );
});

test('with an earlier point the sectors keep its content, again and again, and unchanged blocks are not shipped', async (t) => {
  const { made, device, write, backup } = await world(t);
  await write(1, [0, 1, 2]);
  await backup();
  await write(2, [1]);
  device.addBadRange(BLOCK + SECTOR, SECTOR); // in a changed block
  device.addBadRange(2 * BLOCK, BLOCK); // a whole unchanged one
  device.addBadRange(30 * BLOCK, SECTOR); // zero in the earlier point
  for (const sequence of [2, 3]) {
    const point = await backup();
    t.is(point.sequence, sequence);
    t.is(point.statistics.changedBytes, sequence === 2 ? BLOCK : 0);
    t.deepEqual(point.badRanges, [
      { byteOffset: BLOCK + SECTOR, byteLength: SECTOR, content: 'previous' },
      { byteOffset: 2 * BLOCK, byteLength: BLOCK, content: 'previous' },
      { byteOffset: 30 * BLOCK, byteLength: SECTOR, content: 'previous' },
    ]);
    const contents = await made.contents(point);
    const expected = stampedBlock({ seed: 3, blockIndex: 1, generation: 2 }, BLOCK);
    const old = stampedBlock({ seed: 3, blockIndex: 1, generation: 1 }, BLOCK);
    expected.set(old.subarray(SECTOR, 2 * SECTOR), SECTOR);
    t.true(blockOf(contents, 1).equals(expected));
    t.true(blockOf(contents, 2).equals(stampedBlock({ seed: 3, blockIndex: 2, generation: 1 }, BLOCK)));
    t.true(blockOf(contents, 30).every((byte) => byte === 0));
  }
});

test('the marker of an earlier point is no good content', async (t) => {
  const { made, device, write, backup } = await world(t);
  await write(1, [1]);
  device.addBadRange(BLOCK, SECTOR);
  await backup();
  device.addBadRange(BLOCK + SECTOR, SECTOR);
  const point = await backup();
  t.deepEqual(point.badRanges, [
    { byteOffset: BLOCK, byteLength: SECTOR, content: 'filler' },
    { byteOffset: BLOCK + SECTOR, byteLength: SECTOR, content: 'previous' },
  ]);
  const expected = stampedBlock({ seed: 3, blockIndex: 1, generation: 1 }, BLOCK);
  expected.set(filler(BLOCK, SECTOR), 0);
  t.true(blockOf(await made.contents(point), 1).equals(expected));
});

test('once the sectors can be read again the point is whole', async (t) => {
  const { made, device, write, backup } = await world(t);
  await write(1, [1]);
  device.addBadRange(BLOCK, SECTOR);
  await backup();
  device.clearFaults();
  const point = await backup();
  t.deepEqual([point.badRanges, point.warnings], [[], []]);
  t.true(
    blockOf(await made.contents(point), 1).equals(
      stampedBlock({ seed: 3, blockIndex: 1, generation: 1 }, BLOCK),
    ),
  );
});

test('where the receiver can not give the earlier content, a marker stands, and it is said', async (t) => {
  const { made, device, write, backup } = await world(t);
  await write(1, [1]);
  await backup();
  device.addBadRange(BLOCK, SECTOR);
  const damaged = new StillpointError('store-damaged', { thing: 'pack', reason: 'a bit flipped' });
  const receiver = faultyReceiver(made.receiver, (method) =>
    method === 'blocks' ? { before: damaged } : null,
  );
  const { point, warnings } = await made.backup({ receiver, provider: providerOf(device) });
  t.like(point.badRanges[0], { content: 'filler' });
  t.regex(warnings.join('\n'), /block 1 of disk1@1: its content is not available: pack: a bit flipped/);
});

/**
 * All that a refused backup may leave: the points that were there, no session, and no overlay that a
 * later one would believe.
 */
async function refusesAsFailing(t: ExecutionContext, { made, device }: World, reason: RegExp): Promise<void> {
  const before = await made.points();
  let batches = 0;
  const receiver = faultyReceiver(made.receiver, (method) => {
    if (method === 'batch') batches += 1;
    return null;
  });
  const backup = made.backup({ receiver, provider: providerOf(device) });
  const error = await refused(t, backup, 'device-io', reason);
  t.is(error.thing, made.image);
  t.regex(error.remedy ?? '', /ddrescue/);
  t.deepEqual(await made.points(), before);
  t.deepEqual(await readdir(join(made.directory, 'store', 'capture')), []);
  t.deepEqual(
    (await readdir(made.deviceState)).filter((name) => name.includes('overlay')),
    [],
  );
  const blockCount = device.sizeBytes / BLOCK;
  t.true(batches < blockCount / 2, `${batches} blocks of ${blockCount} were sent`);
}

test('a device with bad sectors all over is not backed up', async (t) => {
  const blockCount = 500;
  const failing = await world(t, blockCount);
  for (let at = 0; at < blockCount * BLOCK; at += 2 * SECTOR) failing.device.addBadRange(at, SECTOR);
  await refusesAsFailing(t, failing, /more than 10000 ranges that can't be read: it is failing/);
});

test('a device of which nothing can be read is given up early, whether it has points or not', async (t) => {
  const failing = await world(t, (4 * BAD_BYTES_MAX) / BLOCK);
  const { device, write, backup } = failing;
  device.addBadRange(0, device.sizeBytes);
  await refusesAsFailing(t, failing, /more than 16 MiB that can't be read: it is failing/);
  device.clearFaults();
  await write(1, [0, 1, 2]);
  const point = await backup();
  device.addBadRange(0, device.sizeBytes);
  await refusesAsFailing(t, failing, /more than 16 MiB that can't be read: it is failing/);
  device.clearFaults();
  await write(2, [1]);
  t.is((await backup()).sequence, point.sequence + 1);
});
