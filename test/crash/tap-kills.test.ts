/**
 * The process of a tap killed under writes: its map misses nothing afterwards. And maps
 * that must not be believed.
 */
import { execFile } from 'node:child_process';
import { copyFile, cp, rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import test from 'ava';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { difference, flipBit } from '../helpers/disks/images.js';
import { temporaryDirectory } from '../helpers/disks/loop-device.js';
import { IN_MEMORY } from '../helpers/machines/stillpoint.js';
import { nativeProgram } from '../helpers/native-programs.js';
import { LONG, seededRandom } from '../helpers/seed.js';
import { TapWorld } from '../helpers/worlds/tap.js';

test.serial('killed hundreds of times: no changed block is missing in the map', async (t) => {
  t.timeout(60 * 60_000);
  const random = seededRandom(t);
  // The map where a sync takes its time, so that a write that did not wait for it is ahead of it.
  const [images, maps] = [
    await temporaryDirectory(t, 'kills', IN_MEMORY),
    await temporaryDirectory(t, 'kills'),
  ];
  const args = [join(images, 'image'), join(maps, 'map'), String(random.seed), LONG ? '5000' : '240'];
  const { stdout } = await promisify(execFile)(nativeProgram('tap_kills'), args);
  const counts = JSON.parse(stdout) as Record<string, number>;
  t.log(stdout.trim());
  t.true((counts.mapsUsed ?? 0) > (counts.kills ?? 0) / 2, 'it is the map that is tried');
  t.true((counts.differingBlocks ?? 0) > 0);
  t.true((counts.namedBlocks ?? 0) < (counts.blocks ?? 0) / 2, 'it does not name everything');
});

test.serial(
  'the real process killed under load: the next backup goes by its map, and equals the device',
  async (t) => {
    t.timeout(60 * 60_000);
    const random = seededRandom(t);
    const blockSize = random.pick([4 * KiB, 64 * KiB]);
    const world = await TapWorld.make(t, 40 * MiB + 512, { blockSize });
    await world.start();
    await world.backup({ blockSize });
    for (let round = 1; round <= (LONG ? 250 : 12); round += 1) {
      const load = await world.startLoad(t, random.seed, 1 + random.below(3), 1 + random.below(4));
      const session = random.below(3) === 0 ? world.backup({ loseCommit: random.below(2) === 0 }) : null;
      session?.catch(() => undefined);
      await sleep(random.below(150));
      await world.kill();
      const { failed, died } = await load.result();
      t.deepEqual({ failed, died }, { failed: 0, died: true });
      await session?.catch(() => undefined);
      await world.start();
      const made = await world.backup();
      t.true(made.tracking?.used, made.tracking?.reason);
      const restored = await world.restore(made.point);
      t.is(difference(restored, world.image), null, `round ${round}`);
      await world.judge(made.point, restored);
    }
  },
);

/** What the next backup says of a map that must not be used; the point is right all the same. */
async function readsEverything(
  t: Parameters<typeof seededRandom>[0],
  world: TapWorld,
  reason: RegExp,
  acceptStore: boolean = false,
): Promise<void> {
  const made = await world.backup({ acceptStore });
  t.false(made.tracking?.used);
  t.regex(made.tracking?.reason ?? '', reason);
  t.is(difference(await world.restore(made.point), world.image), null);
  const next = await world.backup();
  t.true(next.tracking?.used, 'from then on it is used again');
}

async function write(world: TapWorld, t: Parameters<typeof seededRandom>[0], ms = 60): Promise<void> {
  const load = await world.startLoad(t, 1, 2, 4);
  await sleep(ms);
  await load.stop();
}

async function loadedWorld(t: Parameters<typeof seededRandom>[0]): Promise<TapWorld> {
  const world = await TapWorld.make(t, 12 * MiB);
  await world.start();
  await write(world, t);
  await world.backup();
  return world;
}

test('the map of another tap is not used', async (t) => {
  const [world, other] = [await loadedWorld(t), await loadedWorld(t)];
  await write(world, t);
  for (const end of ['stop', 'kill'] as const) {
    await Promise.all([world[end](), other[end]()]);
    await copyFile(other.tap.mapPath, world.tap.mapPath);
    await Promise.all([world.start(), other.start()]);
    await readsEverything(t, world, end === 'kill' ? /of another device/ : /changed or replaced/);
  }
});

test('an old map put back after a later commit is not used', async (t) => {
  const world = await loadedWorld(t);
  const old = join(world.directory, 'old-map');
  for (const end of ['stop', 'kill'] as const) {
    await world[end]();
    await copyFile(world.tap.mapPath, old);
    await world.start();
    if (end === 'kill') await write(world, t);
    await world.backup();
    await world[end]();
    await copyFile(old, world.tap.mapPath);
    await world.start();
    // It is the device's, and of its state: only the point that it counts from is not the last one.
    await readsEverything(t, world, /does not reach back to the last point/);
  }
});

test('with an older store that was put back, map and local tree are of no point that it has', async (t) => {
  const world = await loadedWorld(t);
  const [store, old] = [join(world.directory, 'store'), join(world.directory, 'old-store')];
  await cp(store, old, { recursive: true });
  await write(world, t);
  await world.backup();
  await write(world, t);
  await world.replaceStore(old);
  // A tree of another point is reason enough: all digests are compared, and the map is not asked.
  await readsEverything(t, world, /everything was asked for/, true);
});

test('a map with a flipped bit is used only where the bit does not count, and a shrunken or grown image has none', async (t) => {
  const random = seededRandom(t);
  const world = await loadedWorld(t);
  for (let round = 0; round < 4; round += 1) {
    await write(world, t);
    await world[random.pick(['stop', 'kill'] as const)]();
    const where = await flipBit(world.tap.mapPath, random);
    await world.start();
    const made = await world.backup();
    t.is(difference(await world.restore(made.point), world.image), null, where);
  }
  await world.stop();
  await rm(world.tap.startedPath);
  await truncate(world.image, 13 * MiB);
  await world.start();
  await readsEverything(t, world, /changed or replaced|another size/);
});
