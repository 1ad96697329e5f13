/**
 * Group points of devices that a program writes to in turn, each write after the answer to the one before: in
 * every group point the last numbers of all are those that were written last, without holes.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { runGroupBackup } from '../../../src/agent/group/run-group.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { groupPoints } from '../../../src/domain/point/group.js';
import { FILESYSTEM_PROGRAMS } from '../../helpers/disks/filesystem.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { emptyImage, isOneInstant, live, type Side, tapped, Writer } from '../../helpers/groups/in-turn.js';
import { whyNoTracking } from '../../helpers/live/world.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { LONG } from '../../helpers/seed.js';
import { BackupWorld } from '../../helpers/worlds/backup.js';

const BACKUPS = LONG ? 40 : 5;
const SIZE_BYTES = BACKUPS * 16 * MiB;

async function isAlwaysOne(t: ExecutionContext, directory: string, sides: readonly Side[]): Promise<void> {
  const made = await BackupWorld.make(t, directory);
  const { receiver } = made;
  const still = { path: await emptyImage(join(directory, 'still.img'), SIZE_BYTES), device: 'still' };
  const writer = new Writer(sides, SIZE_BYTES);
  for (let round = 0; round < BACKUPS; round += 1) {
    const writing = writer.start();
    await writer.further();
    const { results, group } = await runGroupBackup({
      ...{ receiver, stateDirectory: directory, name: 'all', missing: 'fail' },
      members: [...sides.map(({ member }) => member), still],
      rest: { name: 'all', hooks: [], freeze: 'auto' },
    });
    // Nothing is left closed or frozen.
    await writer.further();
    writer.stop();
    await writing;
    t.like(group, { sequence: round + 1, memberCount: sides.length + 1 });
    t.is(groupPoints(await receiver.points()).length, round + 1);
    t.is(new Set(results.map(({ point }) => point.instant)).size, 1);
    const numbers: number[][] = [];
    for (const [i, { numbersIn }] of sides.entries()) {
      const image = join(directory, `restored-${round}-${i}`);
      const point = results[i]?.point;
      if (point === undefined) throw new Error('each member has a point');
      await writeFile(image, await made.contents(point));
      numbers.push(await numbersIn(image));
      await rm(image);
    }
    const last = numbers.map((side) => side.at(-1) ?? 0);
    t.true(isOneInstant(numbers), `round ${round}: ${last.join(', ')}`);
    t.true(Math.max(...last) > round * 10);
  }
}

testWith(['root'], 'two taps and an image that nobody uses: every group point is one instant', async (t) => {
  t.timeout(5 * 60_000);
  const directory = await temporaryDirectory(t, 'group');
  await isAlwaysOne(t, directory, [
    await tapped(t, directory, 'one', SIZE_BYTES),
    await tapped(t, directory, 'two', SIZE_BYTES),
  ]);
});

testWith(
  ['root', 'loop', { missing: whyNoTracking }, ...programs(...FILESYSTEM_PROGRAMS.ext4)],
  'a tap, a mounted device that is copied live, and an image: every group point is one instant',
  async (t) => {
    t.timeout(5 * 60_000);
    const directory = await temporaryDirectory(t, 'group');
    await isAlwaysOne(t, directory, [
      await tapped(t, directory, 'one', SIZE_BYTES),
      await live(t, directory, SIZE_BYTES),
    ]);
  },
);
