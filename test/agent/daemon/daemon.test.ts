/** When the daemon backs up, and what it remembers. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { viewAtRest } from '../../../src/agent/daemon/at-rest.js';
import { readMemory } from '../../../src/agent/daemon/state.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { broken, DAY, HOUR, makeWorld, START, TWO } from '../../helpers/fakes/daemon-world.js';

test('what is due runs, so many at once, one session a device; what failed is tried again', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  t.deepEqual(await world.at(daemon, 1.9), []);
  t.deepEqual(await world.at(daemon, 2), ['a']);
  t.deepEqual(await world.at(daemon, 2.01), [], 'one at once');
  t.like(await world.state_(daemon, 'a'), { state: 'running', running: { why: 'due' } });
  await t.throwsAsync(
    daemon.backUpNow('a', false, world.stop.signal, () => undefined),
    {
      code: 'session-busy',
    },
  );
  world.begun[0]?.fail(broken);
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'a'), {
    ...{ state: 'retrying', failures: 1, problem: '/a: it broke' },
    ...{ last: { state: 'failed', why: 'due', reason: '/a: it broke' } },
  });
  t.deepEqual(await world.at(daemon, 2.02), ['b']);
  world.begun[1]?.done();
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'b'), {
    ...{
      state: 'waiting',
      failures: 0,
      nextAt: new Date(START + DAY + 2 * HOUR).toISOString(),
      problem: null,
    },
    ...{ lastGood: { point: 'b@2' }, last: { state: 'done', point: 'b@2', wireBytes: 7 } },
  });
  t.deepEqual(await world.at(daemon, 2.1), ['a'], 'the first retry');
  world.begun[2]?.fail(broken);
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 2.5), ['a'], 'the second');
  world.begun[3]?.fail(broken);
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 20), [], 'no third one');
  t.regex((await world.state_(daemon, 'a'))?.problem ?? '', /^3 failures in a row, the last: /);
  world.isQuick = true;
  t.deepEqual(await world.at(daemon, 26), ['b'], 'it has waited longer');
  t.deepEqual(await world.at(daemon, 26.01), ['a']);
  t.like(await world.state_(daemon, 'a'), { failures: 0, problem: null });
  t.like(await world.state_(daemon, 'c'), { state: 'on-demand', nextAt: null, last: null });
  const asked = await daemon.backUpNow('c', true, world.stop.signal, () => undefined);
  t.like(asked, { point: { device: 'c' } });
  t.like(world.begun.at(-1), { name: 'c', full: true });
  await t.throwsAsync(
    daemon.backUpNow('d', true, world.stop.signal, () => undefined),
    {
      code: 'device-unknown',
    },
  );
  t.throws(() => daemon.cancel('c'), { code: 'session-unknown' });
});

test('a restart forgets nothing: missed runs are one, an interrupted one goes on, pauses stay', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  await daemon.pause('b', 30 * DAY);
  t.deepEqual(await world.at(daemon, 2), ['a']);
  // The process dies here. Three days later:
  world.die();
  const later = await world.open();
  t.like(await world.state_(later, 'a'), {
    last: { state: 'interrupted', reason: 'the agent ended meanwhile' },
  });
  t.deepEqual(await world.at(later, 74.5), ['a']);
  world.begun.at(-1)?.done();
  await world.settled(later);
  t.deepEqual(await world.at(later, 75), []);
  t.like(await world.state_(later, 'b'), { state: 'paused' });
  const atRest = async () => viewAtRest(world.state, await world.load(), world.nowMs);
  // It is written a moment after it has ended.
  for (let tries = 0; tries < 1000 && (await atRest()).devices[0]?.last?.state !== 'done'; tries += 1)
    await sleep(10);
  t.like(await atRest(), {
    devices: {
      0: { name: 'a', lastGood: { point: 'a@2' }, last: { state: 'done' } },
      1: { state: 'paused' },
    },
  });
  await later.resume(null);
  t.deepEqual(await world.at(later, 75.1), ['b']);
  // Stopped, not killed: it is parked, and goes on at once.
  const end = later.run();
  world.stop.abort();
  await end;
  world.stop = new AbortController();
  const again = await world.open();
  t.like(await world.state_(again, 'b'), {
    ...{ last: { state: 'interrupted', reason: 'the agent was stopped meanwhile' }, failures: 0 },
  });
  t.deepEqual(await world.at(again, 75.2), ['b']);
  await writeFile(join(world.state, 'daemon.json'), 'damaged');
  await world.open();
  t.true(world.log.some(({ msg }) => msg.startsWith('what was remembered of runs is damaged')));
});

test('all are paused for a time; then what was missed is made up for once', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  world.isQuick = true;
  await daemon.pause(null, 2 * DAY);
  t.deepEqual(await world.at(daemon, 27), []);
  t.like(await daemon.view(), { isPaused: true, pausedUntil: new Date(START + 2 * DAY).toISOString() });
  t.deepEqual(await world.at(daemon, 48), ['a']);
  t.deepEqual(await world.at(daemon, 48.01), ['b']);
  t.deepEqual(await world.at(daemon, 49), []);
});

test('a device that is missing is told of once, and is backed up when it is back', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  world.isQuick = true;
  world.missing.add('/a');
  t.deepEqual(await world.at(daemon, 2), ['b']);
  for (const hours of [3, 4, 5]) t.deepEqual(await world.at(daemon, hours), []);
  t.like(await world.state_(daemon, 'a'), { state: 'absent', problem: 'it is not there', failures: 0 });
  const told = () => world.log.filter(({ device }) => device === 'a').map(({ msg }) => msg);
  t.deepEqual(told(), ['the device is not there; its backup waits for it']);
  world.missing.clear();
  t.deepEqual(await world.at(daemon, 6), ['a']);
  t.is(told()[1], 'the device is back');
});

test('another command that works on a device is not a failure', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  await world.at(daemon, 2);
  const busy = new StillpointError('session-busy', {
    thing: 'device a',
    reason: 'it is at work',
    permanent: false,
  });
  world.begun[0]?.fail(busy);
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'a'), { failures: 0, problem: null, state: 'retrying' });
  await world.at(daemon, 2.01);
  world.begun[1]?.done();
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 2.1), ['a']);
  world.begun[2]?.fail(busy);
  await world.settled(daemon);
  // Half a day later somebody has to know.
  t.deepEqual(await world.at(daemon, 14.5), ['a']);
  world.begun[3]?.fail(busy);
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'a'), { failures: 1, problem: 'device a: it is at work' });
});

test('a run on demand takes no retry from the schedule, and one that dies makes none', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  await world.at(daemon, 2);
  world.begun[0]?.fail(broken);
  await world.settled(daemon);
  const { nextAt } = (await world.state_(daemon, 'a')) ?? {};
  const asked = daemon.backUpNow('a', false, world.stop.signal, () => undefined);
  await world.settled(daemon);
  world.begun[1]?.fail(broken);
  await t.throwsAsync(asked, { is: broken });
  t.like(await world.state_(daemon, 'a'), { state: 'retrying', failures: 2, nextAt });
  // The process dies while it makes what somebody asked for.
  void daemon.backUpNow('b', false, world.stop.signal, () => undefined);
  await world.settled(daemon);
  world.die();
  const later = await world.open();
  t.like(await world.state_(later, 'b'), { state: 'waiting', failures: 1 });
  await world.configure(TWO.replace('retries = 2', 'retries = 2\nenabled = false'));
  await later.reload();
  world.isQuick = true;
  t.deepEqual(await world.at(later, 2.2), ['b']);
  t.deepEqual(await world.at(later, 2.3), [], 'what is not enabled is not tried again');
});

test('a new configuration applies while backups run; a bad one is refused, and the old one stays', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  t.deepEqual(await world.at(daemon, 2), ['a']);
  await world.configure('parallel = 0');
  await t.throwsAsync(daemon.reload(), { code: 'config' });
  t.deepEqual(
    daemon.devices.map(({ name }) => name),
    ['a', 'b', 'c'],
  );
  t.regex((await daemon.view()).problems[0] ?? '', /agent\.toml:1: parallel/);
  await world.configure('parallel = 2\n[[device]]\nname = "b"\npath = "/b"\nschedule = "every 1h"\n');
  await daemon.reload();
  t.deepEqual((await daemon.view()).problems, []);
  t.deepEqual(
    daemon.devices.map(({ name }) => name),
    ['b', 'a'],
    'a runs',
  );
  world.begun[0]?.done();
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 2.1), ['b']);
  await daemon.reload();
  t.deepEqual(
    daemon.devices.map(({ name }) => name),
    ['b'],
  );
  t.deepEqual(
    (await readMemory(world.state)).devices.map(({ name }) => name),
    ['b'],
  );
});

test('a match of wildcards that is gone is said until it is forgotten; a new one is backed up', async (t) => {
  const world = await makeWorld(t, '');
  const images = join(world.directory, 'images');
  await mkdir(images);
  for (const name of ['x.raw', 'y.raw']) await writeFile(join(images, name), '');
  await world.configure(`[[device]]\nname = "vm-{}"\npath = "${images}/*.raw"\nschedule = "every 1h"\n`);
  const daemon = await world.open();
  world.isQuick = true;
  t.deepEqual((await world.at(daemon, 1)).sort(), ['vm-x', 'vm-y']);
  await rm(join(images, 'x.raw'));
  await writeFile(join(images, 'z.raw'), '');
  t.deepEqual(await world.at(daemon, 2), ['vm-y']);
  t.like(await world.state_(daemon, 'vm-x'), {
    state: 'vanished',
    lastGood: { point: 'vm-x@1' },
  });
  const again = await world.open();
  t.like(await world.state_(again, 'vm-x'), { state: 'vanished' }, 'after a restart, too');
  t.deepEqual((await world.at(again, 3.1)).sort(), ['vm-y', 'vm-z']);
  await again.forget('vm-x');
  t.is(await world.state_(again, 'vm-x'), undefined);
  await t.throwsAsync(again.forget('vm-y'), { code: 'device-unknown' });
  t.is(world.log.filter(({ msg }) => msg === 'the device has vanished').length, 2, 'once by each process');
});

test('a backup is cancelled by its name, and a schedule goes on after it', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  await world.at(daemon, 2);
  daemon.cancel('a');
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'a'), { state: 'waiting', failures: 0, last: { state: 'cancelled' } });
  t.deepEqual(await world.at(daemon, 2.1), ['b']);
  world.begun[1]?.done();
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 26), ['a']);
});
