/**
 * Writers at full speed through a tap, and one backup after the other: every point restores
 * to one instant, exactly.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { difference } from '../../helpers/disks/images.js';
import { LONG, seededRandom } from '../../helpers/seed.js';
import { TapWorld } from '../../helpers/worlds/tap.js';

const WORLDS = LONG ? 12 : 4;
const POINTS_EACH = LONG ? 60 : 26;
const BLOCK_SIZES = [4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB];

for (let index = 1; index <= WORLDS; index += 1) {
  test.serial(`every point is one instant, whatever is written meanwhile (${index})`, async (t) => {
    t.timeout(10 * 60_000);
    const random = seededRandom(t);
    // Where the backup's blocks are larger than the tap's, it reads everything.
    const blockSize = random.pick(BLOCK_SIZES);
    const tapBlock = random.pick(BLOCK_SIZES.filter((size) => size >= blockSize));
    const world = await TapWorld.make(t, 24 * MiB + 512 * (1 + random.below(200)), {
      blockSize: tapBlock,
      ...random.pick([{ whenFull: 'fail' }, { whenFull: 'throttle', preserveMaxBytes: MiB }] as const),
    });
    await world.start();
    const load = await world.startLoad(t, random.seed, 1 + random.below(4), 1 + random.below(8));
    const counts = { withMap: 0, cancelled: 0, lostCommits: 0 };
    let judged = 0;
    while (judged < POINTS_EACH) {
      const choice = random.below(8);
      const cancel = new AbortController();
      if (choice === 0) void sleep(20 + random.below(200)).then(() => cancel.abort());
      try {
        const made = await world.backup({ blockSize, signal: cancel.signal, loseCommit: choice === 1 });
        if (made.tracking?.used === true) counts.withMap += 1;
        if (choice === 1) counts.lostCommits += 1;
        // The commit of a cancelled one may come through after the next has asked for the last point.
        for (const text of made.warnings) t.regex(text, /point that the receiver goes on from/);
      } catch (error) {
        if (!isStillpointError(error, 'cancelled')) throw error;
        counts.cancelled += 1;
      }
      // One that was cancelled may have been committed all the same.
      for (const point of (await world.points()).slice(judged)) {
        judged += 1;
        t.is(point.kind, 'crash');
        const { dataSectors } = await world.judge(point, await world.restore(point));
        t.true(dataSectors > 0 || judged === 1);
      }
    }
    const { answered, failed, unanswered, died } = await load.stop();
    t.deepEqual({ failed, unanswered, died }, { failed: 0, unanswered: 0, died: false });
    const last = await world.backup({ blockSize });
    t.is(difference(await world.restore(last.point), world.image), null);
    t.true(counts.withMap > POINTS_EACH / 2);
    t.log(
      `tap blocks ${tapBlock}, backup blocks ${blockSize}, ${answered} writes, ${JSON.stringify(counts)}`,
    );
  });
}

for (let index = 1; index <= (LONG ? 20 : 1); index += 1) {
  test.serial(`held snapshots, read while all of it is overwritten (${index})`, async (t) => {
    t.timeout(10 * 60_000);
    const random = seededRandom(t);
    const world = await TapWorld.make(t, 12 * MiB, { blockSize: random.pick([4 * KiB, 16 * KiB]) });
    await world.start();
    const load = await world.startLoad(t, random.seed, 3, 6);
    for (let round = 0; round < 60; round += 1) {
      await world.judgeHeld(256 * KiB * (1 + random.below(8)));
    }
    const { failed, died } = await load.stop();
    t.deepEqual({ failed, died }, { failed: 0, died: false });
  });
}
