/** What operators see of a backup of a group over several hosts, and how they stop one. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { removeGroup } from '../../../src/receiver/orders/group-settings.js';
import { readGroupRuns, writeGroupRuns } from '../../../src/receiver/orders/last-group-run.js';
import { makeBackupWorld } from '../../helpers/groups/backup-world.js';
import { refused } from '../../helpers/refused.js';

const BROKE = { code: 'device-io', thing: 'log', reason: 'it broke', permanent: true } as const;

type World = Awaited<ReturnType<typeof makeBackupWorld>>;

const eventsOf = ({ seen }: World) => seen.lines.flatMap(({ event }) => event ?? []);
const lineOf = ({ seen }: World, event: string) => seen.lines.find((line) => line.event === event) ?? {};

test('a backup that is done is in the log, in the audit log and in its file', async (t) => {
  const world = await makeBackupWorld(t);
  const backup = world.run();
  await Promise.all([world.plays('db1'), world.plays('db2', ['the disk is old'])]);
  await backup;
  t.deepEqual(eventsOf(world), ['group-begun', 'group-instant', 'group-done']);
  t.like(lineOf(world, 'group-begun'), {
    group: 'db',
    by: 'schedule',
    members: ['db1/data', 'db2/log', 'db1/wal'],
  });
  t.like(lineOf(world, 'group-instant'), {
    try: 1,
    stalls: [
      { member: 'db1/data', stallMs: 3 },
      { member: 'db1/wal', stallMs: 3 },
      { member: 'db2/log', stallMs: 3 },
    ],
  });
  const done = lineOf(world, 'group-done');
  t.like(done, { point: 'db@1', points: ['db1/data@1', 'db1/wal@1', 'db2/log@1'], leftOut: [], warnings: 1 });
  for (const phase of ['gathering', 'closing', 'cutting', 'sending', 'committing', 'deciding'])
    t.is(typeof done[`${phase}Ms`], 'number', phase);
  t.like(world.seen.entries, [
    {
      who: 'schedule',
      what: 'group',
      result: 'begun',
      count: 2,
      detail: 'group db: db1/data, db2/log, db1/wal',
    },
    { who: 'schedule', what: 'group', result: 'done', point: 'db@1', count: 3, detail: 'group db' },
  ]);
  t.is(world.seen.entries.length, 2);
  t.deepEqual(world.seen.counted, ['stillpoint_group_runs_total db done']);
  const { begunAt, last } = await readGroupRuns(world.dir, 'db');
  t.is(begunAt, null);
  t.like(last, { by: 'schedule', point: 'db@1', failure: null, tries: 1, missed: 0, warningCount: 1 });
  t.deepEqual(last?.hosts[1], {
    ...{ agent: 'db2', devices: ['log'], isOut: false, reason: null },
    stalls: [{ device: 'log', stallMs: 3 }],
  });
  await removeGroup(world.dir, 'db');
  t.false(existsSync(join(world.dir, 'receiver', 'last-group-db.json')));
});

test('a host that is left out is named in each of them', async (t) => {
  const world = await makeBackupWorld(t);
  const backup = world.run({ missing: 'leave-out' });
  const { host, port, order } = await world.comes('db2');
  await host.says({ state: 'failed', error: BROKE });
  await port.reportOrder(order.orderId, { state: 'failed', error: BROKE });
  await world.plays('db1');
  await backup;
  t.like(lineOf(world, 'group-host-out'), {
    agent: 'db2',
    members: ['db2/log'],
    code: 'device-io',
    reason: 'it broke',
  });
  t.like(lineOf(world, 'group-done'), { leftOut: ['db2/log'] });
  t.like(world.seen.entries.at(-1), {
    ...{ who: 'receiver', what: 'group-left-out', result: 'failed', agent: 'db2', point: 'db@1' },
    detail: 'group db: db2/log: log: it broke',
  });
  const { last } = await readGroupRuns(world.dir, 'db');
  t.like(last?.hosts[1], { agent: 'db2', isOut: true, reason: 'log: it broke' });
});

test('a backup that failed names the host that was at fault, and the tries that were missed', async (t) => {
  const world = await makeBackupWorld(t);
  const failing = refused(t, world.run(), 'device-io', /db2: log: it broke/);
  const [one, two] = await Promise.all([world.comes('db1'), world.comes('db2')]);
  const waiting = one.host.says({ state: 'ready', try: 1 });
  await two.host.says({ state: 'ready', try: 1 });
  await waiting;
  await two.host.says({ state: 'missed', try: 1, again: true, error: BROKE }, 0);
  await two.host.says({ state: 'missed', try: 1, again: true, error: BROKE }, 0);
  t.like(lineOf(world, 'group-try-missed'), { agent: 'db2', try: 1, code: 'device-io', reason: 'it broke' });
  await two.host.says({ state: 'failed', error: BROKE });
  await failing;
  t.deepEqual(eventsOf(world), ['group-begun', 'group-try-missed', 'group-host-out', 'group-failed']);
  t.like(lineOf(world, 'group-failed'), { agent: 'db2', code: 'device-io' });
  t.like(world.seen.entries.at(-1), {
    what: 'group',
    result: 'failed',
    agent: 'db2',
    detail: 'group db: db2: log: it broke',
  });
  t.deepEqual(world.seen.counted, [
    'stillpoint_group_missed_tries_total db',
    'stillpoint_group_runs_total db failed',
  ]);
  const { last } = await readGroupRuns(world.dir, 'db');
  t.like(last, { point: null, failure: 'db2: log: it broke', tries: 2, missed: 1 });
});

test('what runs is shown, host by host', async (t) => {
  const world = await makeBackupWorld(t);
  const failing = t.throwsAsync(world.run(), { code: 'cancelled' });
  const { host } = await world.comes('db1');
  await host.says({ state: 'preparing' }, 0);
  const [view] = await world.groups.views('db');
  t.like(view?.running, { phase: 'gathering', try: 1 });
  t.deepEqual(
    view?.running?.hosts.map(({ agent, state }) => [agent, state]),
    [
      ['db1', 'preparing'],
      ['db2', 'awaited'],
    ],
  );
  const [one, two] = view?.running?.hosts ?? [];
  t.true(Date.parse(one?.since ?? '') >= Date.parse(two?.since ?? ''));
  t.deepEqual(
    view?.members.map(({ device, state, isOffered, canGroup }) => [device, state, isOffered, canGroup]),
    [
      ['data', 'connected', true, true],
      ['log', 'not connected', null, null],
      ['wal', 'connected', true, true],
    ],
  );
  t.is(view?.cutOffAt, null, 'it runs');
  await world.groups.cancel('db');
  await failing;
  t.is((await world.groups.views('db'))[0]?.running, null);
});

test('a backup is cancelled by the name of its group: no points, and its sessions go on later', async (t) => {
  const world = await makeBackupWorld(t);
  await refused(t, world.groups.cancel('db'), 'session-unknown', /no backup of it runs/);
  const failing = refused(t, world.run(), 'cancelled', /it was cancelled/);
  const [one, two] = await Promise.all([world.comes('db1'), world.comes('db2')]);
  await Promise.all([one.host.cuts(), two.host.cuts()]);
  const report = await one.host.sends();
  const waiting = one.host.says(report);
  await world.groups.cancel('db');
  await failing;
  t.like(await waiting, { do: 'abandon' });
  const state = { state: 'running', progress: { phase: 'scan', ...PROGRESS } } as const;
  t.is(await one.port.reportOrder(one.order.orderId, state), 'cancelled');
  t.deepEqual(await world.store.points({}), []);
  for (const sessionId of one.host.sessionIds) t.like(await one.port.status(sessionId), { state: 'open' });
  t.like(world.seen.entries.slice(-2), [
    { who: 'operator', what: 'group-cancel', detail: 'group db' },
    { what: 'group', result: 'failed' },
  ]);
  t.like((await readGroupRuns(world.dir, 'db')).last, { point: null, tries: 1 });
});

const PROGRESS = { doneBytes: 0, totalBytes: 1, changedBytes: 0, wireBytes: 0 };

test('commits that wait for a host are answered when the backup is cancelled', async (t) => {
  const world = await makeBackupWorld(t);
  const failing = refused(t, world.run(), 'cancelled', /it was cancelled/);
  const [one, two] = await Promise.all([world.comes('db1'), world.comes('db2')]);
  const [instant = ''] = await Promise.all([one.host.cuts(), two.host.cuts()]);
  const reports = await Promise.all([one.host.sends(), two.host.sends()]);
  const [command] = await Promise.all([one.host.says(reports[0]), two.host.says(reports[1])]);
  const commits = refused(t, one.host.commits(command, instant), 'group-failed', /was stopped/);
  while (one.host.sessionIds.some((id) => world.service.find('db1', id)?.state !== 'committing'))
    await sleep(5);
  await world.groups.cancel('db');
  await Promise.all([failing, commits]);
  t.deepEqual(await world.store.points({}), []);
  for (const id of one.host.sessionIds) t.is(world.service.find('db1', id)?.state, 'open');
});

test('what the store decides already is not cancelled', async (t) => {
  const world = await makeBackupWorld(t);
  const backup = world.run();
  const { store } = world;
  const commitTogether = store.commitTogether.bind(store);
  let late: Promise<unknown> = Promise.resolve();
  store.commitTogether = async (...given) => {
    late = refused(t, world.groups.cancel('db'), 'session-busy', /being made already/);
    await sleep(20);
    return commitTogether(...given);
  };
  await Promise.all([world.plays('db1'), world.plays('db2')]);
  t.is((await backup).points.length, 3);
  await late;
  t.deepEqual(world.phases.slice(-2), ['deciding', 'done']);
});

test('a backup that a receiver did not live to end is shown as cut off', async (t) => {
  const world = await makeBackupWorld(t);
  const begunAt = '2026-05-01T00:00:00.000Z';
  await writeGroupRuns(world.dir, 'db', { begunAt, last: null });
  const [view] = await world.groups.views(null);
  t.like(view, { running: null, cutOffAt: begunAt, lastRun: null, lastPoint: null });
});

test('a file that can not be written keeps no backup from being made', async (t) => {
  const world = await makeBackupWorld(t);
  await writeFile(join(world.dir, 'receiver', 'last-group-db.json'), 'damaged');
  const backup = world.run();
  await Promise.all([world.plays('db1'), world.plays('db2')]);
  t.is((await backup).points.length, 3);
  t.true(world.seen.lines.some(({ msg }) => msg === 'how the backup of the group went is not kept'));
});
