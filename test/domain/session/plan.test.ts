import test from 'ava';
import fc from 'fast-check';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import type { Point } from '../../../src/domain/point/point.js';
import {
  changesCount,
  type LocalBase,
  type PlanFacts,
  planSession,
  resizedFrom,
  settleBase,
} from '../../../src/domain/session/plan.js';
import { makePoint } from '../../helpers/bytes/points.js';

const last = makePoint({ sequence: 7 });
const older = makePoint({ sequence: 6 });
const same = last.geometry;
const nothing: LocalBase = { tree: null, pending: null, problem: null };
const plan = (facts: Partial<PlanFacts>) =>
  planSession({ local: nothing, last: null, blockSize: undefined, full: false, doubt: null, ...facts });
const planBase = (local: LocalBase, point: Point | null, { blockSize }: { readonly blockSize: number }) =>
  plan({ local, last: point, blockSize }).base;
const treeOf = (point: typeof last) => ({ pointId: point.id, root: point.root, geometry: point.geometry });

test('without a point the base is empty, whatever the agent holds', (t) => {
  t.is(planBase(nothing, null, same).start, 'empty');
  t.is(planBase(nothing, null, same).reason, 'the device has no point yet');
  const unused = { ...treeOf(older), pointId: '0'.repeat(32) };
  t.is(planBase({ ...nothing, tree: unused }, null, same).reason, 'the device has no point yet');
  const { start, reason } = planBase({ ...nothing, tree: treeOf(older) }, null, same);
  t.is(start, 'empty');
  t.is(reason, 'the receiver no longer has any point of the device');
});

test('the tree of the last point is used', (t) => {
  t.deepEqual(planBase({ ...nothing, tree: treeOf(last) }, last, same), {
    start: 'use-local',
    reason: 'the local tree is that of the last point',
  });
});

test('a pending overlay is applied where it leads from the tree to the last point', (t) => {
  const pending = { pointId: last.id, root: last.root, baseRoot: older.root };
  const tree = treeOf(older);
  t.is(planBase({ tree, pending, problem: null }, last, same).start, 'apply-pending');
  for (const wrong of [
    { ...pending, pointId: older.id },
    { ...pending, root: older.root },
    { ...pending, baseRoot: last.root },
  ]) {
    t.is(planBase({ tree, pending: wrong, problem: null }, last, same).start, 'compare');
  }
  t.is(planBase({ tree: null, pending, problem: null }, last, same).start, 'compare');
});

test('a session that was never committed does not spoil the tree', (t) => {
  const pending = { pointId: 'f'.repeat(32), root: 'f'.repeat(64), baseRoot: last.root };
  t.is(planBase({ tree: treeOf(last), pending, problem: null }, last, same).start, 'use-local');
});

test('anything else is fetched, and the reason is said', (t) => {
  t.is(planBase(nothing, last, same).reason, 'there is no local tree');
  t.is(
    planBase({ ...nothing, problem: 'the local tree is damaged' }, last, same).reason,
    'the local tree is damaged',
  );
  t.regex(
    planBase({ ...nothing, tree: treeOf(older) }, last, same).reason,
    /not that of the last point disk1@7/,
  );
  const contradicting = { ...treeOf(last), root: older.root };
  t.regex(planBase({ ...nothing, tree: contradicting }, last, same).reason, /contradicts point disk1@7/);
});

test('another size keeps the chain, another block size starts one', (t) => {
  const grown = { ...same, sizeBytes: same.sizeBytes * 2 };
  t.is(planBase({ ...nothing, tree: treeOf(last) }, last, grown).start, 'use-local');
  t.is(resizedFrom(last, grown), same.sizeBytes);
  t.is(resizedFrom(last, same), null);
  t.is(resizedFrom(null, grown), null);
  const { base, changesSince } = plan({ local: { ...nothing, tree: treeOf(last) }, last, blockSize: 4096 });
  t.is(base.start, 'new-chain');
  t.regex(base.reason, /4096, but 65536/);
  t.is(changesSince, null);
});

test('a block size that is not asked for is the last point’s, or the default', (t) => {
  const small = makePoint({ geometry: { ...same, blockSize: 4096 } });
  t.like(plan({ last: small }), { blockSize: 4096, changesSince: small });
  t.like(plan({}), { blockSize: 65_536, changesSince: null });
});

test('everything is read where changes can’t be relied on, or nothing is gained by them', (t) => {
  const local = { ...nothing, tree: treeOf(last) };
  t.false(plan({ local, last }).readsAll);
  t.true(plan({ local, last, full: true }).readsAll);
  t.true(plan({ local, last, doubt: 'it missed a change' }).readsAll);
  t.true(plan({ local: nothing, last }).readsAll, 'the local tree is compared');
  const bad = makePoint({
    sequence: 7,
    badRanges: [{ byteOffset: 0, byteLength: 512, content: 'filler' }],
  });
  t.true(plan({ local: { ...nothing, tree: treeOf(bad) }, last: bad }).readsAll, 'it may be readable now');
});

test('an agent that knows points where the receiver has none says so, once', (t) => {
  const local = { ...nothing, tree: treeOf(older) };
  t.regex(
    plan({ local }).notice ?? '',
    /no longer has any point of the device; everything that it does not hold is/,
  );
  t.is(plan({ local, doubt: 'it missed a change' }).notice, null);
  t.is(plan({}).notice, null);
  t.is(plan({ local, last }).notice, null);
});

test('the receiver has the last word on the base', (t) => {
  const local = { ...nothing, tree: treeOf(last) };
  const settled = (answered: Point | null, facts: Partial<PlanFacts> = {}) =>
    settleBase(plan({ local, last, ...facts }), { device: 'disk1', local, last, answered });
  t.deepEqual(settled(last), { base: plan({ local, last }).base, warning: null });
  const newer = makePoint({ sequence: 8 });
  t.like(settled(newer), { base: { start: 'compare' }, warning: null });
  const lost = settled(null);
  t.regex(lost.warning ?? '', /lost parts of the last point/);
  t.deepEqual(lost.base, { start: 'empty', reason: lost.warning ?? '' });
  t.is(settled(null, { blockSize: 4096 }).base.start, 'new-chain', 'of which no base is expected');
  const other = makePoint({ sequence: 8, geometry: { ...same, blockSize: 4096 } });
  const error = t.throws(() => settled(other));
  t.true(isStillpointError(error, 'base-mismatch') && !error.permanent);
});

test('changes since the last point count for that point alone, in its size', (t) => {
  t.true(changesCount(last, last, same));
  t.false(changesCount(null, last, same));
  t.false(changesCount(older, last, same));
  t.false(changesCount(null, null, same));
  t.false(changesCount(last, last, { ...same, sizeBytes: 1 }));
});

test('a local tree is believed only if it is exactly the last point’s', (t) => {
  const id = fc.constantFrom(last.id, older.id, 'e'.repeat(32));
  const root = fc.constantFrom(last.root, older.root, 'e'.repeat(64));
  const sizeBytes = fc.constantFrom(same.sizeBytes, same.sizeBytes + 1);
  fc.assert(
    fc.property(id, root, sizeBytes, (pointId, treeRoot, treeSize) => {
      const tree = { pointId, root: treeRoot, geometry: { ...same, sizeBytes: treeSize } };
      const { start } = planBase({ tree, pending: null, problem: null }, last, same);
      const isExact = pointId === last.id && treeRoot === last.root && treeSize === same.sizeBytes;
      t.is(start, isExact ? 'use-local' : 'compare');
    }),
  );
});
