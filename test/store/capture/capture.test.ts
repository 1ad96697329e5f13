import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { BATCH_BYTES_MAX, KiB } from '../../../src/domain/base/limits.js';
import { native } from '../../../src/native/index.js';
import { createStore, openStore, type StoreOptions } from '../../../src/store/open.js';
import type { Capture, Store } from '../../../src/store/port/store.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
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

const geometry = { sizeBytes: 40 * 4 * KiB - 1000, blockSize: 4 * KiB };
const empty = emptyState(geometry);
const state = change(empty, [
  [0, 1],
  [5, 2],
  [39, 3],
]);
const SESSION = 'e'.repeat(32);

interface Place {
  readonly dir: string;
  readonly store: Store;
}

async function newStore(t: ExecutionContext, options: StoreOptions = {}): Promise<Place> {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  const store = await openStore(dir, options);
  t.teardown(() => store.close());
  return { dir, store };
}

const begin = (store: Store, base: string | null = null, sessionId = SESSION): Promise<Capture> =>
  store.createCapture(describe('disk', state, base, sessionId));
const block = (blockIndex: number, seed: number) => ({
  blockIndex,
  bytes: stampedBlock(seed, blockIndex === 39 ? 4 * KiB - 1000 : 4 * KiB),
});

test('batches that come out of order and at once are durable in order', async (t) => {
  const { store } = await newStore(t);
  const capture = await begin(store);
  const bodies = [1, 2, 3, 4].map((sequence) => makeBatch(SESSION, sequence, [block(sequence, sequence)]));
  const answers: number[] = [];
  await Promise.all(
    [4, 2, 3, 1].map(async (sequence) => {
      await capture.append(sequence, bodies[sequence - 1] as Buffer);
      answers.push(sequence);
    }),
  );
  t.deepEqual(answers, [1, 2, 3, 4]);
  t.is(capture.durableSequence, 4);
});

test('a batch that comes at any moment after the answer to another is taken', async (t) => {
  // Each batch fills a pack, which is ended while the next one comes.
  const { store } = await newStore(t, { packBytesTarget: 1 });
  const capture = await begin(store);
  const body = (sequence: number) => makeBatch(SESSION, sequence, [block(sequence % 39, sequence)]);
  for (let ticks = 0; ticks < 30; ticks += 1) {
    const next = capture.durableSequence + 1;
    await capture.append(next, body(next));
    for (let tick = 0; tick < ticks; tick += 1) await Promise.resolve();
    await capture.append(next + 1, body(next + 1));
    // Until that pack is published too.
    await sleep(20);
  }
  t.is(capture.durableSequence, 60);
});

test('a batch sent again is answered and not stored again, also while the first is on its way', async (t) => {
  const { store, dir } = await newStore(t);
  const capture = await begin(store);
  const body = makeBatch(SESSION, 1, [block(0, 1)]);
  const [a, b] = await Promise.all([capture.append(1, body), capture.append(1, body)]);
  t.deepEqual([a, b], [{ durableSequence: 1 }, { durableSequence: 1 }]);
  t.deepEqual(await capture.append(1, Buffer.from('anything')), { durableSequence: 1 });
  const point = await capture.commit(commitRequest(change(empty, [[0, 1]]), 1));
  t.true(await holds(store, point, change(empty, [[0, 1]])));
  t.is((await listFiles(join(dir, 'packs'))).length, 2);
});

test('within a session the later batch wins for a block, also after it was found again', async (t) => {
  const { store, dir } = await newStore(t);
  const capture = await begin(store);
  await capture.append(1, makeBatch(SESSION, 1, [block(0, 1), block(1, 2), block(2, 3), block(5, 4)]));
  await capture.append(2, makeBatch(SESSION, 2, [block(0, 9), { blockIndex: 1, zeroCount: 2 }]));
  await store.close();
  const again = await openStore(dir);
  const found = again.captures()[0] as Capture;
  t.deepEqual(found.description, capture.description);
  t.is(found.durableSequence, 2);
  const expected = change(empty, [
    [0, 9],
    [5, 4],
  ]);
  const point = await found.commit(commitRequest(expected, 2));
  t.true(await holds(again, point, expected));
  t.deepEqual(again.captures(), []);
  await again.close();
});

