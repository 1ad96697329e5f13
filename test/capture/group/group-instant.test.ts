/** One instant of sessions side by side, over fakes: who waits for whom, and what is left when one fails. */

import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { GroupInstant, type GroupInstantOptions } from '../../../src/capture/group/group-instant.js';
import { NO_REST } from '../../../src/capture/instant.js';
import type { Snapshot } from '../../../src/capture/ports.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { FakeDisk, type FakeDiskOptions, type Step } from '../../helpers/fakes/provider.js';
import { holdAsSession } from '../../helpers/groups/hold-as-session.js';
import { hookScene, WELL_BEHAVED } from '../../helpers/machines/hooks.js';
import { refused } from '../../helpers/refused.js';
import { seededRandom } from '../../helpers/seed.js';
import { HOLD } from '../../helpers/worlds/quiesce.js';

const LATE: FakeDiskOptions = { isLate: true };
const moved = (): StillpointError =>
  new StillpointError('device-changed', { thing: '/disk', reason: 'it moved', permanent: false });

class Scene {
  readonly log: string[] = [];
  readonly disks: readonly FakeDisk[];
  readonly instant: GroupInstant;
  readonly cancels: readonly AbortController[];

  constructor(disks: readonly FakeDiskOptions[], options: Partial<GroupInstantOptions> = {}) {
    this.disks = disks.map((one, i) => new FakeDisk('abcd'.charAt(i), { ...one, log: this.log }));
    this.cancels = disks.map(() => new AbortController());
    const rest = { ...NO_REST, name: 'all' };
    this.instant = new GroupInstant(
      this.disks.map(({ name }) => name),
      { rest, missing: 'fail', ...options },
    );
  }

  disk(i: number): FakeDisk {
    return this.disks[i] as FakeDisk;
  }

  hold(i: number): Promise<Snapshot> {
    return holdAsSession(this.instant, this.disk(i), this.cancels[i]?.signal);
  }

  async holdAll(): Promise<PromiseSettledResult<Snapshot>[]> {
    return Promise.allSettled(this.disks.map((_, i) => this.hold(i)));
  }

  async isFree(t: ExecutionContext, label?: string): Promise<void> {
    for (let tries = 0; tries < 100 && !this.disks.every((disk) => disk.isFree); tries += 1) await sleep(5);
    t.true(
      this.disks.every((disk) => disk.isFree),
      label,
    );
    for (const disk of this.disks) await disk.write(0, 1);
  }
}

function valuesOf(settled: readonly PromiseSettledResult<Snapshot>[]): Snapshot[] {
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}

const why = (one: PromiseSettledResult<unknown> | undefined): string =>
  one?.status === 'rejected' ? String((one.reason as Error).message) : 'it did not fail';

async function instantOf(snapshot: Snapshot): Promise<Date> {
  return (await snapshot.conclude()).instant ?? snapshot.instant;
}

test('static and late ones: nobody closes before all are ready, and all have one instant and one kind', async (t) => {
  const scene = new Scene([{}, LATE, { barrier: 'unused', kind: 'idle' }, LATE]);
  let passes = 0;
  scene.disk(1).before.next = async () => {
    passes += 1;
    if (passes <= 3) await scene.disk(1).write(passes, 1);
    await sleep(10);
    t.false(scene.log.some((line) => /close|cut/.test(line)));
  };
  const snapshots = valuesOf(await scene.holdAll());
  const instants = await Promise.all(snapshots.map(instantOf));
  t.is(new Set(instants.map(Number)).size, 1);
  const conclusions = await Promise.all(snapshots.map((snapshot) => snapshot.conclude()));
  t.true(snapshots.every(({ continuity }) => continuity === undefined));
  t.deepEqual(new Set(conclusions.map(({ kind }) => kind)), new Set(['crash']));
  t.is(scene.log.filter((line) => line.endsWith('cut')).length, 4);
  for (const snapshot of snapshots) await snapshot.release();
  await scene.isFree(t);
});

test('hooks run once for all', async (t) => {
  const hooks = await hookScene(t);
  const rest = { ...NO_REST, name: 'all', hooks: [await hooks.script('hook', WELL_BEHAVED)] };
  const scene = new Scene([{}, LATE, {}], { rest });
  const snapshots = valuesOf(await scene.holdAll());
  t.deepEqual(await hooks.log(), ['hook quiesced', 'hook release']);
  t.true(snapshots.filter(({ passes }) => passes === undefined).every(({ kind }) => kind === 'application'));
  for (const snapshot of snapshots) await snapshot.release();
});

