/**
 * Comparisons through a tap: its map counts for the point afterwards; and a lost local tree
 * while users go on writing.
 */
import { copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type CompareOptions, type CompareResult, runCompare } from '../../../src/agent/compare/compare.js';
import { deviceStateDirectory } from '../../../src/agent/state/device-state.js';
import type { SnapshotProvider } from '../../../src/capture/ports.js';
import { tapProvider } from '../../../src/capture/providers/tap/tap.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { LOCAL_AGENT } from '../../../src/domain/base/names.js';
import type { BlockSet } from '../../../src/domain/blocks/block-set.js';
import type { Point } from '../../../src/domain/point/point.js';
import { connectTap } from '../../../src/tap/control/client.js';
import { difference } from '../../helpers/disks/images.js';
import { writePastTheTap } from '../../helpers/disks/past-the-tap.js';
import { refused } from '../../helpers/refused.js';
import { watchBatches } from '../../helpers/worlds/batch-watch.js';
import { TapWorld } from '../../helpers/worlds/tap.js';

const BLOCK = 64 * KiB;
const SIZE = 128 * MiB;

async function world(t: ExecutionContext): Promise<{ world: TapWorld; point: Point }> {
  const world = await TapWorld.make(t, SIZE);
  await world.start();
  await world.writeBlocks([0, 1, 2, 700, 1999], BLOCK);
  return { world, point: (await world.backup()).point };
}

/** Past the tap: no map knows of it. */
interface Disturbed {
  /** While the instant is held, after everything was read once. */
  readonly meanwhile?: () => Promise<void>;
}

function compare(
  { tap, receiver, image, stateDirectory }: TapWorld,
  point: Point,
  { meanwhile, ...options }: Partial<CompareOptions> & Disturbed = {},
): Promise<CompareResult> {
  const through = tapProvider({ tap, rest: { name: 'disk', hooks: [], freeze: 'none' } });
  const provider: SnapshotProvider = {
    name: through.name,
    hold: async (...args) => {
      const snapshot = await through.hold(...args);
      const conclude = async () => {
        await meanwhile?.();
        return snapshot.conclude();
      };
      return { ...snapshot, conclude };
    },
  };
  return runCompare({ receiver, point, path: image, stateDirectory, provider, ...options });
}

const listed = (set: BlockSet): number[] =>
  [...set.ranges()].flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i));

/** A backup that trusts the map, and ships exactly these blocks. */
async function shipsByMap(
  t: ExecutionContext,
  { world, blocks }: { world: TapWorld; blocks: readonly number[] },
) {
  const watch = watchBatches(world.receiver);
  // Of the sample nothing is to be found by chance.
  const made = await world.backup({ receiver: watch.receiver, sampleRandom: () => 0.999_999 });
  t.true(made.tracking?.used, made.tracking?.reason);
  t.deepEqual(
    [...watch.blocks].sort((a, b) => a - b),
    [...blocks].sort((a, b) => a - b),
  );
  t.true(made.point.statistics.scannedBytes <= (blocks.length + 64) * BLOCK);
  t.is(difference(await world.restore(made.point), world.image), null);
}

test('--mark: a void map counts for the point afterwards, and names what differs and what was written since', async (t) => {
  const { world: made, point } = await world(t);
  await writePastTheTap(t, made.image, [5, 1500], BLOCK);
  const control = await connectTap(made.tap.controlPath);
  await control.voidMap('for the test');
  control.close();
  const { receiver: honest } = made;
  const marked = await compare(made, point, {
    // Whatever is asked for, a map is made from what is proven.
    ...{ mark: true, direction: 'send' },
    receiver: new Proxy(honest, {
      get: (target, name: keyof typeof honest) =>
        name === 'compareNodes' ? t.fail() : (target[name] as () => unknown).bind(target),
    }),
    meanwhile: () => made.writeBlocks([1, 40], BLOCK),
  });
  t.deepEqual(listed(marked.differing), [5, 1500], 'of the instant');
  t.deepEqual((await made.report()).status.map.pointIds, [point.id]);
  await made.writeBlocks([41], BLOCK);
  await shipsByMap(t, { world: made, blocks: [1, 5, 40, 41, 1500] });
  await shipsByMap(t, { world: made, blocks: [] });
});

