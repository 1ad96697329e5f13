/**
 * The leader of an instant, over fakes of several members: order, one deadline, and what is
 * left when something fails.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { type InstantOptions, prepareAll, takeInstant } from '../../src/capture/instant.js';
import type { Cut, GateLimits, Member, Snapshot } from '../../src/capture/ports.js';
import { isStillpointError } from '../../src/domain/base/errors.js';
import type { ConsistencyKind } from '../../src/domain/point/point.js';
import { FakeDisk, type FakeDiskOptions, type Step } from '../helpers/fakes/provider.js';
import { hookScene, WELL_BEHAVED } from '../helpers/machines/hooks.js';
import { refused } from '../helpers/refused.js';
import { seededRandom } from '../helpers/seed.js';
import { HOLD } from '../helpers/worlds/quiesce.js';

const REST: InstantOptions = { name: 'test', hooks: [], freeze: 'none' };

function disksOf(...all: readonly FakeDiskOptions[]): { readonly disks: FakeDisk[]; readonly log: string[] } {
  const log: string[] = [];
  const disks = all.map(
    (options, index) => new FakeDisk(String.fromCharCode(97 + index), { ...options, log }),
  );
  return { disks, log };
}

const prepare = (disks: readonly FakeDisk[]): Promise<Member[]> =>
  prepareAll(disks.map((disk) => () => disk.prepare(HOLD)));

async function take(disks: readonly FakeDisk[], options: Partial<InstantOptions> = {}): Promise<Snapshot[]> {
  return takeInstant(await prepare(disks), { ...REST, ...options });
}

async function kindOf(
  disks: readonly FakeDisk[],
  options: Partial<InstantOptions> = {},
): Promise<ConsistencyKind> {
  const snapshots = await take(disks, options);
  for (const snapshot of snapshots) await snapshot.release();
  const [kind = 'fuzzy', ...others] = new Set(snapshots.map((snapshot) => snapshot.kind));
  if (others.length > 0) throw new Error('one instant has one kind');
  return kind;
}

test('in order: prepared, hooks ready, all closed, all cut, hooks released, views; given back one by one', async (t) => {
  const { disks, log } = disksOf({}, {}, {});
  const scene = await hookScene(t);
  const hooks = [await scene.script('one', WELL_BEHAVED), await scene.script('two', WELL_BEHAVED)];
  let told: string[] = [];
  (disks[0] as FakeDisk).before.close = async () => {
    told = await scene.log();
  };
  (disks[0] as FakeDisk).before.view = async () => {
    t.deepEqual((await scene.log()).slice(2), ['two release', 'one release']);
  };
  const snapshots = await take(disks, { hooks });
  t.deepEqual(told, ['one quiesced', 'two quiesced']);
  t.deepEqual(
    log,
    ['prepare', 'close', 'cut', 'view'].flatMap((step) => ['a', 'b', 'c'].map((name) => `${name} ${step}`)),
  );
  t.deepEqual(
    snapshots.map(({ kind, warnings }) => [kind, warnings]),
    Array(3).fill(['application', []]),
  );
  for (const snapshot of snapshots) await snapshot.release();
  t.true(disks.every((disk) => disk.isFree));
});

test('nobody cuts before the last has closed, however slow that one is', async (t) => {
  const { disks, log } = disksOf({}, {});
  (disks[1] as FakeDisk).before.close = () => sleep(100);
  await kindOf(disks);
  t.true(log.indexOf('b close') < log.indexOf('a cut'));
  const { disks: slow, log: steps } = disksOf({}, {});
  const closed: boolean[] = [];
  (slow[1] as FakeDisk).before.close = () => sleep(100);
  (slow[0] as FakeDisk).before.cut = () => void closed.push(...slow.map((disk) => disk.isClosed));
  await kindOf(slow);
  t.deepEqual(closed, [true, true]);
  t.true(steps.includes('b cut'));
});

for (const step of ['prepare', 'close', 'cut', 'view'] satisfies Step[]) {
  test(`one of three that fails to ${step} is enough: no instant, and all is given back`, async (t) => {
    const { disks, log } = disksOf({}, {}, {});
    const scene = await hookScene(t);
    const hooks = [await scene.script('hook', WELL_BEHAVED)];
    (disks[1] as FakeDisk).before[step] = () => {
      throw new Error(`it fails to ${step}`);
    };
    await t.throwsAsync(take(disks, { hooks }), { message: `it fails to ${step}` });
    t.true(disks.every((disk) => disk.isFree));
    t.is(log.includes('c prepare'), step !== 'prepare');
    t.deepEqual(
      await scene.log(),
      step === 'prepare' ? [] : ['hook quiesced', step === 'view' ? 'hook release' : 'hook aborted'],
    );
    // Released in reverse order; each once.
    const released = log.filter((line) => line.endsWith('release'));
    const expected = { prepare: ['a release'], view: ['b release', 'a release', 'c release'] };
    t.deepEqual(released, expected[step as 'view'] ?? ['c release', 'b release', 'a release']);
    for (const disk of disks) await disk.write(0, 1);
  });
}

test('a member that opened at its own limit fails the instant for all', async (t) => {
  const { disks } = disksOf({}, {});
  (disks[1] as FakeDisk).before.close = () => sleep(60);
  await refused(t, take(disks, { freezeDeadlineMs: 40 }), 'device-changed', /had to let writes go on/);
  t.true(disks.every((disk) => disk.isFree));
});

for (const step of ['close', 'cut'] satisfies Step[]) {
  test(`the deadline from above ends a member that never answers in its ${step}`, async (t) => {
    const { disks } = disksOf({}, {});
    (disks[1] as FakeDisk).before[step] = () => new Promise(() => undefined);
    const startedMs = performance.now();
    // Longer than this process may have to wait for a processor before its cut.
    const error = await t.throwsAsync(take(disks, { deadlineMs: 1_500 }));
    t.true(isStillpointError(error, 'device-changed'));
    t.regex(error?.message ?? '', /^a, b: the instant was not taken within 1500 ms\. /);
    // Without it, a member has 10 s to answer.
    t.true(performance.now() - startedMs < 8_000);
    t.true(disks.every((disk) => disk.isFree));
  });

  test(`cancelled in its ${step}: nothing stays closed`, async (t) => {
    const { disks } = disksOf({}, {});
    const cancel = new AbortController();
    (disks[0] as FakeDisk).before[step] = () => {
      cancel.abort();
      return new Promise(() => undefined);
    };
    await refused(t, take(disks, { signal: cancel.signal }), 'cancelled');
    t.true(disks.every((disk) => disk.isFree));
  });
}

/** Of one disk, with the options; the hook's log tells what it was told. */
async function unanswered(
  t: ExecutionContext,
  never: 'quietMs' | 'close',
  options: Partial<InstantOptions>,
): Promise<{ readonly error: unknown; readonly tookMs: number }> {
  const { disks } = disksOf({});
  const scene = await hookScene(t);
  const hooks = [await scene.script('hook', WELL_BEHAVED)];
  const [member] = (await prepare(disks)) as [Member];
  const silent = {
    ...member,
    quietMs: async () => 60_000,
    [never]: () => new Promise<never>(() => undefined),
  };
  const startedMs = performance.now();
  const late = sleep(20_000, 'it goes on', { ref: false });
  const error = await Promise.race([
    takeInstant([silent], { ...REST, hooks, ...options }).catch((reason: unknown) => reason),
    late,
  ]);
  t.deepEqual(await scene.log(), ['hook quiesced', 'hook aborted']);
  t.true(disks[0]?.isFree);
  return { error, tookMs: performance.now() - startedMs };
}

