/**
 * A backup into a directory store, agent and receiver in one process, meets a fault at every
 * one of its durable steps.
 */
import test, { type ExecutionContext } from 'ava';
import { type Fault, listSteps, runFaulty } from '../helpers/faults/at-step.js';
import { LONG, seededRandom } from '../helpers/seed.js';
import { checkAfterFault, makeWorld, remember } from '../helpers/worlds/crash.js';

/** All steps in the long run. In the short one, a sample where it is not the second backup that is killed. */
const SAMPLE = 6;
const FIRST_BACKUP_SAMPLE = 20;

for (const withFirstPoint of [true, false]) {
  const which = withFirstPoint ? 'a second backup' : 'a first backup, which makes the store';

  test(`${which} killed at its steps`, async (t) => {
    await atSteps(t, withFirstPoint, { fault: 'kill' }, withFirstPoint ? Infinity : FIRST_BACKUP_SAMPLE);
  });

  for (const fault of ['EIO', 'ENOSPC'] as const) {
    test(`${which} with ${fault} at a step`, async (t) => {
      await atSteps(t, withFirstPoint, { fault }, SAMPLE);
    });
    test(`${which} with ${fault} from a step on`, async (t) => {
      await atSteps(t, withFirstPoint, { fault, forever: true }, SAMPLE);
    });
  }
}

async function atSteps(
  t: ExecutionContext,
  withFirstPoint: boolean,
  fault: Pick<Fault, 'fault' | 'forever'>,
  sampleSize: number,
): Promise<void> {
  t.timeout(30 * 60_000);
  const world = await makeWorld(t, withFirstPoint);
  const reset = await remember(world);
  const steps = await listSteps(world.machine, world.backupArgs);
  t.true(steps.length > 10, 'steps are counted');
  const numbers = steps.map((_, index) => index + 1);
  const chosen = LONG || sampleSize === Infinity ? numbers : seededRandom(t).sample(numbers, sampleSize);
  for (const at of chosen) {
    await reset();
    const label = `${fault.fault} at step ${at} of ${steps.length} (${steps[at - 1]})`;
    const result = await runFaulty(world.machine, { ...fault, at }, world.backupArgs);
    if (fault.fault === 'kill') {
      // Steps run side by side: another run may need fewer.
      if (result.signal !== 'SIGKILL' && at < numbers.length - 5)
        t.fail(`${label}: not killed\n${result.stderr}`);
    } else if (result.code === null) t.fail(`${label}: died of ${result.signal}\n${result.stderr}`);
    await checkAfterFault(t, world, label, { points: withFirstPoint ? 1 : 0, committed: result.code === 0 });
  }
}
