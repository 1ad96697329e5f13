/**
 * What a backup leaves out of a device: found before its instant, checked after it, and kept out of all that
 * is read. The table is read from the device itself, each time. If it is the same before and after, it was
 * the same at the instant.
 *
 * Excluded blocks are never sent, and their leaves become NULL. Blocks of them that the base has content of
 * (the point before had them) are sent as zeros: a file without any content stands for them, and is scanned
 * as the device is. Usually there are none, and nothing is sent.
 */
import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { changedError } from '../../capture/ports.js';
import { StillpointError } from '../../domain/base/errors.js';
import { type BlockRange, intersectRanges, withoutRanges } from '../../domain/blocks/block-ranges.js';
import { blockCount, type Geometry, geometry } from '../../domain/blocks/geometry.js';
import {
  asksForExclusion,
  type Exclusion,
  type ExclusionWish,
  planExclusion,
} from '../../domain/device/exclusion.js';
import { contentOf, END_BYTES, type PartitionContent } from '../../domain/device/partition-content.js';
import { readPartitionTable } from '../../domain/device/partition-table.js';
import { type ExcludedRange, excludedBytes, excludedReasons, toBlocks } from '../../domain/point/excluded.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { type Device, native, type TreeFile } from '../../native/index.js';

/** An image does not say which sectors its disk has. */
const IMAGE_SECTOR_SIZES: readonly number[] = [512, 4096];

export interface LeftOut extends Exclusion {
  readonly wish: ExclusionWish;
  /** Of the session's blocks. */
  readonly blocks: readonly BlockRange[];
  /** Says what is left out, in a few characters: two sessions with the same leave out the same. */
  readonly key: string;
}

/**
 * @returns null: nothing was asked to be left out
 * @throws StillpointError `usage`: there is no such partition
 */
export async function findLeftOut(
  path: string,
  wish: ExclusionWish | undefined,
  blockSize: number,
): Promise<LeftOut | null> {
  if (wish === undefined || !asksForExclusion(wish)) return null;
  const device = await native.openDevice(path);
  try {
    const exclusion = await exclusionOf(device, path, wish, geometry(device.sizeBytes, blockSize));
    const { excluded } = exclusion;
    const key = createHash('sha256').update(JSON.stringify(excluded)).digest('hex').slice(0, 16);
    return { ...exclusion, wish, blocks: toBlocks(excluded, blockSize), key };
  } finally {
    await device.close();
  }
}

async function exclusionOf(
  device: Device,
  path: string,
  wish: ExclusionWish,
  size: Geometry,
): Promise<Exclusion> {
  const read = (byteOffset: number, byteLength: number) => device.read(byteOffset, byteLength);
  const { sizeBytes } = device;
  const sectorSizes = device.type === 'block' ? [device.logicalSectorSize] : IMAGE_SECTOR_SIZES;
  const table = await readPartitionTable({ sizeBytes, sectorSizes, read, crc32 });
  if (table === null || typeof table === 'string') return withoutTable(path, wish, table);
  const contents = new Map<number, PartitionContent>();
  for (const { number, byteOffset, byteLength } of table.partitions) {
    const endBytes = Math.min(END_BYTES, byteLength);
    const ends = [read(byteOffset, endBytes), read(byteOffset + byteLength - endBytes, endBytes)] as const;
    const content = await Promise.all(ends).then(
      ([head, tail]) => contentOf(head, tail, byteLength),
      // What can't be read is not taken for swap.
      () => 'other' as const,
    );
    contents.set(number, content);
  }
  return planExclusion(path, wish, table, ({ number }) => contents.get(number) ?? 'unknown', size);
}

/** Partitions that were named must be there. Swap that can't be found is backed up. */
function withoutTable(path: string, wish: ExclusionWish, problem: string | null): Exclusion {
  const reason =
    problem === null ? 'it has no partition table' : `its partition table can't be used: ${problem}`;
  if (wish.partitions !== null || wish.excludePartitions.length > 0) {
    throw new StillpointError('usage', {
      thing: path,
      reason,
      remedy: 'Name a whole disk with partitions, or back up all of it.',
    });
  }
  const text = `${path}: ${reason}, so nothing is left out`;
  return problem === null
    ? { excluded: [], notices: [text], warnings: [] }
    : { excluded: [], notices: [], warnings: [text] };
}

