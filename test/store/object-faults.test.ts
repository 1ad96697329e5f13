/**
 * A session and its store on an object store that fails, or gives other bytes than it
 * holds, at any of its steps.
 */
import test from 'ava';
import { isStillpointError } from '../../src/domain/base/errors.js';
import type { Point } from '../../src/domain/point/point.js';
import { nodeDisk } from '../../src/store/disk/disk.js';
import { LocalObjectStore } from '../../src/store/objects/local-object-store.js';
import { openStore } from '../../src/store/open.js';
import type { Store } from '../../src/store/port/store.js';
import type { Step } from '../helpers/faults/disk.js';
import { FaultyObjectStore, type ObjectFault } from '../helpers/faults/object-store.js';
import { seededRandom } from '../helpers/seed.js';
import { holds } from '../helpers/worlds/store-device.js';
import {
  after,
  before,
  checkAfterwards,
  forEveryStep,
  type Progress,
  packBytesTarget,
  runSession,
} from '../helpers/worlds/store-session.js';

const ALL = ['put', 'putFile', 'read', 'size', 'list', 'delete', 'withFile'];
const WRITES = ['put', 'putFile'];
const READS = ['read', 'withFile'];

/** At the Nth of the named steps, or from it on. */
const atNth = (names: readonly string[], forever: boolean, fault: () => ObjectFault) => (failing: number) => {
  let count = 0;
  return ({ name }: Step): ObjectFault | null => {
    if (!names.includes(name)) return null;
    count += 1;
    return count === failing || (forever && count > failing) ? fault() : null;
  };
};

const FAULTS: readonly [string, readonly string[], (random: () => number) => ObjectFault][] = [
  ['EIO', ALL, () => 'EIO'],
  ['EIO after the work was done', ALL, () => ({ late: 'EIO' })],
  ['ENOSPC', WRITES, () => 'ENOSPC'],
  ['ETRUNCATED', READS, () => 'ETRUNCATED'],
  ['a flipped bit', READS, (random) => ({ flipBit: random() })],
];

async function findings(store: Store): Promise<string[]> {
  const found: string[] = [];
  for await (const event of store.verify({})) if (event.type === 'finding') found.push(event.reason);
  return found;
}

/**
 * As an agent: a session that is refused for good (what it stands on seemed damaged meanwhile) is given
 * up, and another one begun.
 */
async function endSession(store: Store, progress: Progress): Promise<Point> {
  try {
    return await runSession(store, progress);
  } catch (error) {
    if (!isStillpointError(error) || !error.permanent) throw error;
    for (const capture of store.captures()) await capture.abort();
    return runSession(store, progress);
  }
}

for (const [name, steps, fault] of FAULTS) {
  for (const forever of [false, true]) {
    test.serial(`${name} ${forever ? 'from any step on' : 'once at any step'}`, async (t) => {
      const random = seededRandom(t);
      const makeFault = () => fault(() => random.below(2 ** 31));
      await forEveryStep(t, atNth(steps, forever, makeFault), async (world, plan, what) => {
        const progress: Progress = { durable: 0, point: null };
        let isFaulty = true;
        const objects = new FaultyObjectStore(new LocalObjectStore(nodeDisk, world.dir), (step) =>
          isFaulty ? plan(step) : null,
        );
        const orTyped = (error: unknown) => {
          t.true(isStillpointError(error), `${what()}: ${(error as Error).stack}`);
          return null;
        };
        const store = await openStore(world.dir, { objects, packBytesTarget }).catch(orTyped);
        if (store !== null) {
          const point = await runSession(store, progress).catch(orTyped);
          t.not(await holds(store, world.base, before).catch(orTyped), false, what());
          if (point !== null) t.not(await holds(store, point, after).catch(orTyped), false, what());
          await findings(store).catch(orTyped);
          isFaulty = false;
          // What was looked for in vain is looked for again by a verify, and by a
          // restart: see checkAfterwards.
          t.deepEqual(await findings(store), [], what());
          const again = await endSession(store, progress);
          t.true(await holds(store, world.base, before), what());
          t.true(await holds(store, again, after), what());
          await store.close();
        }
        await checkAfterwards(world, progress, what());
      });
    });
  }
}
