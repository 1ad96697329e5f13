/** Backups of several devices with one instant, over disks in memory: all points, or none. */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { GroupWorld } from '../../helpers/groups/agent-groups.js';
import { refused } from '../../helpers/refused.js';
import { faultyReceiver } from '../../helpers/worlds/backup.js';

const LATE = { isLate: true };

test('static and late ones: points of one instant, of one group, with what each disk held', async (t) => {
  const world = await GroupWorld.make(t, [{}, LATE, { barrier: 'unused', kind: 'idle' }, {}, {}, {}]);
  for (const [i, disk] of world.disks.entries()) await disk.write(i, i + 1);
  const { results, group, leftOut } = await world.backup();
  t.deepEqual(leftOut, []);
  t.like(group, { name: 'all', memberCount: 6 });
  const points = results.map(({ point }) => point);
  t.deepEqual(
    points.map(({ device }) => device),
    world.members.map(({ device }) => device),
  );
  for (const same of ['instant', 'kind'] as const) t.is(new Set(points.map((point) => point[same])).size, 1);
  t.is(new Set(world.receiver.commits.map((commit) => JSON.stringify(commit.group))).size, 1);
  for (const [i, point] of points.entries()) {
    const bytes = await world.made.contents(point);
    t.true(bytes.equals(await world.disk(i).read(0, 8 * 4096)), point.device);
  }
  t.true(world.disks.every((disk) => disk.isFree));

  await world.disk(1).write(2, 77);
  const again = await world.backup();
  const [, second] = again.results;
  t.is(second?.point.sequence, 2);
  t.true((await world.made.contents(second?.point as never)).equals(await world.disk(1).read(0, 8 * 4096)));
  t.deepEqual(
    again.results.map(({ base }) => base.start),
    Array(6).fill('use-local'),
  );
});

for (const step of ['prepare', 'next', 'close', 'cut', 'view'] as const) {
  test(`one that fails to ${step}: no points, and the error is its own`, async (t) => {
    const world = await GroupWorld.make(t, [{}, LATE, {}]);
    world.disk(1).before[step] = () => {
      throw new StillpointError('device-io', { thing: 'cable', reason: 'it is loose' });
    };
    await refused(t, world.backup(), 'device-io', /^disk-b \(\/b\): cable: it is loose/);
    t.deepEqual(await world.points(), []);
    t.true(world.disks.every((disk) => disk.isFree));
    world.disk(1).before = {};
    t.is((await world.backup()).results.length, 3);
  });
}

for (const when of ['prepare', 'batch', 'commit'] as const) {
  test(`with leave-out the others have points without one that fails (${when}), and all say so`, async (t) => {
    const world = await GroupWorld.make(t, [{}, LATE, {}]);
    for (const disk of world.disks) await disk.write(0, disk.name.charCodeAt(1));
    const broken = new StillpointError('device-io', { thing: 'cable', reason: 'it is loose' });
    let receiver = world.receiver.port;
    if (when === 'prepare')
      world.disk(1).before.prepare = () => {
        throw broken;
      };
    else {
      let sessionId = '';
      const port = faultyReceiver(world.receiver.port, () => null);
      receiver = new Proxy(port, {
        get: (target, name: keyof typeof port) => {
          if (name === 'begin') {
            const begin: typeof port.begin = (request) => {
              if (request.device === 'disk-b') sessionId = request.sessionId;
              return target.begin(request);
            };
            return begin;
          }
          if (name === 'batch' && when === 'batch') {
            const batch: typeof port.batch = (id, ...rest) =>
              id === sessionId ? Promise.reject(broken) : target.batch(id, ...rest);
            return batch;
          }
          return target[name];
        },
      });
      world.receiver.beforeCommit = (id) => {
        if (when === 'commit' && id === sessionId) throw broken;
      };
    }
    const { results, group, leftOut } = await world.backup({ missing: 'leave-out' }, receiver);
    t.deepEqual(
      results.map(({ point }) => point.device),
      ['disk-a', 'disk-c'],
    );
    t.like(group, { memberCount: 2, missing: ['disk-b'] });
    t.deepEqual(
      leftOut.map(({ device }) => device),
      ['disk-b'],
    );
    for (const { point } of results)
      t.true(
        point.warnings.some((text) => /^disk-b is not in this point of all: .*it is loose/.test(text)),
        `${point.warnings}`,
      );
    t.true(world.warnings.some(([device, text]) => device === null && /disk-b is left out/.test(text)));
    t.true(world.disks.every((disk) => disk.isFree));
    t.is((await world.points()).length, 2);
  });
}

