/** What every store must tell of points that are in it, also where it is opened only to be read. */
import { randomBytes } from 'node:crypto';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { BLOCKS_REQUEST_MAX, KiB, MiB, NODES_REQUEST_MAX } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { Store } from '../../../src/store/port/store.js';
import { refused } from '../../helpers/refused.js';
import {
  backUp,
  change,
  changesBetween,
  describe,
  emptyState,
  holds,
  readBlocks,
  sendChanges,
  stampedBlock,
} from '../../helpers/worlds/store-device.js';

const test = anyTest as TestFn;

const BLOCK = 4 * KiB;
const geometry = { sizeBytes: 100 * BLOCK - 100, blockSize: BLOCK };
const first = change(emptyState(geometry), [
  [0, 1],
  [1, 2],
  [2, 1],
  [99, 4],
]);
const second = change(first, [
  [1, null],
  [2, 9],
  [80, 10],
  [81, 11],
]);
const OPEN = 'e'.repeat(32);

/** Who holds the store writes this to it, before it is read. */
export interface ReadPoints {
  readonly write: (store: Store) => Promise<void>;
}

async function write(store: Store): Promise<void> {
  await backUp(store, 'disk', null, first);
  await backUp(store, 'disk', first, second);
  await backUp(store, 'another', null, first);
  const capture = await store.createCapture(describe('open', first, null, OPEN));
  await sendChanges(capture, changesBetween(null, first));
}

async function gather<T extends { readonly type: string }>(events: AsyncIterable<T>): Promise<T[]> {
  const told: T[] = [];
  for await (const event of events) if (event.type !== 'progress') told.push(event);
  return told;
}

