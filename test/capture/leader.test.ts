/** Instants of several hosts, as one of them takes its part: a leader says when to rest, close and cut. */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { TryOver } from '../../src/capture/leader.js';
import type { Snapshot } from '../../src/capture/ports.js';
import { StillpointError } from '../../src/domain/base/errors.js';
import type { FakeDiskOptions } from '../helpers/fakes/provider.js';
import { INSTANT, LedScene } from '../helpers/groups/led-scene.js';
import { hookScene, WELL_BEHAVED } from '../helpers/machines/hooks.js';
import { refused } from '../helpers/refused.js';

const LATE: FakeDiskOptions = { isLate: true };

const instantOf = async (snapshot: Snapshot): Promise<Date> =>
  (await snapshot.conclude()).instant ?? snapshot.instant;

test('nobody closes before all are told to, nobody is cut before all hosts are closed', async (t) => {
  const hooks = await hookScene(t);
  const scene = new LedScene([{}, LATE, { barrier: 'unused', kind: 'idle' }], {
    hooks: [await hooks.script('hook', WELL_BEHAVED)],
  });
  scene.leader.beforeRest = async () => {
    await sleep(50);
    t.deepEqual(await hooks.log(), []);
  };
  scene.leader.beforeClose = async () => {
    await sleep(50);
    t.deepEqual(await hooks.log(), ['hook quiesced']);
    t.false(scene.log.some((line) => / close$/.test(line)));
  };
  scene.leader.beforeCut = async () => {
    await sleep(50);
    t.true(scene.disk(0).isClosed);
    t.true(scene.disk(1).isClosed);
    t.false(scene.log.some((line) => / cut$/.test(line)));
  };
  const snapshots = await scene.holdAll();
  for (const snapshot of snapshots) t.deepEqual(await instantOf(snapshot), INSTANT);
  t.deepEqual(
    scene.leader.stalls?.map(({ device }) => device),
    ['a', 'b', 'c'],
  );
  t.deepEqual(scene.leader.missed, []);
  t.true(scene.log.indexOf('reported cut') > scene.log.findLastIndex((line) => / view$/.test(line)));
  await scene.release(snapshots);
  await scene.isFree(t);
});

test('of a single device, too: the instant is the one that was told', async (t) => {
  for (const options of [{}, LATE]) {
    const scene = new LedScene([options]);
    const snapshots = await scene.holdAll();
    t.deepEqual(await instantOf(snapshots[0] as Snapshot), INSTANT);
    t.is(snapshots[0]?.continuity, undefined);
    await scene.release(snapshots);
    await scene.isFree(t);
  }
});

test('a single device that nobody kept from writing is refused as among several', async (t) => {
  const open = new LedScene([{ barrier: 'freeze' }]);
  await refused(t, open.holdAll(), 'device-changed', /^a: nothing kept writes out of it/);
  t.true(open.leader.missed.length > 0);
  t.is(open.count('reported cut'), 0);
  const used = new LedScene([{ barrier: 'unused', kind: 'crash' }]);
  await refused(t, used.holdAll(), 'device-changed', /^a: nothing kept writes out of it/);
  const unproven = new LedScene([{ barrier: 'unused', kind: 'idle', isUnproven: true }]);
  const [snapshot] = await unproven.holdAll();
  await refused(t, snapshot?.conclude() as Promise<unknown>, 'device-changed', /nothing proves/);
  await snapshot?.release();
});

test('a moment of its own is refused before anything is closed', async (t) => {
  const scene = new LedScene([{ barrier: 'cut', kind: 'crash' }, {}]);
  await t.throwsAsync(scene.holdAll(), { code: 'usage', message: /other hosts of the group do not wait/ });
  t.false(scene.log.some((line) => / close$|^ready$/.test(line)));
  await scene.isFree(t);
});

test('a try that the leader ends is let go, and the next one is one', async (t) => {
  for (const disks of [
    [{}, {}],
    [{}, LATE],
  ]) {
    const scene = new LedScene(disks);
    for (const disk of scene.disks) disk.mayTryAgain = true;
    scene.leader.beforeCut = (attempt) => {
      if (attempt > 8) return;
      throw new TryOver('group all', 'another host was not closed');
    };
    scene.leader.beforeClose = async () => {
      // What a writer sees between two tries.
      for (const disk of scene.disks) await disk.write(0, 1);
    };
    const snapshots = await scene.holdAll();
    t.is(scene.leader.missed.length, 8);
    t.true(scene.leader.missed.every(({ isAgain }) => isAgain));
    for (const snapshot of snapshots) t.deepEqual(await instantOf(snapshot), INSTANT);
    await scene.release(snapshots);
    await scene.isFree(t);
  }
});

