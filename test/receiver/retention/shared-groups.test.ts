/** Group points of several agents at the receiver: they stay or go as one, whichever agent is asked about. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { brokenGroupPoints, groupPoints } from '../../../src/domain/point/group.js';
import { pointName } from '../../../src/domain/point/point-ref.js';
import type { RemovalSummary, RetentionWish } from '../../../src/receiver/retention/messages.js';
import { RetentionService } from '../../../src/receiver/retention/service.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { backUpGroup } from '../../helpers/groups/store-groups.js';
import { refused } from '../../helpers/refused.js';
import { change, emptyState } from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 10 * BLOCK, blockSize: BLOCK });
const stateOf = (n: number) => change(EMPTY, [[n % 10, 10 + n]]);
const AGENTS = ['alpha', 'beta'] as const;

/** db@1 to db@3, of alpha/data and beta/data. */
async function makeWorld(t: ExecutionContext) {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  const store = await openStore(dir);
  t.teardown(() => store.close());
  for (let n = 1; n <= 3; n += 1) {
    const before = n === 1 ? null : stateOf(n - 1);
    const members = AGENTS.map((agent) => ({ agent, device: 'data', before, after: stateOf(n) }));
    await backUpGroup(store, 'db', members, { isOfReceiver: true });
  }
  const service = new RetentionService({
    ...{ store, timeZone: 'UTC', endSessions: async () => undefined },
    onEvent: () => undefined,
  });
  const ask = async (wish: RetentionWish) =>
    (await service.perform(wish, new AbortController().signal, () => undefined)) as RemovalSummary;
  const left = async () => (await store.points({})).map((point) => pointName(point, 'local')).join(' ');
  return { store, ask, left };
}

test('they are numbered over all agents, and each says how many are of its own', async (t) => {
  const { store } = await makeWorld(t);
  const groups = groupPoints(await store.points({}));
  t.deepEqual(
    groups.map(({ agent, name, sequence, points }) => [agent, name, sequence, points.length]),
    [1, 2, 3].map((sequence) => ['local', 'db', sequence, 2]),
  );
  for (const { group } of await store.points({})) t.like(group, { memberCount: 2, ownCount: 1 });
  // An agent's own group of that name counts by itself.
  const member = { device: 'log', before: null, after: stateOf(1) };
  const [own] = await backUpGroup(store, 'db', [member]);
  t.like(own?.group, { sequence: 1, memberCount: 1 });
});

test('what another agent keeps is kept by a prune of one agent, and goes with it otherwise', async (t) => {
  const { ask, left } = await makeWorld(t);
  await ask({ to: 'set', scope: { agent: 'alpha', device: null }, policy: { keepLast: 1 } });
  await ask({ to: 'set', scope: { agent: 'beta', device: null }, policy: { keepLast: 2 } });
  await ask({ to: 'prune', agent: 'alpha', device: null });
  t.is(await left(), 'alpha/data@2 alpha/data@3 beta/data@2 beta/data@3');
});

test('one of them can’t be forgotten alone, and a device leaves the others as points of their own', async (t) => {
  const { store, ask, left } = await makeWorld(t);
  const [first] = await store.points({ agent: 'beta' });
  await refused(t, ask({ to: 'forget', pointIds: [first?.id ?? ''] }), 'point-protected', /group point/);
  const all = (await store.points({})).filter(({ sequence }) => sequence === 1);
  await ask({ to: 'forget', pointIds: all.map(({ id }) => id) });
  t.is(await left(), 'alpha/data@2 alpha/data@3 beta/data@2 beta/data@3');
  const summary = await ask({ to: 'forget-device', agent: 'beta', device: 'data' });
  t.deepEqual(
    summary.notWholeAnyMore?.map(({ name, sequence, left: rest }) => [name, sequence, rest.length]),
    [
      ['db', 2, 1],
      ['db', 3, 1],
    ],
  );
  t.is(await left(), 'alpha/data@2 alpha/data@3');
  t.deepEqual(brokenGroupPoints(await store.points({})), [], 'what is left is the part of alpha');
});