test('without --mark the map stays as it was', async (t) => {
  const { world: made, point } = await world(t);
  await made.writeBlocks([9], BLOCK);
  t.deepEqual(listed((await compare(made, point)).differing), [9]);
  t.is((await made.report()).status.hold, null);
  await shipsByMap(t, { world: made, blocks: [9] });
});

test('--mark of ranges adds to a map that knows the point, and is refused where it does not', async (t) => {
  const { world: made, point } = await world(t);
  await made.writeBlocks([3], BLOCK);
  await writePastTheTap(t, made.image, [60, 1500], BLOCK);
  const byteRanges = [[50 * BLOCK, 100 * BLOCK]] as const;
  t.deepEqual(listed((await compare(made, point, { mark: true, byteRanges })).differing), [60]);
  await writePastTheTap(t, made.image, [70], BLOCK);
  const watch = watchBatches(made.receiver);
  const next = await made.backup({ receiver: watch.receiver, sampleRandom: () => 0.999_999 });
  t.true(next.tracking?.used);
  t.deepEqual([...watch.blocks], [3, 60], 'what lies outside of the ranges is as unknown as before');

  await refused(
    t,
    compare(made, point, { mark: true, byteRanges }),
    'usage',
    /what is known of its changes is not valid for point disk@1/,
  );
  t.deepEqual((await made.report()).status.hold, null);
  t.true((await made.report()).status.map.pointIds?.includes(next.point.id));
});

test('--mark, then kill -9: the map file has it', async (t) => {
  const { world: made, point } = await world(t);
  const writer = await writePastTheTap(t, made.image, [5, 1500], BLOCK);
  await compare(made, point, { mark: true, meanwhile: () => made.writeBlocks([1], BLOCK) });
  await made.kill();
  await writer.close();
  await made.start();
  const watch = watchBatches(made.receiver);
  const next = await made.backup({ receiver: watch.receiver });
  t.true(next.tracking?.used, next.tracking?.reason);
  t.deepEqual(
    [...watch.blocks].sort((a, b) => a - b),
    [1, 5, 1500],
  );
  t.is(difference(await made.restore(next.point), made.image), null);
});

for (const writes of ['users write between the two reads', 'the tap is not written to'] as const) {
  test(`a lost local tree at a tap: the second read sees the same instant (${writes})`, async (t) => {
    const { world: made } = await world(t);
    await made.writeBlocks([9, 700], BLOCK);
    await writePastTheTap(t, made.image, [1500], BLOCK);
    const { storeId } = await made.receiver.info();
    const key = { storeId, agent: LOCAL_AGENT, device: 'disk' };
    await rm(join(deviceStateDirectory(made.stateDirectory, key), 'tree'));
    const instant = join(made.directory, 'instant.img');
    await copyFile(made.image, instant);
    const watch = watchBatches(made.receiver);
    const isWritten = writes.startsWith('users');
    let written = false;
    // The first question comes when all has been read once, and nothing has been shipped.
    const receiver = new Proxy(watch.receiver, {
      get: (target, name: keyof typeof made.receiver) => {
        const method = (target[name] as (...args: unknown[]) => unknown).bind(target);
        if (name !== 'nodes') return method;
        return async (...args: unknown[]) => {
          if (isWritten && !written) await made.writeBlocks([9, 10, 1500], BLOCK);
          written = true;
          return method(...args);
        };
      },
    });
    const { base, point } = await made.backup({ receiver });
    t.true(written);
    t.is(base.start, 'compare');
    t.deepEqual(
      [...watch.blocks].sort((a, b) => a - b),
      [9, 700, 1500],
    );
    t.is(difference(await made.restore(point), instant), null, 'the instant, not what came later');
    await shipsByMap(t, { world: made, blocks: isWritten ? [9, 10, 1500] : [] });
  });
}