/**
 * After the instant. @throws StillpointError `device-changed` if something else would be left out now
 */
export async function checkLeftOut(path: string, leftOut: LeftOut | null, blockSize: number): Promise<void> {
  if (leftOut === null) return;
  const now = await findLeftOut(path, leftOut.wish, blockSize);
  if (now?.key !== leftOut.key)
    throw changedError(path, 'was partitioned anew during the backup, or what is in its partitions changed');
}

/**
 * Nobody knows what became of a block while it was left out: what is known of changes does not count for it.
 */
export function isReadAnew(leftOut: LeftOut | null, last: Point | null, blockSize: number): boolean {
  const before = toBlocks(last?.excluded ?? [], blockSize);
  return withoutRanges(before, leftOut?.blocks ?? []).length > 0;
}

/** @returns sentences without their ends */
export function describeLeftOut(leftOut: LeftOut | null, last: Point | null): string[] {
  const now = leftOut?.excluded ?? [];
  const text = now.length === 0 ? [] : [`left out: ${describeExcluded(now)}`];
  const before = last?.excluded ?? [];
  if (last === null || isSameExclusion(now, before)) return text;
  const was = before.length === 0 ? 'nothing' : describeExcluded(before);
  return [...text, `what is left out is not the same as in ${pointLabel(last)}: there it was ${was}`];
}

function describeExcluded(excluded: readonly ExcludedRange[]): string {
  return `${excludedReasons(excluded)} (${excludedBytes(excluded)} bytes)`;
}

function isSameExclusion(a: readonly ExcludedRange[], b: readonly ExcludedRange[]): boolean {
  return (
    a.length === b.length &&
    a.every(
      ({ byteOffset, byteLength }, n) => b[n]?.byteOffset === byteOffset && b[n]?.byteLength === byteLength,
    )
  );
}

/** @param ranges undefined: all of the device; @returns what of them is read */
export function withoutLeftOut(
  ranges: readonly BlockRange[] | undefined,
  leftOut: LeftOut | null,
  size: Geometry,
): readonly BlockRange[] | undefined {
  if (leftOut === null || leftOut.blocks.length === 0) return ranges;
  return withoutRanges(ranges ?? [[0, blockCount(size)]], leftOut.blocks);
}

export function isLeftOut(leftOut: LeftOut | null, blockIndex: number): boolean {
  return leftOut !== null && intersectRanges(leftOut.blocks, blockIndex, blockIndex + 1).length > 0;
}

/** Blocks that the base has content of and the point will not. */
export interface Emptied {
  /** As long as the device itself, without content. */
  readonly device: Device;
  readonly ranges: readonly BlockRange[];
}

/** @param tree of the base; @returns null: it has no such content */
export async function openEmptied(
  leftOut: LeftOut | null,
  tree: TreeFile,
  paths: readonly string[],
): Promise<Emptied | null> {
  const ranges = (leftOut?.blocks ?? []).filter(([start, end]) => tree.nextNonNull(start) < end);
  return ranges.length === 0 ? null : { device: await openEmpty(paths, tree.sizeBytes), ranges };
}

/** A file system may not have files as long as the device: ext4 ends at 16 TiB, /dev/shm does not. */
async function openEmpty(paths: readonly string[], sizeBytes: number): Promise<Device> {
  let problem: unknown;
  for (const path of paths) {
    try {
      const file = await open(path, 'w');
      try {
        await file.truncate(sizeBytes);
      } finally {
        await file.close();
      }
      return await native.openDevice(path);
    } catch (error) {
      problem = error;
    } finally {
      await rm(path, { force: true }).catch(() => undefined);
    }
  }
  throw problem;
}