test('a leader that only has gates closed and opened is not followed for ever', async (t) => {
  const scene = new LedScene([{}]);
  scene.leader.beforeCut = () => {
    throw new TryOver('group all', 'another host was not closed');
  };
  await refused(t, scene.holdAll(), 'device-changed', /another host was not closed/);
  t.is(scene.leader.missed.length, 21);
  t.false(scene.leader.missed.at(-1)?.isAgain);
  await scene.isFree(t);
});

test('never told to close: hooks are let go in time, and nothing was closed', async (t) => {
  const hooks = await hookScene(t);
  for (const disks of [[{}], [LATE]]) {
    const scene = new LedScene(disks, { hooks: [await hooks.script('hook', WELL_BEHAVED)] });
    scene.leader.restMs = 100;
    scene.leader.beforeClose = () => new Promise(() => undefined);
    await refused(
      t,
      scene.holdAll(),
      'device-changed',
      /did not say within 100 ms that all hosts are at rest/,
    );
    t.true(scene.leader.missed.length > 0);
    t.false(scene.log.some((line) => / close$/.test(line)));
    t.deepEqual([...new Set(await hooks.log())], ['hook quiesced', 'hook aborted']);
    await scene.isFree(t);
  }
});

test('a hook that fails is missed before anybody closes', async (t) => {
  const hooks = await hookScene(t);
  const scene = new LedScene([{}, {}], { hooks: [await hooks.script('hook', 'exit 3')] });
  await refused(t, scene.holdAll(), 'hook', /status 3/);
  t.deepEqual(
    scene.leader.missed.map(({ isAgain }) => isAgain),
    [false],
  );
  t.false(scene.log.some((line) => / close$|^all at rest$/.test(line)));
  await scene.isFree(t);
});

test('never told to cut: gates open at their limit, and in time, whatever the leader does', async (t) => {
  const hooks = await hookScene(t);
  const scene = new LedScene([{}, {}], { hooks: [await hooks.script('hook', WELL_BEHAVED)] });
  scene.leader.closedMs = 100;
  const answeredAfterMs: number[] = [];
  scene.leader.beforeCut = async () => {
    const fromMs = performance.now();
    await Promise.all(scene.disks.map((disk) => disk.write(0, 7)));
    answeredAfterMs.push(performance.now() - fromMs);
    await new Promise(() => undefined);
  };
  await refused(t, scene.holdAll(), 'device-changed', /did not say within 100 ms/);
  t.deepEqual(
    scene.leader.missed.map(({ isAgain }) => isAgain),
    [true, true, true, true, true, false],
  );
  // The last gate opens by itself, too, and nobody here waits for that.
  for (let tries = 0; tries < 200 && answeredAfterMs.length < 6; tries += 1) await sleep(5);
  t.true(answeredAfterMs.length === 6 && answeredAfterMs.every((ms) => ms < 1_000), `${answeredAfterMs}`);
  t.is(scene.count('a cut') + scene.count('b cut'), 0);
  t.deepEqual([...new Set(await hooks.log())], ['hook quiesced', 'hook aborted']);
  await scene.isFree(t);
});

test('told to cut too late: the members refuse, and it is reported as missed', async (t) => {
  const scene = new LedScene([{}, {}]);
  // A gate that ends before the leader's limit, as if it had closed long before the other.
  const { leader } = scene;
  leader.closedMs = 1_500;
  scene.disk(1).before.close = () => sleep(1_200);
  leader.beforeRest = () => {
    if (leader.missed.length === 0) return;
    scene.disk(1).before = {};
    leader.closedMs = 10_000;
  };
  leader.beforeCut = async () => {
    while (leader.missed.length === 0 && scene.disk(0).isClosed) await sleep(1);
  };
  const snapshots = await scene.holdAll();
  t.is(leader.missed.length, 1);
  t.regex(leader.missed[0]?.why ?? '', /^a: it had to let writes go on before the instant was taken/);
  t.is(scene.count('reported cut'), 1);
  await scene.release(snapshots);
  await scene.isFree(t);
});

