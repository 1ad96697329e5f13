/**
 * Which blocks of a disk a backup leaves out: those of partitions that were not asked for, and of swap. Pure;
 * src/agent/backup/exclusion.ts has the facts.
 *
 * Everything outside of these partitions is in: the table at both ends, boot code, gaps, extended partitions'
 * own sectors. So is the beginning of the disk (what a restore in place writes as one), each block that an
 * excluded partition shares with something else, and both ends of swap: a restored disk still has swap
 * with its name, and whatever else describes itself at an end. Where partitions overlap, the one that was
 * asked for wins.
 */
import { StillpointError } from '../base/errors.js';
import { EXCLUDED_RANGES_MAX, KiB } from '../base/limits.js';
import { type BlockRange, mergeRanges, withoutRanges } from '../blocks/block-ranges.js';
import type { Geometry } from '../blocks/geometry.js';
import type { ExcludedRange } from '../point/excluded.js';
import type { PartitionContent } from './partition-content.js';
import type { Partition, PartitionTable } from './partition-table.js';

export interface ExclusionWish {
  /** Only these; null: all. */
  readonly partitions: readonly number[] | null;
  readonly excludePartitions: readonly number[];
  readonly excludeSwap: boolean;
}

export interface Exclusion {
  /** Ascending, apart; of whole blocks. */
  readonly excluded: readonly ExcludedRange[];
  /** Sentences without their ends. */
  readonly notices: readonly string[];
  readonly warnings: readonly string[];
}

/** The table and the common boot code; no excluded range begins before. */
const HEAD_BYTES = 128 * KiB;
interface KeptEnds {
  readonly headBytes: number;
  readonly tailBytes: number;
}

const NOTHING: KeptEnds = { headBytes: 0, tailBytes: 0 };
/** A page of the largest pages has the header. Members of a RAID end with what describes them. */
const SWAP_ENDS: KeptEnds = { headBytes: 64 * KiB, tailBytes: 128 * KiB };
const SWAP_TYPES: readonly string[] = ['0657fd6d-a4ab-43c4-84e5-0933c84b4f4f', '82'];
const GPT_SWAP = SWAP_TYPES[0];

export function asksForExclusion({ partitions, excludePartitions, excludeSwap }: ExclusionWish): boolean {
  return partitions !== null || excludePartitions.length > 0 || excludeSwap;
}

/** @throws StillpointError `usage`: a partition that there is not */
export function planExclusion(
  path: string,
  wish: ExclusionWish,
  table: PartitionTable,
  contentOf: (partition: Partition) => PartitionContent,
  geometry: Geometry,
): Exclusion {
  checkNumbers(path, [...(wish.partitions ?? []), ...wish.excludePartitions], table);
  const warnings: string[] = [];
  const notices: string[] = [];
  const left: { partition: Partition; reason: string; ends: KeptEnds }[] = [];
  const kept: Partition[] = [];
  for (const partition of table.partitions) {
    const { number } = partition;
    const content = contentOf(partition);
    const isNamed = wish.excludePartitions.includes(number) || wish.partitions?.includes(number) === false;
    if (isNamed) {
      if (content === 'hibernated')
        warnings.push(
          `${path}: partition ${number} holds a hibernated machine and is left out: what is restored can't resume`,
        );
      left.push({ partition, reason: `partition ${number}`, ends: NOTHING });
    } else if (wish.excludeSwap && isSwap(partition, content)) {
      left.push({ partition, reason: `partition ${number}, swap`, ends: SWAP_ENDS });
      if (content === 'unknown')
        warnings.push(
          `${path}: partition ${number} is left out for its type alone, which is that of swap; nothing in it says so`,
        );
    } else {
      kept.push(partition);
      if (wish.excludeSwap) warnings.push(...whySwapStays(path, partition, content));
    }
  }
  const mine = blocksOf(kept, geometry);
  const excluded: ExcludedRange[] = [];
  for (const { partition, reason, ends } of left) {
    const ranges = withoutRanges(innerBlocks(partition, ends, geometry), mine);
    if (ranges.length === 0) notices.push(`${path}: ${reason} has no whole block of its own, so it is in`);
    for (const [start, end] of ranges) excluded.push({ ...bytesOf(start, end, geometry), reason });
  }
  if (excluded.length > EXCLUDED_RANGES_MAX) throw tooMany(path, excluded.length);
  return { excluded: apart(excluded, geometry), notices, warnings };
}

