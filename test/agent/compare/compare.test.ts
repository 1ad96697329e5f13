/**
 * What a comparison of a device with a point finds, against counting by hand; what it costs,
 * and what it leaves behind.
 */
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { runBackup } from '../../../src/agent/backup/backup.js';
import { type CompareOptions, runCompare } from '../../../src/agent/compare/compare.js';
import { offlineProvider } from '../../../src/capture/providers/offline/offline.js';
import { KiB, NODE_BYTES_MAX } from '../../../src/domain/base/limits.js';
import type { BlockSet } from '../../../src/domain/blocks/block-set.js';
import { blockCount, blockLength, treeHeight } from '../../../src/domain/blocks/geometry.js';
import type { Point } from '../../../src/domain/point/point.js';
import { DIRECTIONS } from '../../../src/domain/session/compare-direction.js';
import { createMemoryDevice, type MemoryDevice } from '../../../src/native/testing.js';
import { decodeQuestion, encodeAnswer } from '../../../src/protocol/codecs/compare-codec.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import type { MakeWorld } from '../../conformance/receiver.js';
import { stampedBlock } from '../../helpers/bytes/stamped-blocks.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { refused } from '../../helpers/refused.js';
import { LONG, seededRandom } from '../../helpers/seed.js';
import { BackupWorld, BLOCK as LARGE, providerOf } from '../../helpers/worlds/backup.js';
import { embeddedWorld, httpWorld } from '../../helpers/worlds/receiver-worlds.js';

const BLOCK = 4096;

/** Generations of blocks, 0 for zeros, and the bytes of the last one. */
interface Content {
  readonly generations: readonly number[];
  readonly lastBytes: number;
}

const geometryOf = ({ generations, lastBytes }: Content) => ({
  ...{
    blockSize: BLOCK,
    sizeBytes: generations.length === 0 ? 0 : (generations.length - 1) * BLOCK + lastBytes,
  },
});

function bytesOf(content: Content, blockIndex: number): Buffer {
  const geometry = geometryOf(content);
  if (blockIndex >= blockCount(geometry)) return Buffer.alloc(0);
  const generation = content.generations[blockIndex] ?? 0;
  const length = blockLength(geometry, blockIndex);
  return generation === 0 ? Buffer.alloc(length) : stampedBlock({ seed: 1, blockIndex, generation }, length);
}

async function deviceOf(content: Content): Promise<MemoryDevice> {
  const device = createMemoryDevice(geometryOf(content).sizeBytes);
  for (const [blockIndex, generation] of content.generations.entries()) {
    if (generation > 0) await device.write(blockIndex * BLOCK, bytesOf(content, blockIndex));
  }
  return device;
}

/** Of blocks that only one of them has, or that have another length, zeros alone are the same. */
function differing(a: Content, b: Content): number[] {
  const count = Math.max(a.generations.length, b.generations.length);
  return Array.from({ length: count }, (_, block) => block).filter((block) => {
    const [one, other] = [bytesOf(a, block), bytesOf(b, block)];
    const areZeros = [one, other].every((bytes) => bytes.every((byte) => byte === 0));
    return !areZeros && !one.equals(other);
  });
}

const listed = (set: BlockSet): number[] =>
  [...set.ranges()].flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i));

const lastBytes = fc.oneof(
  fc.constant(BLOCK),
  fc.integer({ min: 1, max: BLOCK / 512 }).map((n) => n * 512),
);

/** A device, and what became of it. */
const history = fc
  .record({
    generations: fc.array(fc.nat({ max: 1 }), { maxLength: 150 }),
    lastBytes,
    changes: fc.array(fc.tuple(fc.nat(), fc.nat({ max: 3 })), { maxLength: 12 }),
    resize: fc.option(fc.tuple(fc.integer({ min: -80, max: 80 }), lastBytes, fc.nat({ max: 2 }))),
  })
  .map(({ generations, lastBytes, changes, resize }) => {
    const before: Content = { generations, lastBytes };
    let after = [...generations];
    for (const [at, generation] of changes) if (after.length > 0) after[at % after.length] = generation;
    const [delta, lastAfter, filled] = resize ?? [0, lastBytes, 0];
    after = delta <= 0 ? after.slice(0, after.length + delta) : [...after, ...Array(delta).fill(filled)];
    return { before, after: { generations: after, lastBytes: lastAfter } satisfies Content };
  });

