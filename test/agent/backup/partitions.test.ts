/** Points of a disk that leave partitions out: what they hold, what they cost, and what becomes of them. */
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { runCompare } from '../../../src/agent/compare/compare.js';
import { runRestore } from '../../../src/agent/restore/restore.js';
import type { HoldOptions, SnapshotProvider } from '../../../src/capture/ports.js';
import { offlineProvider } from '../../../src/capture/providers/offline/offline.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import type { ExclusionWish } from '../../../src/domain/device/exclusion.js';
import type { Point } from '../../../src/domain/point/point.js';
import { writeGpt } from '../../helpers/disks/partition-table.js';
import { refused } from '../../helpers/refused.js';
import { BackupWorld, BLOCK } from '../../helpers/worlds/backup.js';
import { passesWorld, stampAll } from '../../helpers/worlds/passes.js';

const BLOCKS = 96;
const SECTOR = 512;
/** Partition 2 is swap; the last one does not end at a block's end. */
const PARTITIONS = [
  [MiB, MiB],
  [2 * MiB, MiB],
  [3 * MiB, 2 * MiB],
  [5 * MiB, 600 * KiB],
].map(([start = 0, length = 0]) => ({ start: start / SECTOR, length: length / SECTOR }));
const SWAP = { byteOffset: 2 * MiB + 64 * KiB, byteLength: MiB - 192 * KiB };
const FIRST_OF_SWAP = SWAP.byteOffset / BLOCK;

const NONE: ExclusionWish = { partitions: null, excludePartitions: [], excludeSwap: false };
const NO_SWAP: ExclusionWish = { ...NONE, excludeSwap: true };

async function patch(path: string, at: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, at);
  await file.close();
}

const sign = (path: string, signature: string) =>
  patch(path, 2 * MiB + 4096 - 10, Buffer.from(signature.padEnd(10, '\0'), 'latin1'));

async function worldOf(t: ExecutionContext) {
  const world = await BackupWorld.make(t);
  await world.makeImage(
    BLOCKS * BLOCK,
    Array.from({ length: BLOCKS }, (_, n) => n),
  );
  await writeGpt(world.image, 7, PARTITIONS);
  await sign(world.image, 'SWAPSPACE2');
  const without = async (ranges: readonly { byteOffset: number; byteLength: number }[]) => {
    const bytes = await readFile(world.image);
    for (const { byteOffset, byteLength } of ranges) bytes.fill(0, byteOffset, byteOffset + byteLength);
    return bytes;
  };
  const holds = async (point: Point, message: string) =>
    t.true((await world.contents(point)).equals(await without(point.excluded ?? [])), message);
  return { world, without, holds };
}

const sizesOf = ({ excluded = [] }: Point) =>
  excluded.map(({ byteOffset, byteLength }) => [byteOffset, byteLength]);

test('swap is left out, costs nothing, and comes back when it is wanted again', async (t) => {
  const { world, holds } = await worldOf(t);
  const whole = (await world.backup({ exclusion: NONE })).point;
  t.false('excluded' in whole);

  const { point: first } = await world.backup({ exclusion: NO_SWAP });
  t.deepEqual(first.excluded, [{ ...SWAP, reason: 'partition 2, swap' }]);
  t.is(first.statistics.changedBytes, SWAP.byteLength, 'what the base has of swap becomes zero');
  t.is(first.statistics.scannedBytes, BLOCKS * BLOCK - SWAP.byteLength);
  await holds(first, 'swap is zero, all else is there');
  t.regex(world.notices().join('\n'), /not the same as in disk1@1: there it was nothing/);

  await world.change(2, [FIRST_OF_SWAP, FIRST_OF_SWAP + 5]);
  const again = await world.backup({ exclusion: NO_SWAP });
  t.is(again.point.statistics.changedBytes, 0);
  t.is(again.point.root, first.root);
  t.is(again.base.start, 'use-local');
  t.deepEqual(again.warnings, []);

  await world.change(3, [20, FIRST_OF_SWAP + 6]);
  await world.forgetState();
  const compared = await world.backup({ exclusion: NO_SWAP });
  t.is(compared.base.start, 'compare');
  t.is(compared.point.statistics.changedBytes, BLOCK, 'a comparison does not look at swap');
  await holds(compared.point, 'compared');

  const { point: all } = await world.backup();
  t.false('excluded' in all);
  t.is(all.statistics.changedBytes, SWAP.byteLength);
  await holds(all, 'all of it again');

  await world.forgetState();
  const emptied = await world.backup({ exclusion: NO_SWAP });
  t.is(emptied.base.start, 'compare');
  t.is(emptied.point.statistics.changedBytes, SWAP.byteLength, 'a comparison, and the base has swap');
  await holds(emptied.point, 'emptied after a comparison');
});