test('a member that does not say how long it is quiet holds up nothing past the deadlines', async (t) => {
  const quiet = { quietMs: 50, deadlineMs: 100 };
  const { error, tookMs } = await unanswered(t, 'quietMs', { quiet });
  t.true(isStillpointError(error, 'device-changed'));
  t.regex((error as Error).message, /there was no answer within/);
  t.true(tookMs < 15_000);
  const whole = await unanswered(t, 'quietMs', {
    quiet: { quietMs: 50, deadlineMs: 60_000 },
    deadlineMs: 3_000,
  });
  t.regex((whole.error as Error).message, /not taken within 3000 ms/);
  const signal = AbortSignal.timeout(3_000);
  const cancelled = await unanswered(t, 'quietMs', { quiet: { quietMs: 50, deadlineMs: 60_000 }, signal });
  t.true(isStillpointError(cancelled.error, 'cancelled'));
});

test('a member that never answers in its close is given up soon after its gate has opened by itself', async (t) => {
  const { error, tookMs } = await unanswered(t, 'close', { freezeDeadlineMs: 100 });
  t.true(isStillpointError(error, 'device-changed'));
  t.regex((error as Error).message, /there was no answer within 2100 ms/);
  t.true(tookMs < 15_000);
});

test('limits are whole milliseconds, whatever was asked for', async (t) => {
  const { disks } = disksOf({});
  const [member] = (await prepare(disks)) as [Member];
  const limits: number[] = [];
  const watched = {
    ...member,
    close: (given: GateLimits) => {
      limits.push(given.closedMs);
      return member.close(given);
    },
  };
  // As --freeze-deadline 2.01 gives it.
  const [snapshot] = await takeInstant([watched], { ...REST, freezeDeadlineMs: 2.01 * 1000 });
  await snapshot?.release();
  t.deepEqual(limits, [2010]);
});

