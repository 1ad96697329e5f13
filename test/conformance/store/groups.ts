/** What every store must do with points that come and go together. */
import anyTest, { type TestFn } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { groupPoints } from '../../../src/domain/point/group.js';
import type { Point } from '../../../src/domain/point/point.js';
import { backUpGroup, type MemberChange, sendGroup, valuesOf } from '../../helpers/groups/store-groups.js';
import { refused } from '../../helpers/refused.js';
import { backUp, change, emptyState, holds } from '../../helpers/worlds/store-device.js';
import type { MakeStore } from './sessions.js';

const test = anyTest as TestFn;

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });
const stateOf = (n: number) =>
  change(EMPTY, [
    [0, 7],
    [n, 10 + n],
  ]);
const memberOf = (device: string, n: number): MemberChange => ({
  device,
  before: n === 1 ? null : stateOf(n - 1),
  after: stateOf(n),
});
const both = (n: number) => [memberOf('data', n), memberOf('wal', n)];

export function testStoreGroups(name: string, make: MakeStore): void {
  test(`${name}: the points of a group name it, each time with the next number`, async (t) => {
    const { store, reopen } = await make(t);
    await backUp(store, 'data', null, stateOf(1));
    const first = await backUpGroup(store, 'db', [memberOf('data', 2), memberOf('wal', 1)]);
    t.deepEqual(
      first.map(({ device, sequence, baseSequence }) => [device, sequence, baseSequence]),
      [
        ['data', 2, 1],
        ['wal', 1, null],
      ],
    );
    for (const { group } of first) t.like(group, { name: 'db', sequence: 1, memberCount: 2 });
    t.is(first[0]?.group?.id, first[1]?.group?.id);
    const second = await backUpGroup(store, 'db', [memberOf('data', 3), memberOf('wal', 2)]);
    const other = await backUpGroup(store, 'app', [memberOf('root', 1), memberOf('srv', 1)]);
    t.like(other[0]?.group, { name: 'app', sequence: 1 });
    const again = await reopen();
    const groups = groupPoints(await again.points({}));
    t.deepEqual(
      groups.map((each) => [each.name, each.sequence, each.points.map(({ id }) => id)]),
      [
        ['app', 1, other.map(({ id }) => id)],
        ['db', 1, first.map(({ id }) => id)],
        ['db', 2, second.map(({ id }) => id)],
      ],
    );
    for (const [at, n] of [3, 2].entries())
      t.true(await holds(again, second[at] as Point, stateOf(n)), 'as they were sent');
    await again.close();
  });

  test(`${name}: if one member can't become a point, none does, and all go on`, async (t) => {
    const { store, reopen } = await make(t);
    const { commits, group } = await sendGroup(store, 'db', both(1));
    const wrong = commits.map((each, at) =>
      at === 0 ? each : { ...each, request: { ...each.request, root: 'f'.repeat(64) } },
    );
    const results = await store.commitTogether(wrong, group);
    t.deepEqual(
      results.map((result) => (result.status === 'rejected' ? result.reason.code : 'made')),
      ['group-failed', 'root-mismatch'],
    );
    t.deepEqual(await store.points({}), []);
    const made = valuesOf(await store.commitTogether(commits, group));
    t.deepEqual(await store.points({}), made);
    const again = await reopen();
    t.deepEqual(await again.points({}), made);
    t.deepEqual(again.captures(), []);
    await again.close();
  });

  test(`${name}: a group point is removed as one`, async (t) => {
    const { store, reopen } = await make(t);
    const first = await backUpGroup(store, 'db', both(1));
    await refused(t, store.removeTogether(first, 'a test'), 'point-protected', /last/);
    const second = await backUpGroup(store, 'db', both(2));
    const [data] = first;
    t.throws(() => store.checkRemoval(data as Point), { code: 'point-protected' });
    await refused(t, store.removePoint(data as Point, 'a test'), 'point-protected', /group point/);
    await store.removeTogether(first, 'a test wants it');
    t.deepEqual(await store.points({}), second);
    for (const { agent, device, id } of first)
      t.like(await store.removedPoint({ agent, device }, 1), { id, why: 'a test wants it' });
    const again = await reopen();
    t.deepEqual(await again.points({}), second);
    const third = await backUpGroup(again, 'db', both(3));
    for (const point of third) t.like(point, { sequence: 3, group: { sequence: 3 } });
    await again.close();
  });

  test(`${name}: a device that is forgotten leaves the others as points of their own`, async (t) => {
    const { store } = await make(t);
    const [data, wal] = await backUpGroup(store, 'db', both(1));
    await store.removeDevice({ agent: 'alpha', device: 'wal' }, 'it is sold');
    t.deepEqual(await store.points({}), [data as Point]);
    t.deepEqual(groupPoints(await store.points({})), []);
    await backUp(store, 'data', stateOf(1), stateOf(2));
    await store.removePoint(data as Point, 'no group needs it');
    t.is((await store.points({})).length, 1);
    t.is(wal?.sequence, 1);
    await store.close();
  });
}
