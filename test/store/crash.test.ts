/** A session and its store on a disk that fails, crashes or loses power at any of its steps. */
import { join } from 'node:path';
import test from 'ava';
import { isStillpointError } from '../../src/domain/base/errors.js';
import { nodeDisk } from '../../src/store/disk/disk.js';
import { createStore, openStore } from '../../src/store/open.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { type Fault, FaultyDisk, PowerLossDisk, type Step } from '../helpers/faults/disk.js';
import { plainRandom } from '../helpers/seed.js';
import { holds } from '../helpers/worlds/store-device.js';
import {
  after,
  before,
  checkAfterwards,
  forEveryStep,
  type Progress,
  packBytesTarget,
  retry,
  runSession,
} from '../helpers/worlds/store-session.js';

const once = (fault: Fault) => (failing: number) => (step: Step) => (step.number === failing ? fault : null);
/** At the Nth append, not the Nth step. */
const shortOnce = (failing: number) => {
  let appends = 0;
  return (step: Step): Fault | null => {
    if (step.name !== 'append') return null;
    appends += 1;
    return appends === failing ? { short: 'ENOSPC' } : null;
  };
};
const fromThenOn = (fault: Fault) => (failing: number) => (step: Step) =>
  step.number >= failing ? fault : null;

async function openAndRun(dir: string, disk: FaultyDisk, progress: Progress): Promise<void> {
  const store = await openStore(dir, { disk, packBytesTarget });
  try {
    await runSession(store, progress);
  } finally {
    await store.close();
  }
}

test.serial('killed at any step', async (t) => {
  await forEveryStep(t, once('crash'), async (world, plan, what) => {
    const progress: Progress = { durable: 0, point: null };
    await openAndRun(world.dir, new FaultyDisk(nodeDisk, plan), progress).catch(() => undefined);
    await checkAfterwards(world, progress, what());
  });
});

for (const keep of [0, 0.5]) {
  test.serial(`power lost at any step, ${keep * 100} % of what was not synced is there`, async (t) => {
    const random = plainRandom(12_345);
    await forEveryStep(t, once('crash'), async (world, plan, what) => {
      const progress: Progress = { durable: 0, point: null };
      const power = new PowerLossDisk(await tempDir(t));
      await openAndRun(world.dir, new FaultyDisk(power, plan), progress).catch(() => undefined);
      await power.losePower(keep, random);
      await checkAfterwards(world, progress, what());
    });
  });
}

for (const [name, faultAt] of [
  ['EIO once at any step', once('EIO')],
  ['a short write once at any append', shortOnce],
] as const) {
  test.serial(`${name}: the agent tries again with the same store`, async (t) => {
    await forEveryStep(t, faultAt, async (world, plan, what) => {
      const progress: Progress = { durable: 0, point: null };
      const disk = new FaultyDisk(nodeDisk, plan);
      const store = await openStore(world.dir, { disk, packBytesTarget }).catch((error) => {
        t.true(isStillpointError(error), what());
        return null;
      });
      if (store !== null) {
        const point = await retry(t, () => runSession(store, progress), what);
        t.true(await holds(store, point, after), what());
        await store.close();
      }
      await checkAfterwards(world, progress, what());
    });
  });
}

test.serial(
  'a disk that is full from any step on: points stay readable, and when there is room again the session goes on',
  async (t) => {
    await forEveryStep(t, fromThenOn('ENOSPC'), async (world, plan, what) => {
      const progress: Progress = { durable: 0, point: null };
      let isFull = true;
      const writes = new Set(['create', 'append', 'sync', 'rename', 'makeDir', 'syncDir']);
      const disk = new FaultyDisk(nodeDisk, (step) => (isFull && writes.has(step.name) ? plan(step) : null));
      const store = await openStore(world.dir, { disk, packBytesTarget });
      const failure = await runSession(store, progress).catch((error) => error);
      if (failure instanceof Error)
        t.true(isStillpointError(failure, 'store-full'), `${what()}: ${failure.stack}`);
      t.true(await holds(store, world.base, before), what());
      isFull = false;
      const point = await retry(t, () => runSession(store, progress), what);
      t.true(await holds(store, point, after), what());
      await store.close();
      await checkAfterwards(world, progress, what());
    });
  },
);

test.serial('killed at any step while the store is made', async (t) => {
  const place = await tempDir(t);
  for (let failing = 1; ; failing += 1) {
    const dir = join(place, String(failing));
    const disk = new FaultyDisk(nodeDisk, ({ number }) => (number === failing ? 'crash' : null));
    const isMade = await createStore(dir, { disk }).then(
      () => true,
      () => false,
    );
    const opened = await openStore(dir).catch((error) => error);
    if (isMade) {
      await opened.close();
      return;
    }
    // It is a store or it can be made one.
    if (opened instanceof Error) {
      t.true(isStillpointError(opened, 'store-missing'));
      await createStore(dir);
      await (await openStore(dir)).close();
    } else await opened.close();
    t.true(failing < 60);
  }
});
