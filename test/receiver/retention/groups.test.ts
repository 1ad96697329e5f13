/** Group points at the receiver: they are pruned and forgotten as one, and a device takes its points out. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { groupPoints } from '../../../src/domain/point/group.js';
import { type Point, pointLabel } from '../../../src/domain/point/point.js';
import type { RetentionEvent } from '../../../src/receiver/retention/events.js';
import type {
  PlannedPointView,
  RemovalSummary,
  RetentionWish,
} from '../../../src/receiver/retention/messages.js';
import { RetentionService } from '../../../src/receiver/retention/service.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { backUpGroup } from '../../helpers/groups/store-groups.js';
import { refused } from '../../helpers/refused.js';
import { backUp, change, emptyState } from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 10 * BLOCK, blockSize: BLOCK });
const stateOf = (n: number) => change(EMPTY, [[n % 10, 10 + n]]);
const ALL = { agent: null, device: null };

interface World {
  readonly store: Store;
  readonly events: RetentionEvent[];
  /** data@1 alone; db@1 to db@3 of data and wal; data@5 and wal@4 alone; etc@1 to etc@3 alone. */
  readonly points: ReadonlyMap<string, Point>;
  id(name: string): string;
  ask(wish: RetentionWish): Promise<{ answer: RemovalSummary; told: string[] }>;
  left(): Promise<string>;
}

async function makeWorld(t: ExecutionContext): Promise<World> {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  const store = await openStore(dir);
  t.teardown(() => store.close());
  let last = { data: 0, wal: 0, etc: 0 };
  const made: Point[] = [];
  const single = async (device: 'data' | 'wal' | 'etc') => {
    const n = last[device];
    made.push(await backUp(store, device, n === 0 ? null : stateOf(n), stateOf(n + 1)));
    last = { ...last, [device]: n + 1 };
  };
  await single('data');
  for (let n = 1; n <= 3; n += 1) {
    const members = (['data', 'wal'] as const).map((device) => {
      const before = last[device] === 0 ? null : stateOf(last[device]);
      return { device, before, after: stateOf(last[device] + 1) };
    });
    made.push(...(await backUpGroup(store, 'db', members)));
    last = { ...last, data: last.data + 1, wal: last.wal + 1 };
    await single('etc');
  }
  await single('data');
  await single('wal');
  const points = new Map(made.map((point) => [pointLabel(point), point]));
  const events: RetentionEvent[] = [];
  const service = new RetentionService({
    ...{ store, timeZone: 'UTC', endSessions: async () => undefined },
    onEvent: (event) => events.push(event),
  });
  const ask: World['ask'] = async (wish) => {
    const told: PlannedPointView[] = [];
    const answer = await service.perform(wish, new AbortController().signal, (point) => told.push(point));
    const lines = told.map(({ stays, ...point }) => `${pointLabel(point)} ${stays ? 'stays' : 'goes'}`);
    return { answer: answer as RemovalSummary, told: lines };
  };
  const left = async () => (await store.points({})).map(pointLabel).sort().join(' ');
  const id = (name: string) => points.get(name)?.id ?? 'f'.repeat(32);
  return { store, events, points, id, ask, left };
}

const ALL_POINTS = 'data@1 data@2 data@3 data@4 data@5 etc@1 etc@2 etc@3 wal@1 wal@2 wal@3 wal@4';

test('a prune removes a group point as one, and tells each point with its reasons', async (t) => {
  const { store, events, points, ask, left } = await makeWorld(t);
  t.is(await left(), ALL_POINTS);
  await ask({ to: 'set', scope: { agent: 'alpha', device: 'data' }, policy: { keepLast: 1 } });
  await ask({ to: 'set', scope: { agent: 'alpha', device: 'wal' }, policy: { keepLast: 2 } });
  const plan = await ask({ to: 'plan', ...ALL });
  t.deepEqual(
    plan.told.filter((line) => !line.startsWith('etc')),
    [
      ...['data@1 goes', 'data@2 goes', 'data@3 goes', 'data@4 stays', 'data@5 stays'],
      ...['wal@1 goes', 'wal@2 goes', 'wal@3 stays', 'wal@4 stays'],
    ],
  );
  const pruned = await ask({ to: 'prune', ...ALL });
  t.like(pruned.answer, { deviceCount: 3, withoutPolicy: 1, going: 5, staying: 7 });
  t.deepEqual(pruned.told, ['data@1 goes', 'data@2 goes', 'wal@1 goes', 'data@3 goes', 'wal@2 goes']);
  t.is(await left(), 'data@4 data@5 etc@1 etc@2 etc@3 wal@3 wal@4');
  t.is(events.filter(({ type }) => type === 'point-removed').length, 5);
  const mark = await store.removedPoint({ agent: 'alpha', device: 'wal' }, 2);
  t.is(mark?.why, 'no rule keeps a point of its group point');
  t.true(points.has('wal@2'));
});