test('what is wrong with a batch is said, and nothing of it stays', async (t) => {
  const { store } = await newStore(t);
  const capture = await begin(store);
  const good = makeBatch(SESSION, 1, [block(0, 1)]);
  const flipped = Buffer.from(good);
  flipped[200] = (flipped[200] ?? 0) ^ 1;
  await refused(t, capture.append(1, flipped), 'bad-batch', /batch 1 of session e+ of disk/);
  await refused(t, capture.append(1, good.subarray(0, 100)), 'bad-batch');
  await refused(t, capture.append(1, Buffer.alloc(0)), 'bad-batch');
  await refused(t, capture.append(1, makeBatch('f'.repeat(32), 1, [block(0, 1)])), 'bad-batch');
  await refused(t, capture.append(1, makeBatch(SESSION, 2, [block(0, 1)])), 'bad-batch');
  await refused(t, capture.append(1, makeBatch(SESSION, 1, [{ blockIndex: 40, zeroCount: 1 }])), 'bad-batch');
  await refused(
    t,
    capture.append(1, makeBatch(SESSION, 1, [{ blockIndex: 39, bytes: stampedBlock(1, 4 * KiB) }])),
    'bad-batch',
  );
  await refused(t, capture.append(1, Buffer.alloc(BATCH_BYTES_MAX + 1)), 'too-large');
  const wrongDigest = makeBatch(SESSION, 1, [block(0, 1)]);
  wrongDigest[80] = (wrongDigest[80] ?? 0) ^ 1;
  native.checksum(wrongDigest.subarray(0, -32)).copy(wrongDigest, wrongDigest.length - 32);
  await refused(t, capture.append(1, wrongDigest), 'bad-digest');
  t.is(capture.durableSequence, 0);
  await capture.append(1, good);
  const point = await capture.commit(commitRequest(change(empty, [[0, 1]]), 1));
  t.true(await holds(store, point, change(empty, [[0, 1]])));
});

test('a batch beyond the window is refused, and one whose predecessor is refused goes on when that comes right', async (t) => {
  const { store } = await newStore(t);
  const capture = await begin(store);
  await refused(t, capture.append(5, makeBatch(SESSION, 5, [block(0, 1)])), 'out-of-order', /batches 1 to 4/);
  await refused(t, capture.append(1.5, Buffer.alloc(0)), 'out-of-order');
  const second = capture.append(2, makeBatch(SESSION, 2, [block(1, 1)]));
  await refused(t, capture.append(1, Buffer.from('x')), 'bad-batch');
  await capture.append(1, makeBatch(SESSION, 1, [block(0, 1)]));
  t.deepEqual(await second, { durableSequence: 2 });
});

test('held blocks: only what the device or the session has, and of the right length', async (t) => {
  const { store } = await newStore(t);
  const digest = PLAIN.leafDigest(block(0, 1).bytes);
  const short = PLAIN.leafDigest(block(39, 2).bytes);
  const point = await backUp(
    store,
    'disk',
    null,
    change(empty, [
      [0, 1],
      [39, 2],
    ]),
  );

  const other = await store.createCapture(describe('another', state, null, 'a'.repeat(32)));
  t.deepEqual(await other.have(digest), new Set(), 'no answer about other devices');
  await refused(
    t,
    other.append(1, makeBatch('a'.repeat(32), 1, [{ blockIndex: 3, held: digest }])),
    'bad-batch',
    /block 3 is said to be held, but it is not/,
  );
  await other.append(1, makeBatch('a'.repeat(32), 1, [block(0, 1), block(1, 77)]));
  t.deepEqual(
    await other.have(Buffer.concat([digest, PLAIN.leafDigest(block(1, 77).bytes)])),
    new Set([0, 1]),
  );
  await other.append(2, makeBatch('a'.repeat(32), 2, [{ blockIndex: 3, held: digest }]));
  const expected = change(empty, [
    [0, 1],
    [1, 77],
    [3, 1],
  ]);
  const otherPoint = await other.commit(commitRequest(expected, 2));
  t.true(await holds(store, otherPoint, expected));

  const capture = await begin(store, point.id);
  t.deepEqual(await capture.have(Buffer.concat([randomBytes(32), digest, short])), new Set([1, 2]));
  await refused(
    t,
    capture.append(1, makeBatch(SESSION, 1, [{ blockIndex: 3, held: short }])),
    'bad-batch',
    /has 3096 bytes/,
  );
  await refused(t, capture.append(1, makeBatch(SESSION, 1, [{ blockIndex: 39, held: digest }])), 'bad-batch');
  await capture.append(1, makeBatch(SESSION, 1, [{ blockIndex: 3, held: digest }]));
  const mine = change(empty, [
    [0, 1],
    [3, 1],
    [39, 2],
  ]);
  t.true(await holds(store, await capture.commit(commitRequest(mine, 1)), mine));
});