/** @param make has `points` written to a store, and opens it to read it */
export function testStoreReading(
  name: string,
  make: (t: ExecutionContext, points: ReadPoints) => Promise<Store>,
): void {
  interface Scene {
    readonly store: Store;
    readonly one: Point;
    readonly two: Point;
  }
  const withPoints = (title: string, body: (t: ExecutionContext, scene: Scene) => Promise<void>) =>
    test(`${name}: ${title}`, async (t) => {
      const store = await make(t, { write });
      const [one, two] = await store.points({ agent: 'alpha', device: 'disk' });
      if (one === undefined || two === undefined) return t.fail('points are missing');
      await body(t, { store, one, two });
      await store.close();
    });

  withPoints(
    'points are listed by device, then sequence, and read back bit for bit',
    async (t, { store, one, two }) => {
      const names = (points: readonly Point[]) =>
        points.map(({ device, sequence }) => `${device}@${sequence}`);
      t.deepEqual(names(await store.points({})), ['another@1', 'disk@1', 'disk@2']);
      t.deepEqual(names(await store.points({ agent: 'alpha' })), ['another@1', 'disk@1', 'disk@2']);
      t.deepEqual(names(await store.points({ device: 'another' })), ['another@1']);
      t.deepEqual(await store.points({ agent: 'beta' }), []);
      t.deepEqual(await store.point('alpha', one.id), one);
      t.deepEqual(await store.point(null, one.id), one);
      t.is(await store.point('beta', one.id), null);
      t.is(await store.point(null, OPEN), null);
      t.true(await holds(store, one, first));
      t.true(await holds(store, two, second));
    },
  );

  withPoints('an open session is told of, and is no point', async (t, { store }) => {
    t.like(await store.partialSets({}), [{ agent: 'alpha', device: 'open', sessionId: OPEN, state: 'open' }]);
  });

  withPoints('nodes: those of the tree, a NULL one empty', async (t, { store, one }) => {
    const [top, low] = await store.nodes(one, [
      { level: 2, index: 0 },
      { level: 1, index: 0 },
    ]);
    t.is(top?.length, 2 * 32);
    t.is(low?.length, 3 * 32);
    const wrong = [
      [0, 0],
      [3, 0],
      [1, 2],
      [1, -1],
      [1.5, 0],
      [1, 0.5],
    ] as const;
    for (const [level, index] of wrong) await refused(t, store.nodes(one, [{ level, index }]), 'bad-message');
    await refused(t, store.nodes(one, []), 'bad-message');
    const many = Array.from({ length: NODES_REQUEST_MAX + 1 }, () => ({ level: 1, index: 0 }));
    await refused(t, store.nodes(one, many), 'bad-message');
  });

  withPoints(
    'blocks: ascending, there, and not zero; equal ones are lent once',
    async (t, { store, one }) => {
      const lent = await store.blocks(one, [0, 1, 2, 99], async (blocks) => ({
        blockIndexes: [...blocks.blockIndexes],
        ordinals: [...blocks.recordOrdinals],
        digestBytes: blocks.recordDigests.length,
      }));
      t.deepEqual(lent, { blockIndexes: [0, 1, 2, 99], ordinals: [0, 1, 0, 2], digestBytes: 3 * 32 });
      const { blocks } = await readBlocks(store, one, [2, 99]);
      t.deepEqual(blocks.get(2), stampedBlock(1, BLOCK));
      t.deepEqual(blocks.get(99), stampedBlock(4, BLOCK - 100));
      const many = Array.from({ length: BLOCKS_REQUEST_MAX + 1 }, (_, i) => i);
      for (const request of [[], [3], [1, 1], [2, 1], [-1], [0.5], [100], many])
        await refused(t, readBlocks(store, one, request), 'bad-message');
    },
  );

  withPoints('what the taker of blocks throws is what the caller gets', async (t, { store, one }) => {
    const error = new Error('of the taker');
    t.is(
      await t
        .throwsAsync(store.blocks(one, [0], () => Promise.reject(error)))
        .then((e) => e?.message.includes('of the taker')),
      true,
    );
    t.is((await readBlocks(store, one, [0])).blocks.size, 1);
  });

  withPoints(
    'verify and check find nothing wrong, and say what they looked at',
    async (t, { store, one }) => {
      t.like(await gather(store.verify({ agent: 'alpha' })), [
        { type: 'summary', pointCount: 3, findingCount: 0 },
      ]);
      t.like(await gather(store.verify({ pointId: one.id })), [
        { type: 'summary', pointCount: 1, findingCount: 0 },
      ]);
      await refused(t, gather(store.verify({ pointId: 'f'.repeat(32) })), 'point-unknown');
      t.deepEqual(await gather(store.check(one, [[0, 3]])), [
        { type: 'summary', blockCount: 3, damagedBlocks: 0 },
      ]);
      t.deepEqual(await gather(store.check(one, [[3, 90]])), [
        { type: 'summary', blockCount: 0, damagedBlocks: 0 },
      ]);
    },
  );

  withPoints('diff: ranges that differ, and their sum', async (t, { store, one, two }) => {
    t.deepEqual(await gather(store.diff(one, two)), [
      {
        type: 'ranges',
        ranges: [
          [1, 3, 1],
          [80, 82, 0],
        ],
      },
      { type: 'summary', rangeCount: 2, blockCount: 4, changedBytes: 4 * BLOCK, zeroBlockCount: 1 },
    ]);
    t.deepEqual(await gather(store.diff(one, one)), [
      { type: 'summary', rangeCount: 0, blockCount: 0, changedBytes: 0, zeroBlockCount: 0 },
    ]);
  });

  test(`${name}: of many blocks a prefix is lent`, async (t) => {
    const large = { sizeBytes: 8 * 4 * MiB, blockSize: 4 * MiB };
    const state = change(emptyState(large), []);
    const blocks = new Map([0, 1, 2, 3, 4].map((i) => [i, randomBytes(4 * MiB)] as const));
    const full = { ...state, blocks };
    const store = await make(t, { write: async (to) => void (await backUp(to, 'disk', null, full, 1)) });
    const [point] = await store.points({});
    if (point === undefined) return t.fail('the point is missing');
    const { blocks: read, rest } = await readBlocks(store, point, [0, 1, 2, 3, 4]);
    t.deepEqual([...read.keys()], [0, 1, 2]);
    t.deepEqual(rest, [3, 4]);
    t.true(await holds(store, point, full));
    await store.close();
  });
}