test('a prune of one device plans the others of its group points, and takes their points along', async (t) => {
  const { id, ask, left } = await makeWorld(t);
  await ask({ to: 'set', scope: ALL, policy: { keepLast: 1 } });
  await ask({ to: 'pin', pointId: id('wal@1'), reason: 'the audit', untilMs: null });
  const scope = { agent: null, device: 'data' };
  const plan = await ask({ to: 'plan', ...scope });
  t.deepEqual(plan.told, [
    ...['data@1 goes', 'data@2 stays', 'data@3 goes', 'data@4 goes', 'data@5 stays'],
    ...['wal@2 goes', 'wal@3 goes'],
  ]);
  const pruned = await ask({ to: 'prune', ...scope });
  t.like(pruned.answer, { deviceCount: 1, going: 5, staying: 2 });
  t.is(await left(), 'data@2 data@5 etc@1 etc@2 etc@3 wal@1 wal@4');
  t.deepEqual((await ask({ to: 'prune', ...scope })).told, []);
});

test('if one point of a group point is in use by now, all of it stays', async (t) => {
  const { store, points, ask, left } = await makeWorld(t);
  await ask({ to: 'set', scope: ALL, policy: { keepLast: 1 } });
  const remove = store.removeTogether.bind(store);
  const wal = points.get('wal@1');
  if (wal === undefined) throw new Error('it was made');
  store.removeTogether = async (...args) => {
    await store.nodes(wal, [{ level: 1, index: 0 }]);
    return remove(...args);
  };
  await ask({ to: 'prune', ...ALL });
  t.is(await left(), 'data@2 data@5 etc@3 wal@1 wal@4');
});

test('forget takes a group point with all its points, and none of them alone', async (t) => {
  const { store, id, events, ask, left } = await makeWorld(t);
  await refused(
    t,
    ask({ to: 'forget', pointIds: [id('data@2')] }),
    'point-protected',
    /it belongs to the group point db@1.*"forget db@1"/,
  );
  await ask({ to: 'pin', pointId: id('wal@2'), reason: 'the audit', untilMs: null });
  const both = ['data@2', 'wal@1', 'data@3', 'wal@2'].map(id);
  await refused(t, ask({ to: 'forget', pointIds: both }), 'point-protected', /the audit/);
  t.is(await left(), ALL_POINTS, 'all or none');
  const forgotten = await ask({ to: 'forget', pointIds: ['wal@1', 'etc@1', 'data@2'].map(id) });
  t.deepEqual(forgotten.told, ['data@2 goes', 'wal@1 goes', 'etc@1 goes']);
  t.is(forgotten.answer.going, 3);
  t.is(events.filter(({ type }) => type === 'point-removed').length, 3);
  t.deepEqual(
    groupPoints(await store.points({})).map(({ sequence }) => sequence),
    [2, 3],
  );
});

test('a device that is forgotten leaves the other points of its group points as points of their own', async (t) => {
  const { id, ask, left } = await makeWorld(t);
  const { answer } = await ask({ to: 'forget-device', agent: 'alpha', device: 'wal' });
  t.is(await left(), 'data@1 data@2 data@3 data@4 data@5 etc@1 etc@2 etc@3');
  t.deepEqual(
    answer.notWholeAnyMore?.map(({ name, sequence, left }) => [name, sequence, ...left.map(pointLabel)]),
    [
      ['db', 1, 'data@2'],
      ['db', 2, 'data@3'],
      ['db', 3, 'data@4'],
    ],
  );
  t.is((await ask({ to: 'forget-device', agent: 'alpha', device: 'etc' })).answer.notWholeAnyMore, undefined);
  await ask({ to: 'forget', pointIds: [id('data@2')] });
  t.is(await left(), 'data@1 data@3 data@4 data@5');
});
