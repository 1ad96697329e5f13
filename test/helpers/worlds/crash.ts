/**
 * A device with one committed point and a change on top, copied afresh for every fault; and the
 * questions that each fault must answer: do all listed points restore, is nothing half-done to be seen,
 * does the next backup go well?
 */
import { cp, open, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { makeStampedImage, writeStamped } from '../bytes/stamped-blocks.js';
import { IN_MEMORY, lastResult, type Machine, makeMachine, runHere } from '../machines/stillpoint.js';

export const WORLD_BLOCK = 16 * KiB;
const BLOCKS = 70;
/** Not a whole number of blocks. */
const SIZE = BLOCKS * WORLD_BLOCK - 1536;
const SEED = 4711;
export const CHANGED_BLOCKS = [0, 1, 33, 63, 64, 69];

export interface StoreOfMachine {
  readonly machine: Machine;
  readonly store: string;
}

export interface World extends StoreOfMachine {
  readonly source: string;
  readonly backupArgs: readonly string[];
  /** The device's content at the first point, and now. */
  readonly contents: readonly [Buffer, Buffer];
}

export function backupArgs(source: string, store: string): string[] {
  return ['backup', source, '--store', store, '--name', 'disk', '--block-size', '16K', '--json'];
}

/** @param withFirstPoint else the store does not exist yet, and all of it is made by the first backup. */
export async function makeWorld(t: ExecutionContext, withFirstPoint: boolean): Promise<World> {
  const machine = await makeMachine(t, 'crash', IN_MEMORY);
  const [source, store] = [join(machine.directory, 'source'), join(machine.directory, 'store')];
  const all = Array.from({ length: BLOCKS }, (_, index) => index);
  await makeStampedImage(source, {
    sizeBytes: SIZE,
    blockSize: WORLD_BLOCK,
    seed: SEED,
    blockIndexes: all.filter((index) => index < 20 || index % 3 === 0),
  });
  const first = await readFile(source);
  const args = backupArgs(source, store);
  if (withFirstPoint) {
    const made = await runHere(machine, ...args);
    if (made.code !== 0) throw new Error(made.stdout + made.stderr);
  }
  const file = await open(source, 'r+');
  for (const blockIndex of CHANGED_BLOCKS) {
    await writeStamped(file, { seed: SEED, blockIndex, generation: 1 }, WORLD_BLOCK, SIZE);
  }
  await file.close();
  return { machine, source, store, backupArgs: args, contents: [first, await readFile(source)] };
}

/** Remembers store and state. @returns a function that brings both back. */
export async function remember(world: World): Promise<() => Promise<void>> {
  const kept = join(world.machine.directory, 'kept');
  const places = [world.store, world.machine.stateDirectory];
  await rm(kept, { recursive: true, force: true });
  for (const [index, place] of places.entries()) {
    await cp(place, join(kept, String(index)), { recursive: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
  return async () => {
    for (const [index, place] of places.entries()) {
      await rm(place, { recursive: true, force: true });
      await cp(join(kept, String(index)), place, { recursive: true }).catch(
        (error: NodeJS.ErrnoException) => {
          if (error.code !== 'ENOENT') throw error;
        },
      );
    }
  };
}

export async function listPoints(world: StoreOfMachine): Promise<Point[]> {
  const result = await runHere(world.machine, 'points', '--store', world.store, '--json');
  if (result.code !== 0) throw new Error(`points: ${result.stdout}${result.stderr}`);
  return lastResult<{ points: Point[] }>(result.stdout).points;
}

export async function restoredBytes(world: StoreOfMachine, point: string): Promise<Buffer> {
  const target = join(world.machine.directory, 'restored');
  await rm(target, { force: true });
  const result = await runHere(world.machine, 'restore', point, target, '--store', world.store, '--json');
  if (result.code !== 0) throw new Error(`restore ${point}: ${result.stdout}${result.stderr}`);
  return readFile(target);
}

/**
 * @param committed the faulty run said that it made a point.
 * @param label which fault, for the message of a failure.
 */
export async function checkAfterFault(
  t: ExecutionContext,
  world: World,
  label: string,
  expected: { readonly points: number; readonly committed: boolean },
): Promise<void> {
  try {
    const before = await listedOrNone(world);
    const counts = expected.committed ? [expected.points + 1] : [expected.points, expected.points + 1];
    if (!counts.includes(before.length))
      t.fail(`${label}: ${before.length} points, not ${counts.join(' or ')}`);
    // The older ones are restored below, after one more backup.
    await checkPoints(t, world, label, before, expected.points, before.length - 1);

    const again = await runHere(world.machine, ...world.backupArgs);
    if (again.code !== 0) return t.fail(`${label}: the next backup fails\n${again.stdout}${again.stderr}`);
    const { point } = lastResult<{ point: Point }>(again.stdout);
    if (before.length > expected.points && point.statistics.changedBytes !== 0) {
      t.fail(
        `${label}: the next backup finds ${point.statistics.changedBytes} bytes changed since a committed point`,
      );
    }
    const after = await listPoints(world);
    if (after.length !== before.length + 1) t.fail(`${label}: ${after.length} points after ${before.length}`);
    await checkPoints(t, world, label, after, expected.points);
    const verified = await runHere(world.machine, 'verify', '--store', world.store, '--json');
    if (verified.code !== 0) t.fail(`${label}: verify\n${verified.stdout}${verified.stderr}`);
    const captures = await readdir(join(world.store, 'capture')).catch((): string[] => []);
    const debris = [...captures, ...(await hiddenFiles(world.store))];
    if (debris.length > 0) t.fail(`${label}: debris ${debris.join(', ')}`);
  } catch (error) {
    t.fail(`${label}: ${(error as Error).message}`);
  }
}

/** Before the first backup has come far enough, there is no store. */
async function listedOrNone(world: World): Promise<Point[]> {
  const result = await runHere(world.machine, 'points', '--store', world.store, '--json');
  if (result.code === 0) return lastResult<{ points: Point[] }>(result.stdout).points;
  if (result.stdout.includes('"store-missing"')) return [];
  throw new Error(`points: ${result.stdout}${result.stderr}`);
}

async function checkPoints(
  t: ExecutionContext,
  world: World,
  label: string,
  points: readonly Point[],
  oldPoints: number,
  firstIndex = 0,
): Promise<void> {
  for (const [index, point] of points.entries()) {
    if (index < firstIndex) continue;
    const content = world.contents[index < oldPoints ? 0 : 1];
    const bytes = await restoredBytes(world, `disk@${point.sequence}`);
    if (!bytes.equals(content)) t.fail(`${label}: disk@${point.sequence} restores wrong bytes`);
  }
}

async function hiddenFiles(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true });
  return entries.filter((path) => path.split('/').at(-1)?.startsWith('.'));
}
