/** Devices and wildcards that nobody answers for, and answers that come late. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { Matches } from '../../../src/agent/daemon/matches.js';
import { presenceOf } from '../../../src/agent/daemon/presence.js';
import { expandDevices } from '../../../src/config/agent-config.js';
import { gate, HOUR, makeWorld, START, TWO } from '../../helpers/fakes/daemon-world.js';

test('devices are looked at side by side, and a pause that comes meanwhile counts', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  world.nowMs = START + 2 * HOUR;
  const [asked, answered] = [gate(), gate()];
  const paths: string[] = [];
  world.look = (path) => {
    if (paths.push(path) === 2) asked.open();
    return answered.promise;
  };
  const ticked = daemon.tick();
  await asked.promise;
  await daemon.pause(null, null);
  answered.open();
  await ticked;
  t.deepEqual(paths.sort(), ['/a', '/b']);
  await world.settled(daemon);
  t.deepEqual(world.begun, []);
});

test('wildcards that nobody answers for keep no other device waiting, and keep the matches they had', async (t) => {
  const world = await makeWorld(t, '');
  await writeFile(join(world.directory, 'x.raw'), '');
  const wild = `[[device]]\nname = "vm-{}"\npath = "${world.directory}/*.raw"\nschedule = "every 1h"\n`;
  await world.configure(`parallel = 4\n${wild}`);
  const answered = gate();
  let searches = 0;
  const hanging = new Matches(async (configured) => {
    searches += 1;
    if (searches > 1) await answered.promise;
    return expandDevices(configured);
  }, 20);
  await (await world.open()).reload();
  world.matches = hanging;
  const daemon = await world.open();
  world.isQuick = true;
  t.deepEqual(await world.at(daemon, 1), ['vm-x']);
  await world.configure(`parallel = 4\n${wild}[[device]]\nname = "b"\npath = "/b"\nschedule = "every 1h"\n`);
  await daemon.reload();
  t.deepEqual((await world.at(daemon, 2.5)).sort(), ['b', 'vm-x']);
  t.is(searches, 2, 'nothing more is asked meanwhile');
  t.regex((await daemon.view()).problems.join(), /does not answer/);
  const again = await world.open();
  t.true(
    again.devices.some(({ name }) => name === 'vm-x'),
    'at the start, too',
  );
  await writeFile(join(world.directory, 'y.raw'), '');
  answered.open();
  for (let hours = 4; (await world.state_(daemon, 'vm-y')) === undefined; hours += 0.1) {
    await sleep(2);
    await world.at(daemon, hours);
  }
  t.deepEqual((await daemon.view()).problems, []);
});

test('what is found for a configuration does not count for the one after it', async (t) => {
  const world = await makeWorld(t, TWO);
  const answered = gate();
  let searches = 0;
  world.matches = new Matches(async (configured) => {
    searches += 1;
    if (searches === 2) await answered.promise;
    return expandDevices(configured);
  }, 60_000);
  const daemon = await world.open();
  world.nowMs = START + HOUR;
  const ticked = daemon.tick();
  await world.configure('[[device]]\nname = "b"\npath = "/b"\n');
  const reloaded = daemon.reload();
  await reloaded;
  answered.open();
  await ticked;
  t.deepEqual(
    daemon.devices.map(({ name }) => name),
    ['b'],
  );
});

test('a child says whether a path is there', async (t) => {
  const isThere = presenceOf();
  t.deepEqual([await isThere('/dev/null'), await isThere('/none')], [true, false]);
});

test('a path that does not answer is missing, and is asked for once at a time', async (t) => {
  let looks = 0;
  let answer: () => void = () => undefined;
  const isThere = presenceOf((path) => {
    looks += 1;
    if (path === '/none') return Promise.reject(new Error('ENOENT'));
    return path === '/there' ? Promise.resolve() : new Promise<void>((resolve) => (answer = resolve));
  }, 20);
  t.deepEqual([await isThere('/there'), await isThere('/none')], [true, false]);
  t.false(await isThere('/hung'));
  t.false(await isThere('/hung'));
  t.is(looks, 3);
  answer();
  await sleep(1);
  const late = isThere('/hung');
  answer();
  t.true(await late);
});
