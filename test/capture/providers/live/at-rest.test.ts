/**
 * A file system that can't be frozen (FAT), at rest while the instant is taken. This machine may have no FAT:
 * a partition of its own stands for it, and test/vm/esp.sh has a real one.
 */
import { open, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { prepareLive } from '../../../../src/capture/providers/live/live.js';
import { freeze } from '../../../../src/capture/quiesce/freeze.js';
import type { Cutting } from '../../../../src/capture/quiesce/rest.js';
import { deviceNumber } from '../../../../src/devices/system/in-use.js';
import { KiB, MiB } from '../../../../src/domain/base/limits.js';
import { mount, run, temporaryDirectory } from '../../../helpers/disks/loop-device.js';
import { attachPartitioned } from '../../../helpers/disks/partition-table.js';
import { LIVE_REQUIREMENTS, untrackAtEnd } from '../../../helpers/live/world.js';
import { programs, testWith } from '../../../helpers/requirements.js';
import { HOLD } from '../../../helpers/worlds/quiesce.js';

const START = MiB / 512;
const LENGTH = (8 * MiB) / 512;

/** A disk with two partitions, the first of which is mounted. */
class World {
  constructor(
    readonly disk: string,
    readonly mountPoint: string,
  ) {}

  static async make(t: ExecutionContext): Promise<World> {
    const directory = await temporaryDirectory(t, 'at-rest');
    const image = join(directory, 'disk');
    await writeFile(image, '');
    await truncate(image, 2 * LENGTH * 512 + 2 * MiB);
    const disk = await attachPartitioned(t, image, 0x5e5e5e5e, [
      { start: START, length: LENGTH },
      { start: START + LENGTH, length: LENGTH },
    ]);
    await untrackAtEnd(t, disk);
    run('mkfs.ext4', '-q', '-F', `${disk}p1`);
    const mountPoint = join(directory, 'mnt');
    await mount(t, `${disk}p1`, mountPoint);
    return new World(disk, mountPoint);
  }

  async write(partition: 1 | 2, byteOffset: number): Promise<void> {
    const node = await open(`${this.disk}p${partition}`, 'r+');
    await node.write(Buffer.alloc(4 * KiB, 0x5a), 0, 4 * KiB, byteOffset);
    await node.sync();
    await node.close();
  }

  /** @param beforeCut comes after the last pass. */
  async cut(
    t: ExecutionContext,
    beforeCut: () => Promise<void>,
  ): Promise<(node: string) => Promise<unknown>> {
    const member = await prepareLive(this.disk, HOLD);
    t.teardown(() => member.release());
    while ((await member.passes?.next()) !== null);
    await beforeCut();
    const cutting = member.cutting as Cutting;
    const takeCuts = async (): Promise<void> => {
      const cuts = [cutting.descriptors];
      const { cut, thaw } = await freeze([], { deadlineMs: 10_000, cuts, once: true });
      await cut();
      await thaw();
    };
    await member.close({ closedMs: 30_000 });
    await member.cut({ takeCuts });
    return async (node) => {
      const { rdev } = await stat(node, { bigint: true });
      return cutting.wasAtRest?.({ number: deviceNumber(rdev), path: this.mountPoint });
    };
  }
}

const NEEDS = [...LIVE_REQUIREMENTS, ...programs('mkfs.ext4')];

testWith(NEEDS, 'at rest is what nobody writes to from the last pass until it was flushed', async (t) => {
  const world = await World.make(t);
  const wasAtRest = await world.cut(t, () => world.write(1, 4 * MiB));
  t.is(await wasAtRest(`${world.disk}p1`), false, 'written between the last pass and the cut');
  t.is(await wasAtRest(`${world.disk}p2`), true);
  t.is(await wasAtRest(world.disk), false);
  await world.write(2, 8 * MiB - 4 * KiB);
  t.is(await wasAtRest(`${world.disk}p2`), false, 'written after the cut: dirty at the instant, perhaps');
});

testWith(NEEDS, 'not at rest: its last block before the cut; and what is somewhere else', async (t) => {
  const [world, other] = [await World.make(t), await World.make(t)];
  const wasAtRest = await world.cut(t, () => world.write(2, 8 * MiB - 4 * KiB));
  t.is(await wasAtRest(`${world.disk}p2`), false);
  t.is(await wasAtRest(`${world.disk}p1`), true);
  t.is(await wasAtRest(`${other.disk}p1`), false);
});