test('what is known of changes counts only for blocks that the last point has', async (t) => {
  const { world, holds } = await worldOf(t);
  const asked: boolean[] = [];
  // It says that nothing changed, and that some blocks are worth a look.
  const provider: SnapshotProvider = {
    name: 'knowing',
    hold: async (path: string, options: HoldOptions) => {
      asked.push(options.full);
      const snapshot = await offlineProvider.hold(path, options);
      const changes =
        options.full || options.basePointId === null ? null : { ranges: [], sample: [3, FIRST_OF_SWAP + 5] };
      const nothing = async () => undefined;
      const tracking = { changes, reason: 'it knows', knows: () => true, committed: nothing, adopt: nothing };
      return {
        ...snapshot,
        device: snapshot.device,
        conclude: () => snapshot.conclude(),
        release: () => snapshot.release(),
        tracking,
      };
    },
  };
  const { point: first } = await world.backup({ provider, exclusion: NO_SWAP });
  await holds(first, 'first');
  await world.change(2, [FIRST_OF_SWAP + 5]);
  const second = await world.backup({ provider, exclusion: NO_SWAP });
  t.true(second.tracking?.used);
  t.deepEqual(second.warnings, [], 'a sampled block of swap says nothing');
  const third = await world.backup({ provider, exclusion: { ...NONE, excludePartitions: [2, 4] } });
  t.false(asked.at(-1), 'more is left out: what is known still counts');
  await holds(third.point, 'partition 4 is emptied');
  const last = await world.backup({ provider, exclusion: NO_SWAP });
  t.true(asked.at(-1), 'less is left out: everything is read');
  await holds(last.point, 'last');
});

test('a device that is copied in passes: what is left out is in none of them', async (t) => {
  const { disk, made, backup } = await passesWorld(t, { heldMax: 6 });
  await made.makeImage(disk.device.sizeBytes, []);
  const start = MiB / SECTOR;
  await writeGpt(made.image, 7, [
    { start, length: start / 2 },
    { start: 1.5 * start, length: start / 2 },
  ]);
  const swap = { first: 24, end: 32 };
  const exclusion = { ...NONE, excludePartitions: [2] };
  const holds = async (point: Point) => {
    const expected = Buffer.from(disk.atInstant);
    for (const { byteOffset, byteLength } of point.excluded ?? [])
      expected.fill(0, byteOffset, byteOffset + byteLength);
    t.true((await made.contents(point)).equals(expected));
  };
  await stampAll(disk, 1);
  disk.beforePass = (pass) => (pass <= 2 ? stampAll(disk, pass) : undefined);
  const whole = await backup();
  await holds(whole);
  disk.beforePass = (pass) => (pass <= 2 ? stampAll(disk, 2 + pass) : undefined);
  const first = await backup({ exclusion });
  t.deepEqual(sizesOf(first), [[swap.first * BLOCK, (swap.end - swap.first) * BLOCK]]);
  await holds(first);
  disk.beforePass = (pass) => (pass === 1 ? stampAll(disk, 9, [2, 25, 26]) : undefined);
  const second = await backup({ exclusion });
  t.is(second.statistics.changedBytes, BLOCK, 'of three blocks that changed two are left out');
  await holds(second);
  disk.beforePass = () => undefined;
  await made.forgetState();
  const compared = await backup({ exclusion });
  t.is(compared.root, second.root);
  const last = await backup();
  await holds(last);
});

