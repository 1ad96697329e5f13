import test from 'ava';
import fc from 'fast-check';
import { type LocalBase, planBase } from '../../../src/domain/session/plan.js';
import { makePoint } from '../../helpers/bytes/points.js';

const last = makePoint({ sequence: 7 });
const older = makePoint({ sequence: 6 });
const same = last.geometry;
const nothing: LocalBase = { tree: null, pending: null, problem: null };
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
    resizeFrom: null,
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
  t.like(planBase({ ...nothing, tree: treeOf(last) }, last, grown), {
    start: 'use-local',
    resizeFrom: same.sizeBytes,
  });
  const plan = planBase({ ...nothing, tree: treeOf(last) }, last, { ...grown, blockSize: 4096 });
  t.like(plan, { start: 'new-chain', resizeFrom: null });
  t.regex(plan.reason, /4096, but 65536/);
});

test('a local tree is believed only if it is exactly the last point’s', (t) => {
  const id = fc.constantFrom(last.id, older.id, 'e'.repeat(32));
  const root = fc.constantFrom(last.root, older.root, 'e'.repeat(64));
  const sizeBytes = fc.constantFrom(same.sizeBytes, same.sizeBytes + 1);
  fc.assert(
    fc.property(id, root, sizeBytes, (pointId, treeRoot, treeSize) => {
      const tree = { pointId, root: treeRoot, geometry: { ...same, sizeBytes: treeSize } };
      const plan = planBase({ tree, pending: null, problem: null }, last, same);
      const isExact = pointId === last.id && treeRoot === last.root && treeSize === same.sizeBytes;
      t.is(plan.start, isExact ? 'use-local' : 'compare');
    }),
  );
});