/** Ends of ranges of bytes, in sectors. */
const cuts = fc.uniqueArray(fc.nat({ max: 1400 }), { minLength: 2, maxLength: 6 });

interface Scene {
  readonly receiver: ReceiverPort;
  readonly stateDirectory: string;
  backup(content: Content, device: string): Promise<Point>;
  compare(point: Point, content: Content, options?: Partial<CompareOptions>): ReturnType<typeof runCompare>;
}

async function scene(t: ExecutionContext, make: MakeWorld): Promise<Scene> {
  const receiver = await (await make(t)).portFor('host');
  const stateDirectory = await temporaryDirectory(t, 'compare');
  const path = '/memory';
  return {
    ...{ receiver, stateDirectory },
    backup: async (content, name) => {
      const device = await deviceOf(content);
      try {
        const options = { receiver, path, device: name, stateDirectory, blockSize: BLOCK };
        return (await runBackup({ ...options, provider: providerOf(device) })).point;
      } finally {
        await device.close();
      }
    },
    compare: async (point, content, options = {}) => {
      const device = await deviceOf(content);
      try {
        const provider = providerOf(device);
        return await runCompare({ receiver, point, path, stateDirectory, provider, ...options });
      } finally {
        await device.close();
      }
    },
  };
}

for (const [where, make, runs] of [
  ['embedded', embeddedWorld, LONG ? 200 : 12],
  ['over TLS', httpWorld, LONG ? 50 : 4],
] as const) {
  test(`exactly what differs is found: any sizes, all directions, all of it and ranges (${where})`, async (t) => {
    const { backup, compare, stateDirectory } = await scene(t, make);
    let number = 0;
    await fc.assert(
      fc.asyncProperty(history, cuts, async ({ before, after }, sectors) => {
        number += 1;
        const point = await backup(before, `disk${number}`);
        const bounds = sectors.sort((a, b) => a - b).slice(0, sectors.length & ~1);
        const byteRanges: [number, number][] = [];
        for (let i = 0; i < bounds.length; i += 2)
          byteRanges.push([(bounds[i] ?? 0) * 512, (bounds[i + 1] ?? 0) * 512]);
        const isIn = (block: number) =>
          byteRanges.some(([start, end]) => start < (block + 1) * BLOCK && end > block * BLOCK);
        const expected = differing(before, after);
        const height = treeHeight(point.geometry);
        for (const direction of DIRECTIONS) {
          const all = await compare(point, after, { direction });
          t.deepEqual(listed(all.differing), expected, direction);
          t.is(all.deviceSizeBytes, geometryOf(after).sizeBytes);
          t.is(all.scannedBytes, geometryOf(after).sizeBytes);
          const nodes = 1 + Math.min(expected.length, 3) * height;
          t.true(all.wireBytes <= nodes * (NODE_BYTES_MAX + 100), `${all.wireBytes} bytes, ${direction}`);
          const some = await compare(point, after, { direction, byteRanges, deep: direction === 'cheaper' });
          t.deepEqual(listed(some.differing), expected.filter(isIn), direction);
          t.deepEqual(some.damaged, []);
        }
        const same = await compare(point, before);
        t.is(same.differing.count, 0);
        t.true(same.wireBytes < KiB);
      }),
      { seed: seededRandom(t).seed, numRuns: runs },
    );
    t.deepEqual(await readdir(stateDirectory), ['stores'], 'nothing stays');
  });
}

const some: Content = { generations: [1, 1, 0, 1, 1, ...Array(70).fill(0), 1], lastBytes: BLOCK };

test('ranges that lie beyond the device or the point', async (t) => {
  const { backup, compare } = await scene(t, embeddedWorld);
  const point = await backup(some, 'disk');
  const grown: Content = { ...some, generations: [...some.generations, 0, 2] };
  const beyond: [number, number][] = [[1000 * BLOCK, 2000 * BLOCK]];
  for (const deep of [false, true]) {
    t.is((await compare(point, some, { byteRanges: beyond, deep })).differing.count, 0);
    t.is((await compare(point, grown, { byteRanges: beyond, deep })).differing.count, 0);
    const tail: [number, number][] = [[76 * BLOCK, 2 ** 50]];
    t.deepEqual(listed((await compare(point, grown, { byteRanges: tail, deep })).differing), [77]);
    const shrunk: Content = { ...some, generations: [1] };
    t.deepEqual(
      listed((await compare(point, shrunk, { byteRanges: [[BLOCK * 2, 2 ** 50]], deep })).differing),
      [3, 4, 75],
    );
  }
});

