/**
 * What every store must do, whatever keeps its bytes: sessions in it, and (reading.ts)
 * the points that they made.
 */
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { HAVE_DIGESTS_MAX, KiB } from '../../../src/domain/base/limits.js';
import type { CommitRequest } from '../../../src/domain/session/messages.js';
import type { Capture, Store } from '../../../src/store/port/store.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { refused } from '../../helpers/refused.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  describe,
  emptyState,
  holds,
  leavesOf,
  sendChanges,
  stampedBlock,
} from '../../helpers/worlds/store-device.js';
import { testStoreReading } from './reading.js';

const test = anyTest as TestFn;

export interface StoreWorld {
  readonly store: Store;
  /** The store as who opens it next finds it; the former one is closed. */
  readonly reopen: () => Promise<Store>;
  /** Of the store's clock. */
  readonly pass: (ms: number) => void;
}

const DAY_MS = 24 * 3_600_000;
const BLOCK = 4 * KiB;
/** Two levels of nodes, and a short last block. */
const geometry = { sizeBytes: 100 * BLOCK - 100, blockSize: BLOCK };
const first = change(emptyState(geometry), [
  [0, 1],
  [1, 2],
  [2, 1],
  [70, 3],
  [99, 4],
]);
const second = change(first, [
  [1, null],
  [2, 9],
  [80, 10],
]);
const SESSION = 'b'.repeat(32);

export type MakeStore = (t: ExecutionContext) => Promise<StoreWorld>;

