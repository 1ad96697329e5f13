/** A device without a request queue, as device mapper is: writes are noted from submission to completion. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { MiB } from '../../../src/domain/base/limits.js';
import {
  flushNodes,
  LIVE_REQUIREMENTS,
  LiveWorld,
  startWriting,
  trackNow,
} from '../../helpers/live/world.js';
import { makeMachine } from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { seededRandom } from '../../helpers/seed.js';

const CONTROL = '/sys/class/zram-control';
const ZRAM = { missing: existsSync(`${CONTROL}/hot_add`) ? null : 'the kernel has no zram' };
const SIZE = 16 * MiB;

testWith(
  [...LIVE_REQUIREMENTS, ZRAM, ...programs('python3')],
  'of a device that passes writes on, no change is missed',
  async (t) => {
    const number = readFileSync(`${CONTROL}/hot_add`, 'utf8').trim();
    t.teardown(() => writeFileSync(`${CONTROL}/hot_remove`, number));
    writeFileSync(`/sys/block/zram${number}/disksize`, String(SIZE));
    const device = `/dev/zram${number}`;
    const world = await LiveWorld.on(t, await makeMachine(t, 'zram'), device);
    t.false(world.disk.place.target.hasRequestQueue);
    await trackNow(world.disk.place, false);
    await world.backup(t);
    const random = seededRandom(t);
    for (let round = 0; round < 2; round += 1) {
      const writer = startWriting(t, {
        ...{ seed: random.below(1e9), threads: 3, operations: 150, pauseMs: 3 },
        ...{ nodes: [{ path: device, sizeBytes: SIZE }], sectorBytes: 4096 },
      });
      while (!writer.isOver()) await world.backup(t, '--fuzzy');
      await writer.ended;
      flushNodes(device);
      const { tracking } = await world.backupAndCompare(t, `round ${round}`);
      t.true(tracking.used, tracking.reason);
    }
  },
);