for (const step of ['close', 'cut', 'view'] as const) {
  test(`one that fails to ${step} is missed; for good if it can't do better`, async (t) => {
    for (const permanent of [false, true]) {
      const scene = new LedScene([{}, {}]);
      scene.disk(1).before[step] = () => {
        if (scene.leader.missed.length > 0) return;
        throw new StillpointError('device-io', { thing: 'cable', reason: 'it is loose', permanent });
      };
      const holding = scene.holdAll();
      if (permanent) await refused(t, holding, 'device-io', /it is loose/);
      else await scene.release(await holding);
      t.deepEqual(
        scene.leader.missed.map(({ isAgain }) => isAgain),
        [!permanent],
      );
      t.is(scene.count('reported cut'), permanent ? 0 : 1);
      await scene.isFree(t);
    }
  });
}

for (const when of ['beforeRest', 'beforeClose'] as const) {
  test(`late ones stay fresh while other hosts are waited for: ${when}`, async (t) => {
    t.timeout(60_000);
    const hooks = await hookScene(t);
    const scene = new LedScene([{}, LATE], { hooks: [await hooks.script('hook', WELL_BEHAVED)] });
    scene.leader.restMs = 20_000;
    scene.leader[when] = () => sleep(12_000);
    const writing = setInterval(() => void scene.disk(1).write(3, 9), 500);
    const snapshots = await scene.holdAll();
    clearInterval(writing);
    const beforeClose = scene.log.slice(0, scene.log.indexOf('b close'));
    t.true(beforeClose.filter((line) => line === 'b next').length >= 6, beforeClose.join(', '));
    t.is(scene.count('ready'), 1);
    t.deepEqual(await hooks.log(), ['hook quiesced', 'hook release']);
    await scene.release(snapshots);
    await scene.isFree(t);
  });
}

for (const fails of [false, true]) {
  test(`told to close while a late one catches up: ${fails ? 'if that fails, hooks are let go' : 'it closes after that'}`, async (t) => {
    t.timeout(60_000);
    const hooks = await hookScene(t);
    const scene = new LedScene([{}, LATE], { hooks: [await hooks.script('hook', WELL_BEHAVED)] });
    scene.leader.restMs = 30_000;
    let isTold: () => void = () => undefined;
    const told = new Promise<void>((resolve) => {
      isTold = resolve;
    });
    scene.leader.beforeClose = async () => {
      const passes = scene.count('b next');
      while (scene.count('b next') === passes) await sleep(5);
      setTimeout(isTold, 50);
    };
    scene.disk(1).before.next = async () => {
      if (scene.count('all at rest') === 0) return;
      await told;
      if (fails) throw new StillpointError('device-io', { thing: 'cable', reason: 'it is loose' });
    };
    const holding = Promise.allSettled(scene.disks.map((_, i) => scene.hold(i)));
    const held = await holding;
    const toldAt = scene.log.indexOf('told to close');
    t.true(toldAt > 0);
    if (fails) {
      t.deepEqual(
        held.map((one) => one.status === 'rejected' && one.reason.code),
        ['group-failed', 'device-io'],
      );
      t.is(scene.count('a close'), 0);
      t.is(scene.leader.missed.length, 1);
      t.deepEqual(await hooks.log(), ['hook quiesced', 'hook aborted']);
    } else {
      const snapshots = held.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
      t.is(snapshots.length, 2);
      t.true(
        scene.log.slice(toldAt, scene.log.indexOf('b close')).filter((line) => line === 'b next').length <= 1,
      );
      await scene.release(snapshots);
    }
    await scene.isFree(t);
  });
}

test('one that leaves before or after it is told to rest, or while all are closed, is the end; the leader hears of it', async (t) => {
  const hooks = await hookScene(t);
  const hook = await hooks.script('hook', WELL_BEHAVED);
  for (const when of ['beforeRest', 'beforeClose', 'beforeCut'] as const) {
    const scene = new LedScene([{}, LATE], { hooks: [hook] });
    scene.disk(1).mayTryAgain = true;
    scene.leader[when] = async () => {
      scene.cancels[1]?.abort();
      await sleep(20);
    };
    const settled = await Promise.allSettled(scene.disks.map((_, i) => scene.hold(i)));
    t.deepEqual(
      settled.map((one) => one.status === 'rejected' && one.reason.code),
      ['group-failed', 'cancelled'],
    );
    t.is(scene.leader.withdrawn, 1);
    t.is(scene.leader.missed.length, 1);
    t.is(scene.count('a cut'), 0);
    await scene.isFree(t);
  }
});
