/**
 * Which blocks of a disk a backup leaves out: those of partitions that were not asked for, and of swap. Pure;
 * src/agent/backup/exclusion.ts has the facts.
 *
 * Everything outside of these partitions is in: the table at both ends, boot code, gaps, extended partitions'
 * own sectors. So is the beginning of the disk (what a restore in place writes as one), each block that an
 * excluded partition shares with something else, and the header of swap, so that a restored disk still has
 * swap with its name. Where partitions overlap, the one that was asked for wins.
 */
import { StillpointError } from '../base/errors.js';
import { EXCLUDED_RANGES_MAX, KiB } from '../base/limits.js';
import { type BlockRange, mergeRanges, withoutRanges } from '../blocks/block-ranges.js';
import type { Geometry } from '../blocks/geometry.js';
import type { ExcludedRange } from '../point/excluded.js';
import type { Partition, PartitionTable } from './partition-table.js';

export interface ExclusionWish {
  /** Only these; null: all. */
  readonly partitions: readonly number[] | null;
  readonly excludePartitions: readonly number[];
  readonly excludeSwap: boolean;
}

/**
 * What is at the beginning of a partition. `hibernated`: swap with the memory of a machine that sleeps.
 * `other`: something that is known, and not swap.
 */
export type PartitionContent = 'swap' | 'hibernated' | 'other' | 'unknown';

export interface Exclusion {
  /** Ascending, apart; of whole blocks. */
  readonly excluded: readonly ExcludedRange[];
  /** Sentences without their ends. */
  readonly notices: readonly string[];
  readonly warnings: readonly string[];
}

/** The table and the common boot code; no excluded range begins before. */
const HEAD_BYTES = 128 * KiB;
/** Of swap: a page of the largest pages that there are has its header. */
const SWAP_HEADER_BYTES = 64 * KiB;
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
  const left: { partition: Partition; reason: string; keptBytes: number }[] = [];
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
      left.push({ partition, reason: `partition ${number}`, keptBytes: 0 });
    } else if (wish.excludeSwap && isSwap(partition, content)) {
      left.push({ partition, reason: `partition ${number}, swap`, keptBytes: SWAP_HEADER_BYTES });
    } else {
      kept.push(partition);
      if (wish.excludeSwap) warnings.push(...whySwapStays(path, partition, content));
    }
  }
  const mine = blocksOf(kept, geometry);
  const excluded: ExcludedRange[] = [];
  for (const { partition, reason, keptBytes } of left) {
    const ranges = withoutRanges(innerBlocks(partition, keptBytes, geometry), mine);
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
  keptBytes: number,
  { blockSize, sizeBytes }: Geometry,
): BlockRange[] {
  const end = byteOffset + byteLength;
  const start = Math.ceil(Math.max(byteOffset + keptBytes, HEAD_BYTES) / blockSize);
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

/** Where the signatures of swap end, for each size of pages. */
const PAGE_BYTES: readonly number[] = [4 * KiB, 8 * KiB, 16 * KiB, 32 * KiB, 64 * KiB];
const SWAP_SIGNATURES: readonly string[] = ['SWAPSPACE2', 'SWAP-SPACE'];
/** The kernel's, of uswsusp, and of TuxOnIce. */
const HIBERNATED: readonly string[] = [
  ...['S1SUSPEND', 'S2SUSPEND', 'ULSUSPEND', 'LINHIB0001'],
  '\xed\xc3\x02\xe9\x98V\xe5\x0c',
];
const OTHERS: readonly (readonly [byteOffset: number, bytes: string])[] = [
  [0, 'LUKS\xba\xbe'],
  [0, 'XFSB'],
  [3, 'NTFS    '],
  [54, 'FAT'],
  [82, 'FAT32'],
  ...[0, 512, 1024, 1536].map((at) => [at, 'LABELONE'] as const),
  [1080, '\x53\xef'],
  [1024, '\x10\x20\xf5\xf2'],
  [4096, '\xfc\x4e\x2b\xa9'],
  [0, '\xfc\x4e\x2b\xa9'],
  [65_600, '_BHRfS_M'],
];

/** What is to be read of a partition to know its content. */
export const CONTENT_BYTES = 128 * KiB;

/** @param head the first 128 KiB of a partition, or what there is of it */
export function contentOfHead(head: Buffer): PartitionContent {
  const has = (at: number, text: string): boolean => head.toString('latin1', at, at + text.length) === text;
  for (const pageBytes of PAGE_BYTES) {
    if (pageBytes > head.length) break;
    const signature = head.toString('latin1', pageBytes - 10, pageBytes);
    if (HIBERNATED.some((text) => signature.startsWith(text))) return 'hibernated';
    if (SWAP_SIGNATURES.includes(signature)) return 'swap';
  }
  return OTHERS.some(([at, text]) => has(at, text)) ? 'other' : 'unknown';
}