test('have takes whole digests, not too many', async (t) => {
  const { store } = await newStore(t);
  const capture = await begin(store);
  t.deepEqual(await capture.have(new Uint8Array(0)), new Set());
  await refused(t, capture.have(new Uint8Array(33)), 'bad-message');
  await refused(t, capture.have(new Uint8Array(32 * 16_385)), 'bad-message');
  t.is((await capture.have(new Uint8Array(32 * 16_384))).size, 0);
});

test('a false root, or batches that are missing, commit nothing; the session goes on', async (t) => {
  const { store, dir } = await newStore(t);
  const capture = await begin(store);
  await sendChanges(capture, changesBetween(null, state));
  await refused(t, capture.commit(commitRequest(state, 2)), 'out-of-order', /2 batches .* 1 are durable/);
  await refused(t, capture.commit(commitRequest(change(state, [[7, 7]]), 1)), 'root-mismatch');
  t.deepEqual(await store.points({ agent: 'alpha' }), []);
  t.is((await listFiles(join(dir, 'points'))).length, 0);
  await capture.append(2, makeBatch(SESSION, 2, [block(7, 7)]));
  const point = await capture.commit(commitRequest(change(state, [[7, 7]]), 2));
  t.true(await holds(store, point, change(state, [[7, 7]])));
});

test('a commit that is asked for again and at once gives the one point', async (t) => {
  const { store } = await newStore(t);
  const capture = await begin(store);
  await sendChanges(capture, changesBetween(null, state));
  const request = commitRequest(state, 1);
  const [a, b] = await Promise.all([capture.commit(request), capture.commit(request)]);
  t.is(a, b);
  t.is(await capture.commit(request), a);
  t.deepEqual(await store.points({ agent: 'alpha' }), [a]);
  await refused(t, capture.append(2, makeBatch(SESSION, 2, [block(1, 1)])), 'session-closed');
  await refused(t, capture.have(new Uint8Array(32)), 'session-closed');
  await refused(t, capture.abort(), 'session-closed');
  await refused(t, begin(store), 'session-closed');
});

test('an aborted session leaves nothing but blocks that need not be sent again', async (t) => {
  const { store, dir } = await newStore(t);
  const capture = await begin(store);
  await sendChanges(capture, changesBetween(null, state));
  await capture.abort();
  await capture.abort();
  await refused(t, capture.append(2, makeBatch(SESSION, 2, [block(1, 1)])), 'session-unknown');
  await refused(t, capture.commit(commitRequest(state, 1)), 'session-unknown');
  t.deepEqual(await listFiles(join(dir, 'capture')), []);
  t.deepEqual(store.captures(), []);
  t.deepEqual(await store.points({ agent: 'alpha' }), []);
  const next = await begin(store);
  const digests = [...leavesOf(state).values()];
  t.deepEqual(await next.have(Buffer.concat(digests)), new Set([0, 1, 2]));
});

test('one session per device; ids, names and bases are looked at', async (t) => {
  const { store } = await newStore(t);
  await begin(store);
  await refused(t, begin(store, null, 'f'.repeat(32)), 'session-busy');
  await refused(t, store.createCapture(describe('other', state, null, SESSION)), 'session-busy');
  const racing = ['1', '2'].map((digit) =>
    store.createCapture(describe('race', state, null, digit.repeat(32))),
  );
  t.deepEqual(
    (await Promise.allSettled(racing)).map(({ status }) => status),
    ['fulfilled', 'rejected'],
  );
  await refused(t, store.createCapture(describe('../up', state, null)), 'bad-name');
  await refused(t, store.createCapture(describe('x', state, null, '../../etc')), 'bad-message');
  await refused(t, store.createCapture(describe('x', state, 'f'.repeat(32))), 'base-mismatch');
  const point = await backUp(store, 'y', null, state);
  await refused(t, store.createCapture(describe('x', state, point.id)), 'base-mismatch');
  const large = { ...state, geometry: { sizeBytes: geometry.sizeBytes, blockSize: 8 * KiB } };
  await refused(t, store.createCapture(describe('y', large, point.id)), 'base-mismatch');
});