for (const step of ['prepare', 'next', 'close', 'cut', 'view'] satisfies Step[]) {
  for (const isLate of [false, true]) {
    if (step === 'next' && !isLate) continue;
    const which = isLate ? 'late' : 'static';
    test(`a ${which} one that fails to ${step} is the end for all, and nothing stays closed`, async (t) => {
      const hooks = await hookScene(t);
      const rest = { ...NO_REST, name: 'all', hooks: [await hooks.script('hook', WELL_BEHAVED)] };
      const scene = new Scene([{}, { isLate }, {}], { rest });
      scene.disk(1).before[step] = () => {
        throw moved();
      };
      const settled = await scene.holdAll();
      t.regex(why(settled[1]), /it moved/);
      const isOwn = step === 'prepare' || step === 'next';
      const others = isOwn ? /^group all: its member b failed \(\/disk: it moved\)/ : /it moved/;
      t.regex(why(settled[0]), others);
      t.regex(why(settled[2]), others);
      if (isOwn)
        await refused(t, Promise.reject((settled[0] as PromiseRejectedResult).reason), 'group-failed');
      await scene.isFree(t);
      const told = { close: ['hook quiesced', 'hook aborted'], view: ['hook quiesced', 'hook release'] };
      t.deepEqual(await hooks.log(), isOwn ? [] : (told[step as 'view'] ?? told.close));
    });
  }
}

test('an instant that all late ones want again: static ones are prepared anew, and the next one is one', async (t) => {
  for (const step of ['close', 'cut'] as const) {
    const scene = new Scene([{}, LATE, LATE]);
    for (const i of [1, 2]) scene.disk(i).mayTryAgain = true;
    let tries = 0;
    scene.disk(2).before[step] = () => {
      tries += 1;
      if (tries < 3) throw moved();
    };
    const snapshots = valuesOf(await scene.holdAll());
    t.is(tries, 3);
    t.is(scene.log.filter((line) => line === 'a prepare').length, 3);
    t.is(scene.log.filter((line) => line === 'b prepare').length, 1);
    const instants = await Promise.all(snapshots.map(instantOf));
    t.is(new Set(instants.map(Number)).size, 1);
    for (const snapshot of snapshots) await snapshot.release();
    await scene.isFree(t, step);
  }
});

test('one late one that does not want another try is enough', async (t) => {
  const scene = new Scene([{}, LATE, LATE]);
  scene.disk(1).mayTryAgain = true;
  scene.disk(0).before.cut = () => {
    throw moved();
  };
  for (const one of await scene.holdAll()) t.regex(why(one), /it moved/);
  await scene.isFree(t);
});

for (const when of ['waiting', 'passing', 'close', 'cut'] as const) {
  test(`one that is cancelled (${when}) ends the wait of the others`, async (t) => {
    const scene = new Scene([{}, when === 'passing' ? LATE : {}, LATE]);
    const cancel = (): void => scene.cancels[1]?.abort();
    if (when === 'waiting') {
      scene.disk(2).before.next = async () => {
        cancel();
        await sleep(30);
      };
    } else if (when === 'passing') {
      scene.disk(1).before.next = () => {
        throw new StillpointError('cancelled', { thing: 'b', reason: 'it was cancelled' });
      };
    } else scene.disk(1).before[when] = cancel;
    const settled = await scene.holdAll();
    t.regex(why(settled[1]), /it was cancelled/);
    t.regex(why(settled[0]), /^group all: its member b failed \(b: it was cancelled\)/);
    t.regex(why(settled[2]), /^group all: its member b failed/);
    await scene.isFree(t);
  });
}

for (const when of ['prepare', 'next', 'close', 'cut'] as const) {
  test(`with leave-out the others go on without one that fails to ${when}`, async (t) => {
    const scene = new Scene([{}, { isLate: when === 'next' }, LATE, {}], { missing: 'leave-out' });
    scene.disk(1).before[when] = () => {
      throw new Error('it is broken');
    };
    // Not again for the failure of another one; but when that is gone.
    scene.disk(2).before.again = () => {
      scene.disk(2).mayTryAgain = scene.log.filter((line) => line === 'c again').length > 1;
    };
    const settled = await scene.holdAll();
    t.regex(why(settled[1]), /it is broken/);
    const others = valuesOf(settled.filter((_, i) => i !== 1));
    const instants = await Promise.all(others.map(instantOf));
    t.is(new Set(instants.map(Number)).size, 1);
    for (const snapshot of others) await snapshot.release();
    await scene.isFree(t);
  });
}

