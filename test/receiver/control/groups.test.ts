/** Groups over several hosts by the commands' end of a receiver that serves: shown, backed up, stopped. */
import test, { type ExecutionContext } from 'ava';
import { receiverConditions } from '../../../src/domain/notice/receiver.js';
import { readAudit } from '../../../src/receiver/audit/read.js';
import { askReceiver } from '../../../src/receiver/control/client.js';
import { groupViewsSchema, groupWarningsSchema } from '../../../src/receiver/control/groups.js';
import type { ControlWish } from '../../../src/receiver/control/messages.js';
import { groupResultSchema } from '../../../src/receiver/control/messages.js';
import type { GroupView } from '../../../src/receiver/groups/views.js';
import { writeGroup } from '../../../src/receiver/orders/group-settings.js';
import { receiverSamples } from '../../../src/receiver/watch/gauges.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { GROUP } from '../../helpers/groups/backup-world.js';
import { HostPort } from '../../helpers/groups/host-port.js';
import { refused } from '../../helpers/refused.js';
import { makeTlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const LIMITS = { staleAfterMs: 1, staleOf: [], silentAfterMs: 0, spaceBelowBytes: null, daysLeft: 0 };

async function makeScene(t: ExecutionContext) {
  const store = await tempDir(t);
  await createStore(store);
  const receiver = await makeTlsReceiver(t, { openStore: () => openStore(store) });
  await writeGroup(receiver.dir, GROUP);
  const ports = {
    db1: receiver.client(await receiver.enroll('db1')),
    db2: receiver.client(await receiver.enroll('db2')),
  };
  const devices = { db1: ['data', 'wal'], db2: ['log'] };
  const ask = (wish: ControlWish) =>
    askReceiver(receiver.dir, wish, { signal: new AbortController().signal });
  const view = async (): Promise<GroupView | undefined> =>
    groupViewsSchema.parse(await ask({ op: 'groups', name: 'db' }))[0];
  const comes = async (agent: keyof typeof ports) => {
    const port = ports[agent];
    const question = { devices: devices[agent], running: [], ordersMax: 1, canGroup: true, waitMs: 20_000 };
    const order = await port.awaitOrder(question);
    if (order?.group === undefined) throw new Error('no order came');
    return { port, order, host: new HostPort(port, order.group.runId, devices[agent]) };
  };
  const samples = async () => {
    const facts = await receiver.server.facts();
    const conditions = receiverConditions(facts, LIMITS);
    const named = receiverSamples(facts, conditions).filter(({ labels }) => labels.group === 'db');
    const values = named.map(({ name, value }) => [name.replace('stillpoint_group_', ''), value] as const);
    return { conditions, values: Object.fromEntries(values) };
  };
  return { receiver, ask, view, comes, samples };
}

test('a backup is shown while it runs and when it has ended, and counted by its group', async (t) => {
  const { receiver, ask, view, comes, samples } = await makeScene(t);
  t.deepEqual((await samples()).values, { running: 0 }, 'what is not known is not 0');
  t.deepEqual(groupWarningsSchema.parse(await ask({ op: 'group-check', group: GROUP })), { warnings: [] });
  const backup = ask({ op: 'group-backup', name: 'db', waitMs: 60_000 });
  const hosts = await Promise.all([comes('db1'), comes('db2')]);
  t.like((await view())?.running, { phase: 'gathering', try: 1 });
  t.deepEqual((await samples()).values, { running: 1 });
  await Promise.all(
    hosts.map(async ({ host, port, order }) => {
      const instant = await host.cuts();
      const [point] = await host.commits(await host.says(await host.sends()), instant);
      await port.reportOrder(order.orderId, { state: 'done', pointId: point?.id ?? '', warnings: [] });
    }),
  );
  t.is(groupResultSchema.parse(await backup).points.length, 3);
  const shown = await view();
  t.like(shown, {
    running: null,
    cutOffAt: null,
    lastPoint: { point: 'db@1' },
    lastRun: { by: 'operator', failure: null },
  });
  t.deepEqual(
    shown?.members.map(({ state, isOffered }) => [state, isOffered]),
    Array(3).fill(['connected', true]),
  );
  const { values, conditions } = await samples();
  t.like(values, { running: 0, last_success: 1, last_left_out: 0, last_stall_seconds: 0.003 });
  t.true((values.last_end_timestamp_seconds ?? 0) >= (values.last_point_timestamp_seconds ?? Infinity));
  t.true(conditions.some(({ event, subject }) => event === 'device-stale' && subject === 'db'));
  const { dir } = receiver;
  await receiver.stop();
  const entries = [];
  for await (const entry of readAudit(dir)) if (entry.what.startsWith('group')) entries.push(entry);
  t.like(entries, [
    { who: 'operator', what: 'group', result: 'begun' },
    { who: 'operator', what: 'group', result: 'done', point: 'db@1', count: 3 },
  ]);
});

test('a backup that one command began is stopped by another', async (t) => {
  const { ask, view, comes, samples } = await makeScene(t);
  await refused(t, ask({ op: 'group-cancel', name: 'db' }), 'session-unknown', /no backup of it runs/);
  const backup = refused(
    t,
    ask({ op: 'group-backup', name: 'db', waitMs: 60_000 }),
    'cancelled',
    /cancelled/,
  );
  const { host } = await comes('db1');
  const waiting = host.says({ state: 'ready', try: 1 }, 60_000);
  await ask({ op: 'group-cancel', name: 'db' });
  await backup;
  t.like(await waiting, { do: 'abandon' });
  t.like(await view(), { running: null, lastRun: { point: null }, lastPoint: null });
  t.like((await samples()).values, { running: 0, last_success: 0 });
});
