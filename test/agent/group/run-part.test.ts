/** A host's part in a group over several hosts: devices in memory, a store, and a receiver that leads. */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { RemoteLeader } from '../../../src/agent/group/remote-leader.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { GroupCommit } from '../../../src/domain/point/group.js';
import { GroupWorld } from '../../helpers/groups/agent-groups.js';
import { INSTANT, RUN_ID, ScriptedSteps, wellBehaved } from '../../helpers/groups/scripted-leader.js';
import { refused } from '../../helpers/refused.js';
import { seededRandom } from '../../helpers/seed.js';
import { faultyReceiver } from '../../helpers/worlds/backup.js';

const LATE = { isLate: true };

/** As the agent does: the run ends with its leader. */
async function backUp(
  world: GroupWorld,
  steps: ScriptedSteps,
  onDoubt = (_device: string): void => undefined,
  receiver = world.receiver.port,
) {
  const leader = new RemoteLeader({ steps, runId: RUN_ID, name: 'all', everyMs: 100 });
  let failure: unknown = null;
  try {
    return await world.backup({ leader, signal: leader.signal, onDoubt }, receiver);
  } catch (error) {
    failure = leader.end ?? error;
    throw failure;
  } finally {
    await leader.close(failure);
  }
}

test('the points have the instant, the kind and the group that the receiver told', async (t) => {
  const world = await GroupWorld.make(t, [{}, LATE]);
  const steps = new ScriptedSteps();
  const good = wellBehaved();
  let group: GroupCommit | null = null;
  steps.answer = async (report, count) => {
    if (report.state !== 'transferred') return good(report, count);
    t.is(world.receiver.commits.length, 0);
    await sleep(50);
    t.is(world.receiver.commits.length, 0, 'no commit before all hosts have come as far');
    group = { id: RUN_ID, name: 'all', sessionIds: report.sessionIds };
    return { do: 'commit', kind: 'crash', group };
  };
  const { results } = await backUp(world, steps);
  t.is(results.length, 2);
  for (const { point } of results) t.like(point, { instant: INSTANT, kind: 'crash', group: { name: 'all' } });
  for (const commit of world.receiver.commits) t.deepEqual(commit.group, group as never);
  t.deepEqual(
    steps.steps.filter((state) => state !== 'preparing'),
    ['ready', 'rested', 'closed', 'cut', 'transferred'],
  );
  t.true(world.disks.every((disk) => disk.isFree));
});

test('one device is enough for a part', async (t) => {
  const world = await GroupWorld.make(t, [{}]);
  const { results } = await backUp(world, new ScriptedSteps());
  t.like(results[0]?.point, { instant: INSTANT, group: { name: 'all' } });
  await t.throwsAsync(world.backup(), { code: 'usage' }, 'without other hosts it is not a group');
});

test('given up before the commits: no points, nothing is held, and it is said why', async (t) => {
  for (const state of ['preparing', 'ready', 'closed', 'cut', 'transferred'] as const) {
    const world = await GroupWorld.make(t, [{}, LATE]);
    const good = wellBehaved();
    if (state === 'preparing') world.disk(1).before.next = () => sleep(50);
    const steps = new ScriptedSteps((report, count) =>
      report.state === state ? { do: 'abandon', reason: 'host b is gone' } : good(report, count),
    );
    await refused(t, backUp(world, steps), 'group-failed', /gave it up: host b is gone/);
    t.deepEqual(await world.points(), [], state);
    t.true(
      world.disks.every((disk) => disk.isFree),
      state,
    );
    t.is((await backUp(world, new ScriptedSteps())).results.length, 2, state);
  }
});

test('what fails here is told: before the instant, after it, and while others are waited for', async (t) => {
  for (const step of ['prepare', 'next', 'view'] as const) {
    const world = await GroupWorld.make(t, [{}, LATE]);
    world.disk(1).before[step] = () => {
      throw new StillpointError('device-io', { thing: 'cable', reason: 'it is loose' });
    };
    const steps = new ScriptedSteps();
    await refused(t, backUp(world, steps), 'device-io', /it is loose/);
    t.like(steps.reports.at(-1), { state: 'failed', error: { code: 'device-io' } }, step);
    t.true(world.disks.every((disk) => disk.isFree));
  }
});

test('schedules at random: one instant or none, and nothing is left closed', async (t) => {
  t.timeout(120_000);
  const { below } = seededRandom(t);
  for (let round = 0; round < 25; round += 1) {
    const world = await GroupWorld.make(t, [{}, below(2) === 0 ? LATE : {}]);
    for (const disk of world.disks) disk.mayTryAgain = true;
    const good = wellBehaved(100);
    let trouble = 6;
    const steps = new ScriptedSteps(async (report, count) => {
      await sleep(below(20));
      const what = trouble > 0 ? below(8) : 7;
      trouble -= 1;
      if (what === 0 && report.state === 'closed') await sleep(150);
      if (what === 1 && report.state === 'closed') return { do: 'open', try: report.try };
      if (what === 2) return { do: 'cut', try: below(4), instant: '2001-01-01T00:00:00.000Z' };
      if (what === 3 && report.state !== 'transferred') return { do: 'close', try: below(2), closedMs: 1 };
      return good(report, count);
    });
    steps.breaks = () => trouble > 0 && below(10) === 0;
    const writing = new AbortController();
    const longest = { ms: 0 };
    const writer = (async () => {
      for (let n = 0; !writing.signal.aborted; n += 1) {
        const fromMs = performance.now();
        await world.disk(n % 2).write(n % 8, n);
        longest.ms = Math.max(longest.ms, performance.now() - fromMs);
        await sleep(1);
      }
    })();
    const outcome = await backUp(world, steps).catch((error: Error) => error);
    writing.abort();
    await writer;
    const points = await world.points();
    if (outcome instanceof Error) t.deepEqual(points, [], outcome.message);
    else {
      t.is(new Set(points.map(({ instant }) => instant)).size, 1);
      t.is(points.length, 2);
    }
    t.true(longest.ms < 3_000, `a write waited for ${longest.ms} ms`);
    t.true(world.disks.every((disk) => disk.isFree));
  }
});

test('what can do better after the instant fails the part, and the next one is told to', async (t) => {
  const world = await GroupWorld.make(t, [{}, {}]);
  await world.backup();
  for (const disk of world.disks) await disk.write(1, 5);
  const doubted: string[] = [];
  let hasFailed = false;
  const receiver = faultyReceiver(world.receiver.port, (method) => {
    if (method !== 'batch' || hasFailed) return null;
    hasFailed = true;
    return { before: new StillpointError('bad-patch', { thing: 'batch 1', reason: 'a patch does not fit' }) };
  });
  const steps = new ScriptedSteps();
  const failing = backUp(world, steps, (device) => void doubted.push(device), receiver);
  await refused(
    t,
    failing,
    'device-changed',
    /the instant of the group can't be taken again: .*does not fit/,
  );
  t.is(doubted.length, 1);
  t.is(steps.states.at(-1), 'failed');
  t.is(steps.states.filter((state) => state === 'closed').length, 1);
  t.true(world.disks.every((disk) => disk.isFree));
});