test('a deadline of more than a timer can wait is not over at once', async (t) => {
  const { disks } = disksOf({});
  (disks[0] as FakeDisk).before.close = () => sleep(50);
  t.is(await kindOf(disks, { deadlineMs: 2 ** 32 }), 'crash');
});

for (const step of ['close', 'cut'] satisfies Step[]) {
  test(`one that answers in its ${step} after it was given up keeps nothing`, async (t) => {
    const { disks } = disksOf({});
    const [disk] = disks as [FakeDisk];
    let answer = (): void => undefined;
    disk.before[step] = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    const [member] = (await prepare(disks)) as [Member];
    if (step === 'cut') await member.close({ closedMs: 10_000 });
    const late = step === 'cut' ? member.cut() : member.close({ closedMs: 10_000 });
    await member.release();
    t.true(disk.isFree);
    answer();
    await late;
    t.true(disk.isFree);
    if (step === 'cut') await t.throwsAsync(((await late) as Cut).view('crash'), { message: /released/ });
  });
}

test('a hook has no more time than is left of the whole', async (t) => {
  const { disks } = disksOf({});
  const scene = await hookScene(t);
  const hooks = [
    await scene.script('slow', 'sleep 0.2; echo ready; read -r word || exit 0'),
    await scene.script('late', 'sleep 90'),
  ];
  const startedMs = performance.now();
  const error = await t.throwsAsync(take(disks, { hooks, deadlineMs: 1_500 }));
  t.true(isStillpointError(error));
  t.true(performance.now() - startedMs < 30_000);
  t.true(disks.every((disk) => disk.isFree));
});

test('the kind is the worst over the members, and never better than what was reached', async (t) => {
  const scene = await hookScene(t);
  const hooks = [await scene.script('hook', WELL_BEHAVED)];
  const still = { barrier: 'unused', kind: 'idle' } as const;
  t.is(await kindOf(disksOf({}, {}).disks), 'crash');
  t.is(await kindOf(disksOf({}, {}).disks, { hooks }), 'application');
  t.is(await kindOf(disksOf({ kind: 'crash' }, {}).disks, { hooks }), 'crash');
  t.is(await kindOf(disksOf({ kind: 'application' }).disks), 'crash');
  t.is(await kindOf(disksOf(still).disks), 'idle');
  t.is(await kindOf(disksOf(still, still).disks), 'idle');
  t.is(await kindOf(disksOf(still, {}).disks, { hooks }), 'crash');
  t.is(await kindOf(disksOf({ ...still, kind: 'fuzzy' }, {}).disks, { hooks }), 'fuzzy');
});

