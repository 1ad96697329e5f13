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

/** A disk with two partitions, both mounted. */
class World {
  constructor(
    readonly disk: string,
    readonly directory: string,
    readonly unmount: ReadonlyMap<string, () => void>,
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
    const unmount = new Map<string, () => void>();
    for (const name of ['p1', 'p2']) {
      // Nothing is left for the kernel to do behind.
      const lazy = 'nodiscard,lazy_itable_init=0,lazy_journal_init=0';
      run('mkfs.ext4', '-q', '-F', '-E', lazy, `${disk}${name}`);
      unmount.set(name, await mount(t, `${disk}${name}`, join(directory, name)));
    }
    return new World(disk, directory, unmount);
  }

  async write(partition: 'p1' | 'p2'): Promise<void> {
    const file = await open(join(this.directory, partition, 'file'), 'a');
    await file.write(Buffer.alloc(4 * KiB, 0x5a));
    await file.sync();
    await file.close();
  }

  /** @param beforeCut comes after the last pass. */
  async cut(
    t: ExecutionContext,
    beforeCut: () => Promise<void>,
  ): Promise<(node: string, shownAt: string) => Promise<unknown>> {
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
    return async (node, shownAt) => {
      const { rdev } = await stat(node, { bigint: true });
      return cutting.wasAtRest?.({ number: deviceNumber(rdev), path: join(this.directory, shownAt) });
    };
  }
}

const NEEDS = [...LIVE_REQUIREMENTS, ...programs('mkfs.ext4')];

testWith(NEEDS, 'at rest is what nobody writes to from the last pass until it was flushed', async (t) => {
  const world = await World.make(t);
  const wasAtRest = await world.cut(t, () => world.write('p1'));
  t.is(await wasAtRest(`${world.disk}p1`, 'p1'), false, 'written between the last pass and the cut');
  t.is(await wasAtRest(`${world.disk}p2`, 'p2'), true);
  t.is(await wasAtRest(world.disk, 'p2'), false);
  await writeFile(join(world.directory, 'p2', 'dirty'), 'in memory');
  t.is(await wasAtRest(`${world.disk}p2`, 'p2'), false, 'dirty at the instant, perhaps');
});

testWith(NEEDS, 'not at rest: what is mounted somewhere else, or lies somewhere else', async (t) => {
  const [world, other] = [await World.make(t), await World.make(t)];
  const wasAtRest = await world.cut(t, () => world.write('p2'));
  t.is(await wasAtRest(`${world.disk}p2`, 'p2'), false);
  t.is(await wasAtRest(`${world.disk}p1`, 'p2'), false);
  t.is(await wasAtRest(`${other.disk}p1`, 'p1'), false);
  t.is(await wasAtRest(`${world.disk}p1`, 'p1'), true);
  world.unmount.get('p1')?.();
  t.is(await wasAtRest(`${world.disk}p1`, 'p1'), false);
});
