/** What is found out about a group when it is made, and what is shown of one. */
import test from 'ava';
import { checkNewGroup, type GroupCheckSource } from '../../../src/receiver/groups/check.js';
import { groupViews, lastGroupPoint } from '../../../src/receiver/groups/views.js';
import { OrderBook } from '../../../src/receiver/orders/orders.js';
import { GROUP, makeBackupWorld } from '../../helpers/groups/backup-world.js';
import { refused } from '../../helpers/refused.js';

const ASK = { running: [], ordersMax: 1, waitMs: 1 };

function source(changes: Partial<GroupCheckSource> = {}): GroupCheckSource {
  return { store: { points: async () => [] }, access: () => 'enrolled', presence: null, ...changes };
}

test('agents have to be enrolled; what can be mended later is a warning', async (t) => {
  t.deepEqual(await checkNewGroup(GROUP, source()), []);
  const access = (agent: string) => (agent === 'db2' ? null : 'enrolled');
  await refused(t, checkNewGroup(GROUP, source({ access })), 'usage', /group db: no agent of the name db2/);
  t.deepEqual(
    await checkNewGroup(GROUP, source({ access: (agent) => (agent === 'db2' ? 'revoked' : 'enrolled') })),
    ['the access of db2 was revoked'],
  );
  const orders = new OrderBook();
  const presence = (agent: string) => orders.presence(agent);
  t.deepEqual(await checkNewGroup(GROUP, source({ presence })), [], 'nobody is there');
  await orders.await('db1', { ...ASK, devices: ['data'], canGroup: true });
  await orders.await('db2', { ...ASK, devices: ['log'] });
  t.deepEqual(await checkNewGroup(GROUP, source({ presence })), [
    'db1 does not offer wal now',
    "db2 runs an older version, which can't take part in a group over several hosts",
  ]);
  await orders.await('db2', { ...ASK, devices: ['log', 'db'], canGroup: true });
  await refused(
    t,
    checkNewGroup(GROUP, source({ presence })),
    'bad-name',
    /a device that the agent db2 offers/,
  );
});

test('a name is compared with the points of each agent', async (t) => {
  const { run, plays, groups, store } = await makeBackupWorld(t);
  const backup = run();
  await Promise.all([plays('db1'), plays('db2')]);
  await backup;
  t.deepEqual(await groups.check(GROUP), []);
  await refused(
    t,
    checkNewGroup({ ...GROUP, name: 'log' }, source({ store })),
    'bad-name',
    /the name of a device that has points/,
  );
  const points = await store.points({});
  t.like(lastGroupPoint(points, 'db'), { point: 'db@1' });
  t.is(lastGroupPoint(points, 'other'), null);
  t.is(lastGroupPoint(points.slice(1), 'db'), null, 'it is not whole any more');
});

test('without a receiver what is in files is shown', async (t) => {
  const { run, plays, dir, store } = await makeBackupWorld(t);
  const backup = run();
  await Promise.all([plays('db1'), plays('db2')]);
  await backup;
  const points = await store.points({});
  const access = (agent: string) => (agent === 'db1' ? 'enrolled' : null);
  const [view] = await groupViews([GROUP], { dir, points, access, served: null });
  t.like(view, { running: null, cutOffAt: null, lastPoint: { point: 'db@1' }, lastRun: { point: 'db@1' } });
  t.deepEqual(
    view?.members.map(({ state }) => state),
    ['unknown', 'not enrolled', 'unknown'],
  );
});