/**
 * The type alone counts in a GPT, for swap that is encrypted with a new key at each start: it has no
 * signature. In an MBR the same number may mean something else.
 */
function isSwap({ type }: Partition, content: PartitionContent): boolean {
  return content === 'swap' || (content === 'unknown' && type === GPT_SWAP);
}

function whySwapStays(path: string, { number, type }: Partition, content: PartitionContent): string[] {
  if (content === 'hibernated')
    return [
      `${path}: partition ${number} holds a hibernated machine, so it is not left out: without it what is restored can't resume`,
    ];
  if (content === 'both')
    return [
      `${path}: partition ${number} has the signature of swap and that of something else, so it is not left out`,
    ];
  if (content === 'other' && SWAP_TYPES.includes(type))
    return [
      `${path}: partition ${number} has the type of swap but holds something else, so it is not left out`,
    ];
  return [];
}

function checkNumbers(path: string, numbers: readonly number[], table: PartitionTable): void {
  for (const number of numbers) {
    if (table.partitions.some((partition) => partition.number === number)) continue;
    const isContainer = table.containers.includes(number);
    throw new StillpointError('usage', {
      thing: path,
      reason: isContainer
        ? `partition ${number} is an extended one, which only contains others`
        : `it has no partition ${number}`,
      remedy: `Its partitions are ${table.partitions.map((partition) => partition.number).join(', ') || 'none'}.`,
    });
  }
}

/** All that they touch. */
function blocksOf(partitions: readonly Partition[], { blockSize }: Geometry): BlockRange[] {
  const ranges = partitions.map(({ byteOffset, byteLength }): BlockRange => {
    return [Math.floor(byteOffset / blockSize), Math.ceil((byteOffset + byteLength) / blockSize)];
  });
  return mergeRanges(
    ranges.sort(([a], [b]) => a - b),
    [],
  );
}

/** Those that it has alone. */
function innerBlocks(
  { byteOffset, byteLength }: Partition,
  { headBytes, tailBytes }: KeptEnds,
  { blockSize, sizeBytes }: Geometry,
): BlockRange[] {
  const end = byteOffset + byteLength - tailBytes;
  const start = Math.ceil(Math.max(byteOffset + headBytes, HEAD_BYTES) / blockSize);
  const last = end === sizeBytes ? Math.ceil(end / blockSize) : Math.floor(end / blockSize);
  return start < last ? [[start, last]] : [];
}

function bytesOf(start: number, end: number, { blockSize, sizeBytes }: Geometry) {
  return {
    byteOffset: start * blockSize,
    byteLength: Math.min(end * blockSize, sizeBytes) - start * blockSize,
  };
}

/** Two excluded partitions may overlap: what both have counts for the first. */
function apart(excluded: readonly ExcludedRange[], geometry: Geometry): ExcludedRange[] {
  const { blockSize } = geometry;
  const sorted = [...excluded].sort((a, b) => a.byteOffset - b.byteOffset);
  let endBlock = 0;
  return sorted.flatMap((range) => {
    const start = Math.max(endBlock, range.byteOffset / blockSize);
    const end = Math.ceil((range.byteOffset + range.byteLength) / blockSize);
    if (start >= end) return [];
    endBlock = end;
    return [{ ...bytesOf(start, end, geometry), reason: range.reason }];
  });
}

function tooMany(path: string, count: number): StillpointError {
  return new StillpointError('usage', {
    thing: path,
    reason: `${count} ranges would be left out, and a point can name ${EXCLUDED_RANGES_MAX}`,
    remedy: 'Leave out fewer partitions.',
  });
}
