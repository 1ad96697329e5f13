/** Groups beside devices: when they run, what keeps them from it, and what is remembered. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { unlessAborted } from '../../../src/agent/common/cancel.js';
import { viewAtRest } from '../../../src/agent/daemon/at-rest.js';
import { readMemory } from '../../../src/agent/daemon/state.js';
import { broken, DAY, gate, HOUR, makeWorld, resultsOf, START } from '../../helpers/fakes/daemon-world.js';

const DEVICES = `[[device]]
name = "data"
path = "/data"
schedule = "03:00 UTC"
[[device]]
name = "wal"
path = "/wal"
[[device]]
name = "other"
path = "/other"
schedule = "02:00 UTC"
`;
const group = (more = '') =>
  `parallel = 2\n${DEVICES}[[group]]\nname = "db"\nmembers = ["data", "wal"]\nschedule = "02:00 UTC"\nretries = 1\n${more}`;
const nobody = () => undefined;

test('a group runs by its schedule as one of those at once; its members wait, and have its points', async (t) => {
  const world = await makeWorld(t, group());
  const daemon = await world.open();
  t.deepEqual((await world.at(daemon, 2)).sort(), ['db', 'other'], 'two at once');
  const db = world.begun.find(({ name }) => name === 'db');
  db?.onEvent({ type: 'progress', doneBytes: 10, totalBytes: 100, wireBytes: 1 }, 'data');
  db?.onEvent({ type: 'progress', doneBytes: 5, totalBytes: 50, wireBytes: 1 }, 'wal');
  db?.onEvent({ type: 'progress', doneBytes: 20, totalBytes: 100, wireBytes: 1 }, 'data');
  t.like(await world.state_(daemon, 'db'), {
    ...{ path: null, members: ['data', 'wal'], state: 'running' },
    running: { why: 'due', doneBytes: 25, totalBytes: 150 },
  });
  t.like(await world.state_(daemon, 'data'), { path: '/data', members: null, state: 'waiting' });
  world.begun.find(({ name }) => name === 'other')?.done();
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 3), [], 'data is due, and its group runs');
  await t.throwsAsync(daemon.backUpNow('wal', false, world.stop.signal, nobody), {
    code: 'session-busy',
    message: /^device wal: a backup of its group db is running\. /,
  });
  await t.throwsAsync(daemon.backUpNow('db', false, world.stop.signal, nobody), {
    code: 'session-busy',
    message: /^group db: a backup of it is running\. /,
  });
  db?.done();
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'db'), {
    ...{ state: 'waiting', problem: null, nextAt: new Date(START + DAY + 2 * HOUR).toISOString() },
    ...{ lastGood: { point: 'db@2' }, last: { state: 'done', point: 'db@2', wireBytes: 14, reason: null } },
  });
  t.like(await world.state_(daemon, 'wal'), { lastGood: { point: 'wal@2' }, last: null });
  // What it writes, it writes in turn.
  await daemon.resume('db');
  t.like((await readMemory(world.state)).groups, {
    length: 1,
    0: { name: 'db', lastGood: { point: 'db@2' } },
  });
  t.deepEqual(
    daemon.devices.map(({ name }) => name),
    ['data', 'wal', 'other'],
    'receivers order devices',
  );
  t.deepEqual(
    daemon.plans().map(({ device }) => device),
    ['data', 'wal', 'other'],
  );
  t.deepEqual(await world.at(daemon, 3.01), ['data'], 'it has waited');
  t.true(world.log.some(({ msg, group: name }) => msg === 'backup done' && name === 'db'));
});

test('a group waits while a member runs, and is refused on demand', async (t) => {
  const world = await makeWorld(t, group());
  const daemon = await world.open();
  const wal = daemon.backUpNow('wal', false, world.stop.signal, nobody);
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 2), ['other']);
  await t.throwsAsync(daemon.backUpNow('db', false, world.stop.signal, nobody), {
    code: 'session-busy',
    message: /^group db: a backup of its member wal is running\. /,
  });
  t.like(await world.state_(daemon, 'db'), { state: 'waiting', failures: 0, last: null });
  world.begun[0]?.done();
  await wal;
  t.deepEqual(await world.at(daemon, 2.01), ['db']);
});

test('a group is tried again, paused, resumed, cancelled and run on demand as a device', async (t) => {
  const world = await makeWorld(t, group());
  const daemon = await world.open();
  await world.at(daemon, 2);
  world.begun.find(({ name }) => name === 'db')?.fail(broken);
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'db'), { state: 'retrying', failures: 1, problem: '/a: it broke' });
  t.deepEqual(await world.at(daemon, 2.1), ['db'], 'the only retry');
  t.throws(() => daemon.cancel('wal'), { code: 'session-unknown' });
  daemon.cancel('db');
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'db'), { last: { state: 'cancelled' } });
  t.throws(() => daemon.cancel('db'), { code: 'session-unknown', message: /^group db: / });
  await daemon.pause('db', 2 * DAY);
  world.isQuick = true;
  await world.at(daemon, 3);
  t.deepEqual(await world.at(daemon, 27), ['data']);
  t.like(await world.state_(daemon, 'db'), { state: 'paused' });
  const asked = await daemon.backUpNow('db', true, world.stop.signal, nobody);
  t.like(asked, { group: { name: 'db', memberCount: 2 }, leftOut: [] });
  t.like(world.begun.at(-1), { name: 'db', full: true });
  t.like(await viewAtRest(world.state, await world.load(), world.nowMs), {
    devices: { 1: { name: 'db', state: 'paused', members: ['data', 'wal'], last: { why: 'asked' } } },
  });
  await daemon.resume('db');
  t.deepEqual(await world.at(daemon, 27.1), ['db']);
});

test('a group waits for a member that is missing, or goes on without it; each is told', async (t) => {
  const world = await makeWorld(t, group());
  world.isQuick = true;
  world.missing.add('/wal');
  const daemon = await world.open();
  t.deepEqual(await world.at(daemon, 2), ['other']);
  t.like(await world.state_(daemon, 'db'), { state: 'absent', problem: 'its member wal is not there' });
  const waits = 'the device is not there; the backup of its group waits for it';
  t.like(
    world.log.find(({ msg }) => msg === waits),
    { device: 'wal', group: 'db' },
  );
  await world.at(daemon, 2.01);
  t.is(world.log.filter(({ msg }) => msg === waits).length, 1);
  await world.configure(group('missing = "leave-out"\n'));
  await daemon.reload();
  t.deepEqual(await world.at(daemon, 2.1), ['db']);
  const without = 'wal was left out: /wal: db lacks it';
  t.like(await world.state_(daemon, 'db'), {
    ...{ state: 'waiting', failures: 0, problem: 'its member wal is not there' },
    last: { state: 'done', warningCount: 1, reason: without },
  });
  world.missing.clear();
  t.like(await world.state_(daemon, 'db'), { problem: without }, 'its last point is without it');
  t.like(await world.state_(daemon, 'wal'), { lastGood: null });
  world.missing.add('/wal').add('/data');
  t.deepEqual(await world.at(daemon, 26), ['other'], 'nobody is there');
  world.missing.clear();
  t.deepEqual(await world.at(daemon, 26.5), ['data'], 'it has waited longer');
  t.deepEqual(await world.at(daemon, 27), ['db']);
  t.like(await world.state_(daemon, 'db'), { problem: null });
});

test('groups come and go with the configuration; no match of wildcards has the name of one', async (t) => {
  const world = await makeWorld(t, group());
  const daemon = await world.open();
  await world.at(daemon, 2);
  // Its members are busy although they are no longer its members.
  await world.configure(`parallel = 3\n${DEVICES}`);
  await daemon.reload();
  t.like(await world.state_(daemon, 'db'), { state: 'running' });
  t.deepEqual(await world.at(daemon, 3), []);
  for (const begun of world.begun) begun.done();
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 3.1), ['data']);
  await daemon.reload();
  t.is(await world.state_(daemon, 'db'), undefined);
  const images = join(world.directory, 'images');
  await mkdir(images);
  await writeFile(join(images, 'db'), '');
  await world.configure(`${group()}[[device]]\nname = "{}"\npath = "${images}/*"\n`);
  await daemon.reload();
  t.like(await world.state_(daemon, 'db'), { path: null, last: null });
  t.deepEqual((await daemon.view()).problems, [
    `${images}/db: its name would be db, which is that of a group`,
  ]);
});

test('a group that a receiver leads is one job that has all its devices, while it runs', async (t) => {
  const world = await makeWorld(t, group());
  const daemon = await world.open();
  const result = resultsOf(['data', 'wal'], 4);
  const devices = daemon.devices.filter(({ name }) => name !== 'other');
  const running = gate();
  const wish = { name: 'all', devices, full: false };
  const order = daemon.performGroupOrder(wish, world.stop.signal, async (_signal, onEvent) => {
    onEvent({ type: 'progress', doneBytes: 5, totalBytes: 50, wireBytes: 1 }, 'wal');
    onEvent({ type: 'progress', doneBytes: 6, totalBytes: 50, wireBytes: 1 }, 'data');
    await running.promise;
    return result;
  });
  for (let tries = 0; (await world.state_(daemon, 'all'))?.running?.doneBytes !== 11; tries += 1) {
    if (tries > 1_000) throw new Error('it is not shown');
    await sleep(5);
  }
  t.like(await world.state_(daemon, 'all'), { state: 'running', members: ['data', 'wal'] });
  await t.throwsAsync(daemon.backUpNow('wal', false, world.stop.signal, nobody), {
    code: 'session-busy',
    message: /^device wal: a backup of its group all is running\. /,
  });
  const again = daemon.performGroupOrder(wish, world.stop.signal, async () => result);
  await t.throwsAsync(again, { code: 'session-busy' });
  running.open();
  t.is(await order, result);
  t.is(await world.state_(daemon, 'all'), undefined, 'nothing of it is configured here');
  t.like(await world.state_(daemon, 'wal'), { lastGood: { point: 'wal@4' }, last: null });
  const unknown = { ...wish, devices: [{ ...devices[0], name: 'tape' } as never] };
  const refused = daemon.performGroupOrder(unknown, world.stop.signal, async () => result);
  await t.throwsAsync(refused, { code: 'device-unknown' });
});

test('a group that a receiver leads is cancelled by its name, and its devices not alone', async (t) => {
  const world = await makeWorld(t, group());
  const daemon = await world.open();
  const wish = { name: 'all', devices: daemon.devices.slice(0, 2), full: false };
  const begun = gate();
  const order = daemon.performGroupOrder(wish, world.stop.signal, async (signal) => {
    begun.open();
    await unlessAborted(signal, new Promise(() => undefined));
    throw new Error('it goes on');
  });
  await begun.promise;
  t.throws(() => daemon.cancel('data'), {
    code: 'session-unknown',
    message:
      'device data: no backup of it alone runs. One of the group all does, which has to be cancelled as a whole.',
  });
  daemon.cancel('all');
  await t.throwsAsync(order, { code: 'cancelled' });
  t.throws(() => daemon.cancel('all'), { code: 'device-unknown' });
  t.throws(() => daemon.cancel('data'), {
    code: 'session-unknown',
    message: 'device data: no backup of it runs.',
  });
  const told = world.log.filter((line) => line.group === 'all').map(({ msg }) => msg);
  t.deepEqual(told, ['backup begins'], 'a cancelled backup is no failed one');
});
