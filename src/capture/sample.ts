/** Blocks that are read though nothing says that they changed: they check what says so. */
import type { BlockRange } from '../domain/blocks/block-ranges.js';
import type { TrackedChanges } from './ports.js';

const SAMPLE_BLOCKS = 64;

/** Ascending, apart. @param random in [0, 1) */
export function randomBlocks(blockCount: number, random: () => number): number[] {
  const count = Math.min(SAMPLE_BLOCKS, blockCount);
  const blocks = Array.from({ length: count }, () => Math.floor(random() * blockCount));
  return [...new Set(blocks)].sort((a, b) => a - b);
}

/** With those of the candidates that lie outside of the ranges. @param ranges ascending, apart */
export function withSample(ranges: readonly BlockRange[], candidates: readonly number[]): TrackedChanges {
  let next = 0;
  const sample = candidates.filter((block) => {
    while (next < ranges.length && (ranges[next]?.[1] ?? 0) <= block) next += 1;
    return block < (ranges[next]?.[0] ?? Number.POSITIVE_INFINITY);
  });
  return { ranges, sample };
}