test('partitions are chosen by their numbers; what is outside of them is always there', async (t) => {
  const { world, holds } = await worldOf(t);
  const { point } = await world.backup({ exclusion: { ...NONE, partitions: [1, 3] } });
  t.deepEqual(
    sizesOf(point),
    [
      [2 * MiB, MiB],
      [5 * MiB, 9 * BLOCK],
    ],
    'a block that is shared with what follows is there',
  );
  await holds(point, 'only 1 and 3');
  const wrong = (exclusion: Partial<ExclusionWish>, reason: RegExp) =>
    refused(t, world.backup({ exclusion: { ...NONE, ...exclusion } }), 'usage', reason);
  await wrong({ partitions: [1, 9] }, /it has no partition 9/);
  await sign(world.image, 'S1SUSPEND');
  const slept = await world.backup({ exclusion: NO_SWAP });
  t.regex(slept.warnings.join(), /partition 2 holds a hibernated machine, so it is not left out/);
  t.false('excluded' in slept.point);
  const named = await world.backup({ exclusion: { ...NONE, excludePartitions: [2] } });
  t.regex(named.warnings.join(), /what is restored can't resume/);
  t.deepEqual(sizesOf(named.point), [[2 * MiB, MiB]]);
  await patch(world.image, 0, Buffer.alloc(SECTOR));
  await wrong({ partitions: [1] }, /it has no partition table/);
  t.false('excluded' in (await world.backup({ exclusion: NO_SWAP })).point);
});

test('a disk that is partitioned anew during its backup gives no point', async (t) => {
  const { world } = await worldOf(t);
  const provider: SnapshotProvider = {
    name: 'meddling',
    hold: async (path, options) => {
      const snapshot = await offlineProvider.hold(path, { ...options, fuzzy: true });
      await writeGpt(world.image, 7, PARTITIONS.toSpliced(1, 1, { start: 4096, length: 1024 }));
      return snapshot;
    },
  };
  await refused(
    t,
    world.backup({ provider, fuzzy: true, exclusion: NO_SWAP }),
    'device-changed',
    /partitioned anew during the backup/,
  );
  t.deepEqual(await world.points(), []);
});

test('a restore leaves alone what the point leaves out, and a comparison does not look at it', async (t) => {
  const { world, without } = await worldOf(t);
  const { receiver, stateDirectory, directory } = world;
  const { point: whole } = await world.backup();
  const { point } = await world.backup({ exclusion: NO_SWAP });
  const expected = await without([]);
  const target = join(directory, 'target');
  const restore = async (options: object = {}) => {
    const events: string[] = [];
    const result = await runRestore({
      ...{ receiver, point, target, stateDirectory, overwrite: true, verify: true, ...options },
      onEvent: (event) => event.type === 'notice' && events.push(event.text),
    });
    return { result, said: events.join('\n') };
  };
  const own = Buffer.alloc(SWAP.byteLength, 'mine');
  own.copy(expected, SWAP.byteOffset);
  await writeFile(target, Buffer.alloc(BLOCKS * BLOCK, 'x'));
  await patch(target, SWAP.byteOffset, own);
  const { said, result } = await restore();
  t.regex(said, /disk1@2 leaves out partition 2, swap \(851968 bytes\): .* keeps it/);
  t.deepEqual(result.warnings, []);
  t.is(result.differingBytes, BLOCKS * BLOCK - SWAP.byteLength);
  t.true((await readFile(target)).equals(expected));
  await restore({ rewrite: true });
  t.true((await readFile(target)).equals(expected), 'written without a look');
  await restore({ zeroExcluded: true });
  t.true((await readFile(target)).equals(await without([SWAP])));

  await world.change(2, [FIRST_OF_SWAP, FIRST_OF_SWAP + 9]);
  const compare = (deep: boolean) => runCompare({ receiver, point, path: world.image, stateDirectory, deep });
  for (const deep of [false, true]) t.is((await compare(deep)).differing.count, 0);
  await world.change(2, [70]);
  t.deepEqual([...(await compare(false)).differing.ranges()], [[70, 71]]);
  const ranges: unknown[] = [];
  for await (const event of receiver.diff(whole.id, point.id))
    if (event.type === 'ranges') ranges.push(event);
  t.deepEqual(ranges, []);
});