test('a block that can’t be read differs, whatever the receiver has there', async (t) => {
  const { receiver, stateDirectory, backup } = await scene(t, embeddedWorld);
  const point = await backup(some, 'disk');
  const device = await deviceOf(some);
  t.teardown(() => device.close());
  for (const block of [0, 2, 3]) device.addBadRange(block * BLOCK + 512, 512);
  const options = { receiver, point, path: '/memory', stateDirectory, provider: providerOf(device) };
  const { differing: found, unreadableBlocks } = await runCompare(options);
  t.deepEqual([...unreadableBlocks], [0, 2, 3]);
  t.deepEqual(listed(found), [0, 2, 3]);
  const ranged = await runCompare({ ...options, byteRanges: [[BLOCK, 3 * BLOCK]] });
  t.deepEqual([...ranged.unreadableBlocks], [2]);
});

test('a point of another agent, and a receiver that answers what can’t be, give no result', async (t) => {
  const world = await embeddedWorld(t);
  const [port, stranger] = [await world.portFor('host'), await world.portFor('stranger')];
  const { backup, compare } = await scene(t, async () => ({ ...world, portFor: async () => port }));
  const point = await backup(some, 'disk');
  const changed: Content = { ...some, generations: [2, 2, ...some.generations.slice(2)] };
  for (const direction of DIRECTIONS)
    await refused(t, compare(point, changed, { receiver: stranger, direction }), 'point-unknown');

  const lying = (answer: Partial<ReceiverPort>): ReceiverPort =>
    new Proxy(port, {
      get: (target, name: keyof ReceiverPort) => answer[name] ?? (target[name] as () => unknown).bind(target),
    });
  const nothingDiffers = lying({
    compareNodes: async (question) =>
      encodeAnswer(decodeQuestion(question).nodes.map(() => ({ differing: 0n, nulls: 0n }))),
  });
  const send = { receiver: nothingDiffers, direction: 'send' } as const;
  await refused(t, compare(point, changed, send), 'bad-digest', /differs, its children do not/);
  const short = lying({ compareNodes: async () => Buffer.alloc(5) });
  await refused(t, compare(point, changed, { receiver: short, direction: 'send' }), 'bad-message', /5 bytes/);
  const zeros = lying({ nodes: async (...args) => Buffer.alloc((await port.nodes(...args)).length) });
  await refused(t, compare(point, changed, { receiver: zeros, direction: 'fetch' }), 'bad-digest');
  const other = { ...point, root: 'ab'.repeat(32) };
  await refused(t, compare(other, changed), 'bad-digest', /its top node does not give its root/);
  await refused(t, compare(point, changed, { mark: true }), 'usage', /no tap serves it/);
});

test('written to while it is compared: no result, unless it is asked for; cancelled: nothing stays', async (t) => {
  const made = await BackupWorld.make(t);
  await made.makeImage(40 * LARGE, [0, 1, 30]);
  const { point } = await made.backup();
  const { receiver, stateDirectory, image: path } = made;
  let generation = 1;
  const provider = {
    name: 'offline',
    hold: async (...args: Parameters<typeof offlineProvider.hold>) => {
      const snapshot = await offlineProvider.hold(...args);
      const conclude = async () => {
        generation += 1;
        await made.change(generation, [4]);
        return snapshot.conclude();
      };
      return { ...snapshot, conclude };
    },
  };
  const options = { receiver, point, path, stateDirectory };
  await refused(
    t,
    runCompare({ ...options, provider }),
    'device-changed',
    /was written to while it was read/,
  );
  const fuzzy = await runCompare({ ...options, provider, fuzzy: true });
  t.is(fuzzy.kind, 'fuzzy');
  t.deepEqual(listed(fuzzy.differing), [4]);
  const quiet = await runCompare(options);
  t.is(quiet.kind, 'idle');
  t.deepEqual(listed(quiet.differing), [4]);

  const abort = new AbortController();
  const onEvent = () => abort.abort();
  await refused(t, runCompare({ ...options, signal: abort.signal, onEvent }), 'cancelled', /cancelled/);
  t.deepEqual(await readdir(stateDirectory), ['stores']);
  t.is((await made.points()).length, 1);
  const elsewhere = join(made.directory, 'elsewhere');
  await mkdir(elsewhere);
  await rename(path, join(elsewhere, 'disk.img'));
  await refused(t, runCompare(options), 'device-not-found');
  await rm(elsewhere, { recursive: true });
});
