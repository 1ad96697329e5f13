/**
 * An agent that backs up a device by its marks is killed at its steps, before and after the point is made;
 * whatever the marks are good for then, the next point is the device.
 */
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { native } from '../../src/native/index.js';
import { listSteps, runFaulty } from '../helpers/faults/at-step.js';
import { LIVE_REQUIREMENTS, LiveWorld, trackNow } from '../helpers/live/world.js';
import { testWith } from '../helpers/requirements.js';
import { LONG, seededRandom } from '../helpers/seed.js';

const SIZE = 4 * MiB;
const BLOCK = 64 * KiB;
const SAMPLE = 4;

async function write(world: LiveWorld, blocks: readonly number[], text: string): Promise<void> {
  const device = await native.openDevice(world.disk.device, { write: true });
  for (const block of blocks) await device.write(block * BLOCK, Buffer.alloc(4 * KiB, `${text} ${block} `));
  await device.flush();
  await device.close();
}

testWith(
  LIVE_REQUIREMENTS,
  'killed at its steps, a backup by marks loses none',
  async (t: ExecutionContext) => {
    t.timeout(30 * 60_000);
    const random = seededRandom(t);
    const world = await LiveWorld.make(t, { sizeBytes: SIZE });
    await trackNow(world.disk.place, false);
    await world.backup(t);
    await write(world, [1, 2], 'to list');
    const steps = await listSteps(world.machine, world.backupArgs);
    const numbers = steps.map((_, index) => index + 1);
    // What the marks go through, and what comes between.
    const live = numbers.filter((at) =>
      /^(begin|collect|ship|stage|accept|forgetKept|createLiveCopy) /.test(`${steps[at - 1]} `),
    );
    t.true(live.length >= 5, steps.join(', '));
    const chosen = LONG ? numbers : [...new Set([...random.sample(live, SAMPLE), random.pick(numbers)])];
    for (const at of chosen) {
      const label = `killed at step ${at} of ${steps.length} (${steps[at - 1]})`;
      // Some blocks are written before, some again after.
      await write(world, [random.below(32), random.below(32), 40], `before ${at}`);
      const { signal } = await runFaulty(world.machine, { fault: 'kill', at }, world.backupArgs);
      if (signal !== 'SIGKILL' && at < steps.length - 5) t.fail(`${label}: not killed`);
      await write(world, [random.below(32), 50], `after ${at}`);
      const { tracking, point } = await world.backupAndCompare(t, label);
      t.true(tracking.used, `${label}: ${tracking.reason}`);
      t.true(point.statistics.scannedBytes < SIZE);
    }
  },
);