test('a write after the instant, before the first reading, makes no point that claims to be of the instant', async (t) => {
  const unproven = { barrier: 'unused', kind: 'idle', isUnproven: true } as const;
  const world = await GroupWorld.make(t, [{}, unproven, LATE]);
  // Two readings from here on find the same.
  world.disk(1).before.view = () => world.disk(1).write(0, 9);
  const second =
    /^\/b: nothing proves that it stood still .* a second reading would prove a moment of its own/;
  await refused(t, world.backup(), 'device-changed', second);
  t.deepEqual(await world.points(), []);
  const { results, leftOut } = await world.backup({ missing: 'leave-out' });
  t.is(results.length, 2);
  t.is(leftOut[0]?.device, 'disk-b');
});

test('a commit that the receiver refuses to one refuses them all; the next backup is as if nothing had been', async (t) => {
  const world = await GroupWorld.make(t, [{}, {}, LATE]);
  let count = 0;
  world.receiver.beforeCommit = () => {
    count += 1;
    if (count === 2) throw new StillpointError('quota', { thing: 'agent', reason: 'it is at its limit' });
  };
  await refused(t, world.backup(), 'quota', /it is at its limit/);
  t.deepEqual(await world.points(), []);
  world.receiver.beforeCommit = () => undefined;
  t.is((await world.backup()).results.length, 3);
});

test('cancelled: no points, and nothing is held', async (t) => {
  for (const when of ['prepare', 'cut', 'view'] as const) {
    const world = await GroupWorld.make(t, [{}, LATE, {}]);
    const controller = new AbortController();
    world.disk(2).before[when] = () => controller.abort();
    for (const missing of ['fail', 'leave-out'] as const)
      await refused(t, world.backup({ signal: controller.signal, missing }), 'cancelled');
    t.deepEqual(await world.points(), []);
    t.true(world.disks.every((disk) => disk.isFree));
  }
});

test('patches that do not fit: all begin anew, with whole blocks, and have one instant', async (t) => {
  const world = await GroupWorld.make(t, [{}, {}]);
  await world.backup();
  for (const disk of world.disks) await disk.write(1, 5);
  let hasFailed = false;
  const receiver = faultyReceiver(world.receiver.port, (method) => {
    if (method !== 'batch' || hasFailed) return null;
    hasFailed = true;
    return { before: new StillpointError('bad-patch', { thing: 'batch 1', reason: 'a patch does not fit' }) };
  });
  const { results } = await world.backup({}, receiver);
  t.is(new Set(results.map(({ point }) => point.instant)).size, 1);
  t.is(world.log.filter((line) => line === '/a prepare').length, 3);
  t.true(world.disks.every((disk) => disk.isFree));
});

test('no group of one, of too many, of two with one name, or of one device under two names', async (t) => {
  const world = await GroupWorld.make(t, [{}, {}]);
  const [a, b] = world.members as [never, never];
  const backup = (members: readonly object[]) => world.backup({ members: members as never });
  await refused(t, backup([a]), 'usage', /^group all: it has one device/);
  await refused(t, backup([]), 'usage', /no device/);
  await refused(t, backup(Array(33).fill(a)), 'usage', /33 devices, and a group has 32/);
  const named = { ...(b as object), device: 'disk-a' };
  await refused(t, backup([a, named]), 'usage', /disk-a \(\/a\) and disk-a \(\/b\) have the same name/);
  await world.made.makeImage(1 << 20, []);
  const image = (device: string) => ({ path: world.made.image, device });
  await refused(t, backup([image('one'), a, image('two')]), 'usage', /one \(.*\) and two \(.*\) share bytes/);
  await refused(t, backup([image('all'), a]), 'usage', /there is a device of that name/);
  t.deepEqual(world.log, []);
  await world.made.backup({ device: 'all' });
  await refused(t, world.backup(), 'bad-name', /^group all: it is the name of a device that has points/);
  t.deepEqual(world.log, []);
});

test('members that are slow to transfer hold back the commits of the others', async (t) => {
  const world = await GroupWorld.make(t, [{}, {}]);
  await world.disk(0).write(0, 1);
  let batches = 0;
  const receiver = new Proxy(world.receiver.port, {
    get: (target, name: keyof ReceiverPort) => {
      if (name !== 'batch') return target[name];
      const batch: ReceiverPort['batch'] = async (...args) => {
        await sleep(150);
        batches += 1;
        return target.batch(...args);
      };
      return batch;
    },
  });
  world.receiver.beforeCommit = () => void t.is(batches, 1);
  await world.backup({}, receiver);
  t.is(world.receiver.commits.length, 2);
});