test('a member that freezes in its cut is worth what it says, or what hooks made; two have no instant in common', async (t) => {
  const scene = await hookScene(t);
  const hooks = [await scene.script('one', WELL_BEHAVED)];
  const quiet = { quietMs: 1, deadlineMs: 5_000 };
  const cuts = (kind: ConsistencyKind) => disksOf({ barrier: 'cut', kind }).disks;
  for (const kind of ['filesystem', 'crash', 'idle'] as const) {
    t.is(await kindOf(cuts(kind)), kind);
    t.is(await kindOf(cuts(kind), { hooks }), 'application');
    const [still] = cuts(kind) as [FakeDisk];
    still.quietMs = 1_000;
    t.is(await kindOf([still], { quiet }), kind === 'crash' ? 'idle' : kind);
  }
  const own = { barrier: 'cut', kind: 'filesystem' } as const;
  const { disks, log } = disksOf({}, own, own);
  await refused(t, take(disks), 'usage', /^b, c: the snapshot of each is taken at a moment of its own/);
  t.false(log.some((step) => step.endsWith('close')));
  t.true(disks.every((disk) => disk.isFree));
});

test('several devices of which one is kept still by nothing have no common instant; alone it has one', async (t) => {
  const open = { barrier: 'freeze' } as const;
  t.is(await kindOf(disksOf(open).disks), 'crash');
  const { disks } = disksOf({}, open);
  await refused(t, take(disks), 'device-changed', /^b: nothing kept writes out of it/);
  t.true(disks.every((disk) => disk.isFree));
});

test('quiet: all at the same time; what was written while they closed begins it anew', async (t) => {
  const { disks, log } = disksOf({}, {});
  const [a, b] = disks as [FakeDisk, FakeDisk];
  a.quietMs = b.quietMs = 0;
  const quiet = { quietMs: 100, deadlineMs: 5_000 };
  setTimeout(() => {
    a.quietMs = 200;
  }, 40);
  setTimeout(() => {
    b.quietMs = 200;
  }, 80);
  let closings = 0;
  b.before.close = () => {
    closings += 1;
    // Somebody's write was in flight.
    b.quietMs = closings === 1 ? 0 : 200;
    if (closings === 1) setTimeout(() => (b.quietMs = 200), 40);
  };
  t.is(await kindOf(disks, { quiet }), 'idle');
  t.is(closings, 2);
  t.deepEqual(
    log.filter((line) => line.endsWith('open')),
    ['a open', 'b open'],
  );
  a.quietMs = 0;
  await refused(
    t,
    take(disks, { quiet: { quietMs: 100, deadlineMs: 50 } }),
    'device-in-use',
    /a, b: it was never without/,
  );
  t.true(disks.every((disk) => disk.isFree));
});

test('how long writes stood still is told of each member', async (t) => {
  const { disks } = disksOf({}, { barrier: 'unused', kind: 'idle' });
  const snapshots = await take(disks);
  const conclusions = await Promise.all(snapshots.map((snapshot) => snapshot.conclude()));
  t.deepEqual(
    conclusions.map(({ facts }) => facts),
    [{ closedMs: 1, stallMs: 1 }, undefined],
  );
  for (const snapshot of snapshots) await snapshot.release();
});

/** Writes 1, 2, 3 ... to the disks in turn, each after the answer to the one before. */
async function writeInTurn(disks: readonly FakeDisk[], isOver: () => boolean): Promise<void> {
  for (let n = 1; n < 250 && !isOver(); n += 1) {
    await disks[n % disks.length]?.write(0, n);
    if (n % 7 === 0) await sleep(1);
  }
}

async function numberIn(snapshot: Snapshot): Promise<number> {
  return (await snapshot.device.read(0, 1))[0] ?? 0;
}

test('a write that was answered before another was issued is never missing where the other is there', async (t) => {
  const { below } = seededRandom(t);
  for (let round = 0; round < 12; round += 1) {
    const { disks } = disksOf({}, {}, {});
    for (const disk of disks)
      for (const step of ['close', 'cut'] as const) disk.before[step] = () => sleep(below(12));
    let isOver = false;
    const writing = writeInTurn(disks, () => isOver);
    await sleep(below(30));
    const snapshots = await take(disks);
    const numbers = (await Promise.all(snapshots.map(numberIn))).sort((x, y) => x - y);
    isOver = true;
    await writing;
    // The last of each disk: without a hole they are the last three that were written.
    const most = numbers.at(-1) ?? 0;
    const expected = [most - 2, most - 1, most].map((n) => Math.max(0, n));
    t.deepEqual(numbers, expected, `round ${round}`);
    for (const snapshot of snapshots) await snapshot.release();
  }
});