test('a chain follows its device: growing, shrinking, empty, and back', async (t) => {
  const { store } = await newStore(t);
  const sized = (sizeBytes: number) => ({ sizeBytes, blockSize: 4 * KiB });
  let before = change(
    emptyState(sized(100 * 4 * KiB - 7)),
    Array.from({ length: 100 }, (_, i) => [i, i + 1] as const),
  );
  const states = [before];
  for (const sizeBytes of [100 * 4 * KiB, 5000 * 4 * KiB + 1, 64 * 4 * KiB, 4 * KiB - 1, 0, 65 * 4 * KiB]) {
    const last = Math.ceil(sizeBytes / (4 * KiB)) - 1;
    before = change(before, last < 0 ? [] : [[last, sizeBytes]], sized(sizeBytes));
    states.push(before);
  }
  const points = [];
  for (const [i, next] of states.entries())
    points.push(await backUp(store, 'disk', states[i - 1] ?? null, next));
  for (const [i, point] of points.entries())
    t.true(await holds(store, point, states[i] ?? empty), `point ${i + 1}`);
  t.deepEqual(
    points.map(({ baseSequence }) => baseSequence),
    [null, 1, 2, 3, 4, 5, 6],
  );
});

test('devices are captured and committed side by side', async (t) => {
  const { store } = await newStore(t, { packBytesTarget: 20 * KiB });
  const devices = Array.from({ length: 6 }, (_, i) => `disk${i}`);
  const states = devices.map((_, n) =>
    change(
      empty,
      Array.from({ length: 38 }, (_, i) => [i, i % 2 === 0 ? i + 1 : (n + 1) * 1000 + i] as const),
    ),
  );
  const points = await Promise.all(
    devices.map((device, n) => backUp(store, device, null, states[n] ?? empty)),
  );
  for (const [n, point] of points.entries()) t.true(await holds(store, point, states[n] ?? empty));
  for await (const event of store.verify({})) t.not(event.type, 'finding');
});

test('closing waits for what is on its way, and everything that was acknowledged is there', async (t) => {
  const { store, dir } = await newStore(t);
  const capture = await begin(store);
  const sent = [1, 2, 3].map((sequence) =>
    capture.append(sequence, makeBatch(SESSION, sequence, [block(sequence, sequence)])),
  );
  const results = Promise.allSettled(sent);
  await store.close();
  const acknowledged = (await results).filter(({ status }) => status === 'fulfilled').length;
  await refused(t, store.createCapture(describe('x', state, null)), 'cancelled');
  await refused(t, capture.append(4, makeBatch(SESSION, 4, [block(4, 4)])), 'cancelled');
  await refused(t, capture.have(new Uint8Array(32)), 'cancelled');
  await refused(t, capture.commit(commitRequest(state, 3)), 'cancelled');
  await refused(t, capture.abort(), 'cancelled');
  const again = await openStore(dir);
  t.true((again.captures()[0]?.durableSequence ?? 0) >= acknowledged);
  await again.close();
});

test('an open session goes on after its packs were published and the index was lost', async (t) => {
  const { store, dir } = await newStore(t, { packBytesTarget: 10 * KiB });
  const capture = await begin(store);
  const whole = change(
    empty,
    Array.from({ length: 30 }, (_, i) => [i, i + 1] as const),
  );
  const count = await sendChanges(capture, changesBetween(null, whole), 3);
  await store.close();
  t.true((await listFiles(join(dir, 'packs'))).length >= 2);
  await rm(join(dir, 'index'), { recursive: true });
  const again = await openStore(dir, { packBytesTarget: 10 * KiB });
  const found = again.captures()[0] as Capture;
  t.is(found.durableSequence, count);
  const digest = PLAIN.leafDigest(block(0, 1).bytes);
  t.deepEqual(await found.have(digest), new Set([0]));
  await found.append(count + 1, makeBatch(SESSION, count + 1, [{ blockIndex: 35, held: digest }]));
  const expected = change(whole, [[35, 1]]);
  const point = await found.commit(commitRequest(expected, count + 1));
  t.true(await holds(again, point, expected));
  t.true(point.storedBytes > 30 * 500, 'packs of before the restart count');
  await again.close();
});
