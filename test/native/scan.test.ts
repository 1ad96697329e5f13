import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import {
  type LeafOverlay,
  type NativeError,
  native,
  type Scan,
  type ScanOptions,
  type TreeFile,
} from '../../src/native/index.js';
import { createMemoryDevice, type MemoryDevice } from '../../src/native/testing.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { stampedBlock } from '../helpers/bytes/stamped-blocks.js';
import { temporaryDirectory } from '../helpers/disks/loop-device.js';

const BLOCK = 65_536;
const SESSION = 'ab'.repeat(16);

interface World {
  readonly device: MemoryDevice;
  readonly base: TreeFile;
  readonly overlay: LeafOverlay;
  scan(options?: Partial<ScanOptions>): Scan;
  write(blockIndex: number, generation?: number): Promise<void>;
}

async function makeWorld(t: ExecutionContext, sizeBytes: number): Promise<World> {
  const directory = await temporaryDirectory(t, 'scan');
  const device = createMemoryDevice(sizeBytes);
  const base = await native.createTree(join(directory, 'base'), sizeBytes, BLOCK, PLAIN);
  const overlay = await native.createOverlay(
    join(directory, 'found'),
    sizeBytes,
    BLOCK,
    base.generation.root,
  );
  return {
    device,
    base,
    overlay,
    scan: (options) => native.createScan(device, { base, overlay, ...options }),
    write: (blockIndex, generation = 0) => {
      const length = Math.min(BLOCK, sizeBytes - blockIndex * BLOCK);
      return device.write(blockIndex * BLOCK, stampedBlock({ seed: 1, blockIndex, generation }, length));
    },
  };
}

/** Pulls to the end; entries of all encoded batches, block index to digest. */
async function pullAll(world: World, scan: Scan): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  for (let sequence = 1; ; sequence += 1) {
    const chunk = await scan.next();
    if (chunk === null) return found;
    const body = await chunk.encode({ sessionId: SESSION, sequence, agentTimeMs: 1, compressionLevel: 1 });
    const batch = await native.decodeBatch(body, {
      sessionId: SESSION,
      sequence,
      sizeBytes: world.device.sizeBytes,
      blockSize: BLOCK,
      digester: PLAIN,
    });
    for (let i = 0; i < batch.entryCount; i += 1) {
      for (let b = 0; b < (batch.blockCounts[i] ?? 0); b += 1) {
        found.set((batch.blockIndexes[i] ?? 0) + b, batch.digests.toString('hex', 32 * i, 32 * i + 32));
      }
    }
  }
}

test('a scan finds what a look at every block finds, first and next time', async (t) => {
  const world = await makeWorld(t, 200 * BLOCK + 1000);
  for (let i = 0; i <= 200; i += 3) await world.write(i);
  await world.write(200);
  const expected = async (): Promise<Map<number, string>> => {
    const changed = new Map<number, string>();
    for (let i = 0; i <= 200; i += 1) {
      const length = Math.min(BLOCK, world.device.sizeBytes - i * BLOCK);
      const digest = PLAIN.leafDigest(await world.device.read(i * BLOCK, length));
      if (!digest.equals(world.base.leaves(i, 1))) changed.set(i, digest.toString('hex'));
    }
    return changed;
  };

  const first = world.scan({ chunkBytes: 500_000 });
  const wanted = await expected();
  t.deepEqual(await pullAll(world, first), wanted);
  t.is(await first.next(), null);
  t.like(first.progress(), { changedBlocks: wanted.size, readBytes: world.device.sizeBytes, badBytes: 0 });
  await first.close();
  t.is(first.progress().changedBlocks, wanted.size);
  t.is(world.overlay.presentCount, wanted.size);

  await world.overlay.seal({
    pointId: '01'.repeat(16),
    root: (await world.base.rootWith(world.overlay)).toString('hex'),
  });
  await world.base.apply(world.overlay);
  await world.write(7, 1);
  await world.write(200, 1);
  await world.device.write(9 * BLOCK, Buffer.alloc(2 * BLOCK));
  const next = native.createScan(world.device, { base: world.base });
  t.deepEqual([...(await expected()).keys()], [7, 9, 200]);
  t.deepEqual(await pullAll(world, next), await expected());
  const part = native.createScan(world.device, {
    base: world.base,
    ranges: [
      [0, 7],
      [9, 200],
    ],
  });
  t.deepEqual([...(await pullAll(world, part)).keys()], [9]);
  t.throws(() => native.createScan(world.device, { base: world.base, ranges: [[0, 202]] }), {
    code: 'argument',
  });
});

test('entries that the receiver holds go without payload', async (t) => {
  const world = await makeWorld(t, 4 * BLOCK);
  for (const i of [0, 1, 3]) await world.write(i);
  const scan = world.scan();
  const chunk = await scan.next();
  t.truthy(chunk);
  if (chunk === null) return;
  t.like(chunk, { entryCount: 3, rawBytes: 3 * BLOCK, badBlocks: [] });
  t.deepEqual(chunk.digests.subarray(64), PLAIN.leafDigest(await world.device.read(3 * BLOCK, BLOCK)));
  const options = { sessionId: SESSION, sequence: 1, agentTimeMs: 1, compressionLevel: 0 };
  await t.throwsAsync(chunk.encode({ ...options, held: Buffer.alloc(2) }), { code: 'argument' });
  const body = await chunk.encode({ ...options, held: Buffer.of(0b110) });
  const bounds = { sessionId: SESSION, sequence: 1, sizeBytes: 4 * BLOCK, blockSize: BLOCK, digester: PLAIN };
  const batch = await native.decodeBatch(body, bounds);
  t.deepEqual([...batch.kinds], [1, 2, 2]);
  t.deepEqual([...batch.recordCodecs], [0]);
  await t.throwsAsync(chunk.encode(options), { code: 'closed' });
});

