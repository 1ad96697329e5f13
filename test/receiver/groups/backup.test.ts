/** A backup of a group over several hosts, from its orders to its points; the hosts are played. */
import test from 'ava';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { makeBackupWorld } from '../../helpers/groups/backup-world.js';
import { HostPort } from '../../helpers/groups/host-port.js';
import { refused } from '../../helpers/refused.js';

test('all hosts get an order, and their points are one group point', async (t) => {
  const { run, plays, phases } = await makeBackupWorld(t);
  const backup = run();
  const played = await Promise.all([plays('db1'), plays('db2', ['the disk is old'])]);
  const { points, hosts, warnings } = await backup;
  t.deepEqual(
    points.map(({ id }) => id).sort(),
    played
      .flat()
      .map(({ id }) => id)
      .sort(),
  );
  t.deepEqual(
    hosts.map(({ agent, devices, state }) => [agent, devices, state]),
    [
      ['db1', ['data', 'wal'], 'transferred'],
      ['db2', ['log'], 'transferred'],
    ],
  );
  t.deepEqual(warnings, ['db2: the disk is old']);
  t.deepEqual(phases, [
    'gathering',
    'resting',
    'closing',
    'cutting',
    'sending',
    'committing',
    'deciding',
    'done',
  ]);
});

test('a host that is not there fails the backup, or is left out by name', async (t) => {
  const { run, plays, comes } = await makeBackupWorld(t);
  const failing = refused(t, run({}, 300), 'unreachable', /agent db2: it is not connected/);
  const { host, port, order } = await comes('db1');
  t.like(await host.says({ state: 'preparing' }), { do: 'abandon' });
  await failing;
  const error = { code: 'cancelled', thing: 'data', reason: 'it was cancelled', permanent: true } as const;
  t.is(await port.reportOrder(order.orderId, { state: 'failed', error }), 'cancelled');
  const backup = run({ missing: 'leave-out' }, 300);
  await plays('db1');
  const { points, hosts } = await backup;
  for (const { group } of points) t.like(group, { memberCount: 2, ownCount: 2, missing: ['db2/log'] });
  t.is(hosts.find(({ state }) => state === 'out')?.agent, 'db2');
});

test('an error of a host names it', async (t) => {
  const { run, comes } = await makeBackupWorld(t);
  const error = { code: 'device-io', thing: 'log', reason: 'it broke', permanent: true } as const;
  const failing = refused(t, run(), 'device-io', /group db: db2: log: it broke/);
  const { host } = await comes('db2');
  await host.says({ state: 'failed', error });
  await failing;
});

test('a backup that is cancelled lets all hosts go; there is one at a time', async (t) => {
  const { run, comes, stop } = await makeBackupWorld(t);
  const failing = refused(t, run(), 'cancelled', /cancelled/);
  const { host } = await comes('db1');
  await refused(t, run(), 'session-busy', /running/);
  const waiting = host.says({ state: 'ready', try: 1 });
  stop.abort();
  t.like(await waiting, { do: 'abandon' });
  await failing;
});

test('a name is not that of a device, nor of an agent’s own group', async (t) => {
  const { run, plays, service } = await makeBackupWorld(t);
  await refused(t, run({ name: 'log' }), 'bad-name', /it is the name of a device/);
  const backup = run();
  await Promise.all([plays('db1'), plays('db2')]);
  await backup;
  const port = agentReceiver(service, 'db2');
  const host = new HostPort(port, 'a'.repeat(32), ['other']);
  const { sessionIds } = (await host.sends()) as { readonly sessionIds: readonly string[] };
  const own = { do: 'commit', kind: 'crash', group: { id: 'b'.repeat(32), name: 'db', sessionIds } } as const;
  await refused(t, host.commits(own, new Date().toISOString()), 'bad-name', /a group of the receiver/);
});