export function testStore(name: string, make: MakeStore): void {
  const withStore = (title: string, body: (t: ExecutionContext, world: StoreWorld) => Promise<void>) =>
    test(`${name}: ${title}`, async (t) => body(t, await make(t)));
  const begin = (store: Store, basePointId: string | null = null): Promise<Capture> =>
    store.createCapture(describe('disk', first, basePointId, SESSION));
  const item = (blockIndex: number, seed: number) => ({ blockIndex, bytes: stampedBlock(seed, BLOCK) });
  const digestOf = (seed: number): Buffer => PLAIN.leafDigest(stampedBlock(seed, BLOCK));

  withStore('a session is open until it is committed, and a point from then on', async (t, { store }) => {
    const capture = await begin(store);
    t.like(capture.description, { sessionId: SESSION, device: 'disk', basePointId: null });
    t.deepEqual(
      store.captures().map(({ description }) => description.sessionId),
      [SESSION],
    );
    const batchCount = await sendChanges(capture, changesBetween(null, first), 2);
    t.is(capture.durableSequence, batchCount);
    t.deepEqual(await store.points({}), []);
    const point = await capture.commit(commitRequest(first, batchCount));
    t.like(point, { id: SESSION, agent: 'alpha', device: 'disk', sequence: 1, baseSequence: null, geometry });
    t.deepEqual(await store.points({}), [point]);
    t.deepEqual(store.captures(), []);
    t.true(await holds(store, point, first));
    await store.close();
  });

  withStore(
    'batches come in any order and are durable in theirs; one that came is only answered',
    async (t, { store }) => {
      const capture = await begin(store);
      const batch = (sequence: number) => makeBatch(SESSION, sequence, [item(sequence, sequence)]);
      const late = [3, 2].map((sequence) => capture.append(sequence, batch(sequence)));
      t.is(capture.durableSequence, 0);
      await capture.append(1, batch(1));
      await Promise.all(late);
      t.is(capture.durableSequence, 3);
      t.deepEqual(await capture.append(2, Buffer.from('not looked at')), { durableSequence: 3 });
      await refused(t, capture.append(1000, batch(1000)), 'out-of-order');
      await store.close();
    },
  );

  withStore('a later batch wins for a block, and a block may be held', async (t, { store }) => {
    const capture = await begin(store);
    await capture.append(1, makeBatch(SESSION, 1, [item(3, 7), item(5, 8), item(6, 8)]));
    await capture.append(
      2,
      makeBatch(SESSION, 2, [
        { blockIndex: 3, held: digestOf(8) },
        { blockIndex: 5, zeroCount: 2 },
      ]),
    );
    const state = change(emptyState(geometry), [[3, 8]]);
    t.true(await holds(store, await capture.commit(commitRequest(state, 2)), state));
    await store.close();
  });

  withStore('a session ships passes, and its commit says of which instant', async (t, { store, reopen }) => {
    const base = await backUp(store, 'disk', null, first);
    const capture = await store.createCapture(describe('disk', first, base.id, SESSION));
    const passOne = change(first, [
      [0, 21],
      [1, 22],
      [70, 23],
      [40, 24],
    ]);
    const sent = await sendChanges(capture, changesBetween(first, passOne), 2);
    const again = await reopen();
    const found = again.captures()[0] as Capture;
    // Changed once more, as it was in the base, zero; block 40 stays as it came.
    const passTwo = change(passOne, [
      [0, 31],
      [1, 2],
      [70, null],
    ]);
    const batchCount = await sendChanges(found, changesBetween(passOne, passTwo), 2, sent + 1);
    const facts: Partial<CommitRequest> = {
      ...{ instant: '2026-09-08T07:06:05.004Z', kind: 'filesystem', provider: 'live' },
      ...{ providerFacts: { passes: 2 }, warnings: ['slow'] },
    };
    await refused(t, found.commit(commitRequest(passOne, batchCount, facts)), 'root-mismatch');
    const point = await found.commit(commitRequest(passTwo, batchCount, facts));
    t.like(point, { ...facts, sequence: 2, baseSequence: 1 });
    t.true(await holds(again, point, passTwo));
    t.true(await holds(again, base, first));
    await again.close();
  });

  withStore('nothing of a batch that is wrong is kept, and the session goes on', async (t, { store }) => {
    const capture = await begin(store);
    const good = makeBatch(SESSION, 1, [item(0, 1)]);
    const flipped = Buffer.from(good);
    flipped[200] = (flipped[200] ?? 0) ^ 1;
    const wrong = [
      flipped,
      good.subarray(0, -1),
      Buffer.from('noise'),
      makeBatch(SESSION, 2, [item(0, 1)]),
      makeBatch('c'.repeat(32), 1, [item(0, 1)]),
      makeBatch(SESSION, 1, [item(100, 1)]),
      makeBatch(SESSION, 1, [{ blockIndex: 0, bytes: stampedBlock(1, BLOCK / 2) }]),
      makeBatch(SESSION, 1, [{ blockIndex: 0, held: digestOf(1) }]),
    ];
    for (const body of wrong) await refused(t, capture.append(1, body), 'bad-batch');
    t.deepEqual(await capture.have(digestOf(1)), new Set());
    t.deepEqual(await capture.append(1, good), { durableSequence: 1 });
    await store.close();
  });

  withStore('what is held is told of the own device alone', async (t, { store }) => {
    await backUp(store, 'disk', null, first);
    const capture = await store.createCapture(describe('disk', second, null, SESSION));
    await capture.append(1, makeBatch(SESSION, 1, [item(5, 50)]));
    const asked = [99, 1, 50, 2, 98].map(digestOf);
    t.deepEqual(await capture.have(Buffer.concat(asked)), new Set([1, 2, 3]));
    t.deepEqual(await capture.have(Buffer.alloc(0)), new Set());
    const other = await store.createCapture(describe('other', second, null));
    t.deepEqual(await other.have(Buffer.concat(asked)), new Set());
    const stranger = await store.createCapture({ ...describe('disk', second, null), agent: 'beta' });
    t.deepEqual(await stranger.have(Buffer.concat(asked)), new Set());
    for (const bytes of [33, (HAVE_DIGESTS_MAX + 1) * 32])
      await refused(t, capture.have(Buffer.alloc(bytes)), 'bad-message');
    await store.close();
  });

  withStore(
    'a commit that is wrong leaves the session open; one that is repeated gives the same point',
    async (t, { store }) => {
      const capture = await begin(store);
      const batchCount = await sendChanges(capture, changesBetween(null, first));
      await refused(t, capture.commit(commitRequest(first, batchCount + 1)), 'out-of-order');
      await refused(t, capture.commit(commitRequest(second, batchCount)), 'root-mismatch');
      t.deepEqual(await store.points({}), []);
      const point = await capture.commit(commitRequest(first, batchCount));
      t.deepEqual(await capture.commit(commitRequest(first, batchCount)), point);
      await refused(t, capture.append(batchCount + 1, Buffer.alloc(0)), 'session-closed');
      await refused(t, capture.have(digestOf(1)), 'session-closed');
      await refused(t, capture.abort(), 'session-closed');
      await refused(t, begin(store), 'session-closed');
      await store.close();
    },
  );

  withStore('an aborted session is gone, but its blocks stay for a while', async (t, { store, pass }) => {
    const capture = await begin(store);
    await capture.append(1, makeBatch(SESSION, 1, [item(0, 60)]));
    t.like(await store.partialSets({ agent: 'alpha' }), [
      { sessionId: SESSION, state: 'open', device: 'disk' },
    ]);
    await capture.abort();
    await capture.abort();
    t.deepEqual(store.captures(), []);
    await refused(t, capture.append(2, Buffer.alloc(0)), 'session-unknown');
    await refused(t, capture.commit(commitRequest(first, 1)), 'session-unknown');
    const [set] = await store.partialSets({});
    t.like(set, { agent: 'alpha', sessionId: SESSION, state: 'ended' });
    t.true((set?.durableBytes ?? 0) > 0);
    t.deepEqual(await store.partialSets({ agent: 'beta' }), []);
    t.deepEqual(await store.partialSets({ device: 'other' }), []);
    const held = async (): Promise<boolean> => {
      const next = await store.createCapture(describe('disk', first, null));
      const answer = await next.have(digestOf(60));
      await next.abort();
      return answer.has(0);
    };
    await store.collect();
    t.true(await held());
    pass(8 * DAY_MS);
    await store.collect();
    t.false(await held());
    t.deepEqual(await store.partialSets({}), []);
    await store.close();
  });

  withStore('an open session expires when nobody goes on with it', async (t, { store, pass }) => {
    await begin(store);
    pass(6 * DAY_MS);
    t.deepEqual(store.expiredCaptures(), []);
    pass(2 * DAY_MS);
    t.deepEqual(
      store.expiredCaptures().map(({ description }) => description.sessionId),
      [SESSION],
    );
    await store.close();
  });

  withStore('what a session may not be', async (t, { store }) => {
    const point = await backUp(store, 'disk', null, first);
    const wrong = (changes: object) =>
      store.createCapture({ ...describe('disk', first, point.id), ...changes });
    await refused(t, wrong({ sessionId: '../x' }), 'bad-message');
    await refused(t, wrong({ device: 'a/b' }), 'bad-name');
    await refused(t, wrong({ agent: '' }), 'bad-name');
    await refused(t, wrong({ device: 'other' }), 'base-mismatch');
    await refused(t, wrong({ basePointId: 'f'.repeat(32) }), 'base-mismatch');
    await refused(t, wrong({ geometry: { ...geometry, blockSize: 2 * BLOCK } }), 'base-mismatch');
    await refused(t, wrong({ sessionId: point.id }), 'session-closed');
    await begin(store, point.id);
    await refused(t, wrong({}), 'session-busy');
    await refused(t, store.createCapture(describe('other', first, null, SESSION)), 'session-busy');
    await store.close();
  });

  withStore('a point is a difference to the last one, or to nothing', async (t, { store }) => {
    const one = await backUp(store, 'disk', null, first);
    t.deepEqual(await store.baseFor({ agent: 'alpha', device: 'disk' }), one);
    t.is(await store.baseFor({ agent: 'beta', device: 'disk' }), null);
    const two = await backUp(store, 'disk', first, second);
    t.like(two, { sequence: 2, baseSequence: 1 });
    const stale = await begin(store, one.id);
    await refused(t, stale.commit(commitRequest(first, 0)), 'base-mismatch');
    await stale.abort();
    const anew = await store.createCapture(describe('disk', first, null));
    const batchCount = await sendChanges(anew, changesBetween(null, first));
    t.like(await anew.commit(commitRequest(first, batchCount)), { sequence: 3, baseSequence: null });
    await store.close();
  });

  withStore('a device may grow and shrink', async (t, { store }) => {
    const larger = change(
      first,
      [
        [99, 20],
        [150, 21],
      ],
      { ...geometry, sizeBytes: 200 * BLOCK },
    );
    const smaller = change(larger, [[30, 22]], { ...geometry, sizeBytes: 60 * BLOCK });
    let before: typeof first | null = null;
    for (const state of [first, larger, smaller, emptyState({ ...geometry, sizeBytes: 0 })]) {
      t.true(
        await holds(store, await backUp(store, 'disk', before, state), state),
        String(state.geometry.sizeBytes),
      );
      before = state;
    }
    await store.close();
  });

  withStore('a session goes on where it was durable when the store is opened again', async (t, world) => {
    const items = changesBetween(null, first);
    const capture = await begin(world.store);
    await sendChanges(capture, items.slice(0, 3), 1);
    t.deepEqual(await capture.resume(), { durableSequence: 3, durableBlockEnd: 3 });
    const waiting = capture.append(5, makeBatch(SESSION, 5, [items[4] ?? item(0, 0)]));
    await Promise.all([refused(t, waiting, 'out-of-order'), capture.resume()]);
    const store = await world.reopen();
    const [found] = store.captures();
    if (found === undefined) return t.fail('the session is gone');
    t.like(found.description, { ...describe('disk', first, null, SESSION) });
    t.deepEqual(await found.resume(), { durableSequence: 3, durableBlockEnd: 3 });
    const batchCount = await sendChanges(found, items.slice(3), 1, 4);
    t.true(await holds(store, await found.commit(commitRequest(first, batchCount)), first));
    await store.close();
  });

  withStore('a closed store takes nothing more', async (t, { store }) => {
    const point = await backUp(store, 'disk', null, first);
    const capture = await begin(store, point.id);
    await store.close();
    await store.close();
    await refused(t, capture.append(1, makeBatch(SESSION, 1, [item(0, 1)])), 'cancelled');
    await refused(t, capture.have(digestOf(1)), 'cancelled');
    await refused(t, store.nodes(point, [{ level: 1, index: 0 }]), 'cancelled');
    await refused(
      t,
      store.blocks(point, [0], async () => t.fail()),
      'cancelled',
    );
    await refused(t, begin(store), 'cancelled');
  });

  testStoreReading(name, async (t, points) => {
    const world = await make(t);
    await points.write(world.store);
    return world.reopen();
  });

  test(`${name}: leaves of a point are those of its blocks`, async (t) => {
    const { store } = await make(t);
    const point = await backUp(store, 'disk', null, first);
    const [low, high] = await store.nodes(point, [
      { level: 1, index: 0 },
      { level: 1, index: 1 },
    ]);
    const leaves = leavesOf(first);
    t.deepEqual(low, Buffer.concat([0, 1, 2].map((index) => leaves.get(index) as Buffer)));
    t.deepEqual(high?.subarray(35 * 32), leaves.get(99));
    await store.close();
  });
}
