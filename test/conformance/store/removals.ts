/** What every store must do with points that are removed. */
import anyTest, { type TestFn } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { refused } from '../../helpers/refused.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  describe,
  emptyState,
  holds,
  sendChanges,
} from '../../helpers/worlds/store-device.js';
import type { MakeStore } from './sessions.js';

const test = anyTest as TestFn;

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });
const DISK = { agent: 'alpha', device: 'disk' };
const states = [1, 2, 3].map((n) =>
  change(EMPTY, [
    [0, 7],
    [n, 10 + n],
    [70, 20 + n],
  ]),
);
const [first = EMPTY, second = EMPTY, third = EMPTY] = states;

export function testStoreRemovals(name: string, make: MakeStore): void {
  test(`${name}: a point that is removed is gone, and its sequence and the others stay`, async (t) => {
    const { store, reopen } = await make(t);
    const one = await backUp(store, 'disk', null, first);
    const two = await backUp(store, 'disk', first, second);
    await backUp(store, 'other', null, first);
    t.is(store.useOf(one), null);
    await store.removePoint(one, 'a test wants it');
    t.deepEqual(await store.points(DISK), [two]);
    t.is(await store.point(null, one.id), null);
    await refused(t, store.removePoint(one, 'again'), 'point-unknown');
    t.like(await store.removedPoint(DISK, 1), { ...DISK, id: one.id, sequence: 1, why: 'a test wants it' });
    t.is(await store.removedPoint(DISK, 2), null);
    t.is(await store.removedPoint({ ...DISK, device: 'other' }, 1), null);
    t.true(await holds(store, two, second));
    const again = await reopen();
    t.deepEqual(await again.points(DISK), [two]);
    t.like(await again.removedPoint(DISK, 1), { id: one.id });
    const three = await backUp(again, 'disk', second, third);
    t.like(three, { sequence: 3, baseSequence: 2 });
    t.true(await holds(again, three, third));
    await again.close();
  });

  test(`${name}: the last point of a device goes with all of them only`, async (t) => {
    const { store, reopen } = await make(t);
    const one = await backUp(store, 'disk', null, first);
    await refused(t, store.removePoint(one, 'a test'), 'point-protected', /last/);
    const two = await backUp(store, 'disk', first, second);
    const kept = await backUp(store, 'other', null, first);
    await refused(t, store.removePoint(two, 'a test'), 'point-protected', /last/);
    t.deepEqual(await store.removeDevice(DISK, 'it is sold'), [one, two]);
    t.deepEqual(await store.points({}), [kept]);
    t.is(await store.baseFor(DISK), null);
    t.deepEqual(await store.removeDevice(DISK, 'it is sold'), []);
    t.like(await store.removedPoint(DISK, 2), { id: two.id, why: 'it is sold' });
    const again = await reopen();
    t.deepEqual(await again.points({}), [kept]);
    const three = await backUp(again, 'disk', null, third);
    t.like(three, { sequence: 3, baseSequence: null });
    t.true(await holds(again, three, third));
    t.true(await holds(again, kept, first));
    await again.close();
  });

  test(`${name}: a point that a session builds on stays`, async (t) => {
    const { store } = await make(t);
    await backUp(store, 'disk', null, first);
    const two = await backUp(store, 'disk', first, second);
    const capture = await store.createCapture(describe('disk', EMPTY, two.id));
    t.regex(store.useOf(two) ?? '', /builds on it/);
    await refused(t, store.removeDevice(DISK, 'a test'), 'session-busy', /builds on it/);
    t.is((await store.points(DISK)).length, 2, 'nor is another one of them removed');
    const count = await sendChanges(capture, changesBetween(second, third));
    const three = await capture.commit(commitRequest(third, count));
    t.is(store.useOf(two), null);
    await store.removePoint(two, 'a test');
    t.true(await holds(store, three, third));
    await store.close();
  });
}