test('bad sectors come with the readable rest of their block', async (t) => {
  const world = await makeWorld(t, 4 * BLOCK);
  for (const i of [0, 1, 2, 3]) await world.write(i);
  const good = await world.device.read(BLOCK, BLOCK);
  world.device.addBadRange(BLOCK + 1024, 600);
  world.device.addBadRange(2 * BLOCK + 512, 1, 2);
  const scan = world.scan({ readRetries: 2 });
  const chunk = await scan.next();
  t.is(chunk?.entryCount, 3);
  t.is(chunk?.badBlocks.length, 1);
  const bad = chunk?.badBlocks[0];
  t.is(bad?.blockIndex, 1);
  t.deepEqual(bad?.badRanges, [{ byteOffset: BLOCK + 1024, byteLength: 1024 }]);
  t.deepEqual(bad?.bytes, Buffer.concat([good.subarray(0, 1024), Buffer.alloc(1024), good.subarray(2048)]));
  t.is(await scan.next(), null);
  t.is(scan.progress().badBytes, 1024);
  t.is(world.overlay.get(1), null);
});

// Alone: what other tests do on this thread would hold the ticks back.
test.serial('the event loop runs while a slow scan waits', async (t) => {
  const world = await makeWorld(t, 256 * BLOCK);
  world.device.setReadDelayMs(50);
  let ticks = 0;
  const ticker = setInterval(() => (ticks += 1), 5);
  const scan = world.scan({ readers: 1 });
  // 16 segments of 1 MiB, one after the other: 800 ms.
  t.is(await scan.next(), null);
  clearInterval(ticker);
  t.true(ticks > 20, `${ticks} ticks`);
});

test('cancel and close end a scan in the middle; next says which', async (t) => {
  const world = await makeWorld(t, 1000 * BLOCK);
  world.device.setReadDelayMs(50);
  const scan = world.scan();
  const waiting = scan.next();
  scan.cancel();
  await t.throwsAsync(waiting, { code: 'cancelled' });
  await t.throwsAsync(scan.next(), { code: 'cancelled' });
  await scan.close();
  await scan.close();
  await t.throwsAsync(scan.next(), { code: 'closed' });
  scan.cancel();

  const other = world.scan();
  const settled: string[] = [];
  // Nothing between the promises and the list: an assertion would settle some turns later.
  const pull = other.next().then(
    () => settled.push('a chunk'),
    (error: NativeError) => settled.push(error.code),
  );
  await Promise.all([other.close().then(() => settled.push('close')), pull]);
  t.deepEqual(settled, ['cancelled', 'close']);
  t.true(other.progress().readBytes < 1000 * BLOCK);
});

test('closing device, base or overlay ends the scans that use them, and waits for their readers', async (t) => {
  for (const handle of ['device', 'base', 'overlay'] as const) {
    const world = await makeWorld(t, 1000 * BLOCK);
    world.device.setReadDelayMs(50);
    const scan = world.scan();
    const pull = t.throwsAsync(scan.next(), { code: 'cancelled' });
    while (world.device.readsInFlight() === 0) await sleep(1);
    await world[handle].close();
    t.is(world.device.readsInFlight(), 0);
    await pull;
    t.throws(() => world.scan(), { code: 'closed' });
  }
});

test('geometry must be the same', async (t) => {
  const world = await makeWorld(t, 4 * BLOCK);
  const other = createMemoryDevice(5 * BLOCK);
  t.throws(() => native.createScan(other, { base: world.base }), { code: 'geometry-mismatch' });
  // The refused scan holds nothing.
  await Promise.all([other.close(), world.base.close()]);
});

test('a chunk is cut in two that are sent each for itself, and is gone then', async (t) => {
  const world = await makeWorld(t, 8 * BLOCK);
  for (const i of [0, 1, 3, 6]) await world.write(i);
  const scan = world.scan();
  const chunk = await scan.next();
  if (chunk === null) return t.fail();
  t.throws(() => chunk.split(BLOCK, new Uint8Array(2)), { code: 'argument' });
  // Payload entries in order: blocks 0, 1, 3, 6; held: 1.
  const [first, rest] = chunk.split(2 * BLOCK, Uint8Array.of(0b0010));
  t.throws(() => chunk.split(BLOCK, new Uint8Array(1)), { code: 'closed' });
  t.is(first.digests.length, 3 * 32);
  t.is(first.rawBytes, 3 * BLOCK);
  t.is(rest?.digests.length, 32);
  const batch = { sessionId: 'ab'.repeat(16), sequence: 1, agentTimeMs: 0, compressionLevel: 1 };
  const indexes: number[] = [];
  for (const [part, held] of [
    [first, Uint8Array.of(0b010)],
    [rest, new Uint8Array(1)],
  ] as const) {
    const body = await part?.encode({ ...batch, held });
    const decoded = await native.decodeBatch(body ?? new Uint8Array(), {
      ...{ sessionId: batch.sessionId, sequence: 1, digester: PLAIN },
      ...{ sizeBytes: world.device.sizeBytes, blockSize: BLOCK },
    });
    indexes.push(...decoded.blockIndexes);
  }
  t.deepEqual(indexes, [0, 1, 3, 6]);
  await scan.close();
});