test('with leave-out, one that is cancelled in the instant is given up for, and the others have another', async (t) => {
  const scene = new Scene([{}, {}, {}], { missing: 'leave-out' });
  scene.disk(1).before.close = () => scene.cancels[1]?.abort();
  const settled = await scene.holdAll();
  t.regex(why(settled[1]), /cancelled/);
  const others = valuesOf(settled.filter((_, i) => i !== 1));
  t.is(scene.log.filter((line) => line === 'a prepare').length, 2);
  for (const snapshot of others) await snapshot.release();
  await scene.isFree(t);
});

test('the last one that is left out leaves nobody', async (t) => {
  const scene = new Scene([{}, {}], { missing: 'leave-out' });
  for (const disk of scene.disks)
    disk.before.prepare = () => {
      throw new Error(`${disk.name} is broken`);
    };
  const settled = await scene.holdAll();
  t.deepEqual(settled.map(why), ['a is broken', 'b is broken']);
});

test('a late one that has waited long goes on with its passes before the instant', async (t) => {
  const scene = new Scene([LATE, LATE]);
  let first = true;
  scene.disk(1).before.next = async () => {
    if (!first) return;
    first = false;
    await sleep(2_300);
    await scene.disk(0).write(3, 9);
  };
  const snapshots = valuesOf(await scene.holdAll());
  const passes = scene.log.filter((line) => line === 'a next').length;
  t.true(passes >= 4, scene.log.join(', '));
  for (const snapshot of snapshots) await snapshot.release();
  await scene.isFree(t);
});

test('what nothing proves to have stood still from the instant on is not of it; alone it is read twice', async (t) => {
  for (const isAlone of [false, true]) {
    const disks = isAlone ? [{}] : [{}, {}];
    const scene = new Scene(disks);
    const disk = scene.disk(0);
    const prepare: FakeDisk['prepare'] = async (options) => {
      const member = await disk.prepare(options);
      return {
        ...member,
        cut: async () => {
          const cut = await member.cut();
          const view: typeof cut.view = async (kind) => ({
            ...(await cut.view(kind)),
            conclude: async () => ({ kind, warnings: [], unproven: 'its times say nothing' }),
          });
          return { ...cut, view };
        },
      };
    };
    const [snapshot] = await Promise.all([
      scene.instant.snapshotProviderOf('a', { name: 'fake', prepare }).hold('a', HOLD),
      ...(isAlone ? [] : [scene.hold(1)]),
    ]);
    if (isAlone) t.is((await snapshot.conclude()).unproven, 'its times say nothing');
    else
      await refused(t, snapshot.conclude(), 'device-changed', /a: nothing proves .* its times say nothing/);
  }
});

test('two that have moments of their own are refused before the passes', async (t) => {
  const scene = new Scene([LATE, { barrier: 'cut' }, { barrier: 'cut' }]);
  scene.disk(0).before.next = () => sleep(50);
  const settled = await scene.holdAll();
  for (const one of settled) t.regex(why(one), /the snapshot of each is taken at a moment of its own/);
  await scene.isFree(t);
});

test('a write that was answered before another was issued is never missing where the other is there', async (t) => {
  const { below } = seededRandom(t);
  for (let round = 0; round < 12; round += 1) {
    const scene = new Scene([{}, LATE, {}]);
    for (const disk of scene.disks)
      for (const step of ['close', 'cut'] as const) disk.before[step] = () => sleep(below(12));
    let isOver = false;
    const writing = (async () => {
      for (let n = 1; n < 250 && !isOver; n += 1) {
        await scene.disks[n % 3]?.write(0, n);
        if (n % 7 === 0) await sleep(1);
      }
    })();
    await sleep(below(30));
    const held = await Promise.all([scene.hold(0), heldLate(scene), scene.hold(2)]);
    isOver = true;
    await writing;
    const numbers = await Promise.all(held.map(async ({ device }) => (await device.read(0, 1))[0] ?? 0));
    numbers.sort((x, y) => x - y);
    const most = numbers.at(-1) ?? 0;
    t.deepEqual(
      numbers,
      [most - 2, most - 1, most].map((n) => Math.max(0, n)),
      `round ${round}`,
    );
    for (const snapshot of held) await snapshot.release();
  }
});

/** The view of its instant, of the late one in the middle. It never comes to rest: one pass is enough. */
async function heldLate(scene: Scene): Promise<Snapshot> {
  const prepare = (options: typeof HOLD) => scene.disk(1).prepare(options);
  const snapshot = await scene.instant.snapshotProviderOf('b', { name: 'fake', prepare }).hold('b', HOLD);
  await snapshot.passes?.next();
  const taken = await snapshot.passes?.take();
  if (taken == null) throw new Error('there was no instant');
  return taken;
}
