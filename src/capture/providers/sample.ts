/** Blocks that a tracker calls unchanged and that are read anyway, to check it. */
import type { BlockRange } from '../../domain/blocks/block-ranges.js';

const SAMPLE_BLOCKS = 64;

/** @param random in [0, 1). @returns ascending, each once. */
export function randomBlocks(blockCount: number, random: () => number): number[] {
  const count = Math.min(SAMPLE_BLOCKS, blockCount);
  const blocks = Array.from({ length: count }, () => Math.floor(random() * blockCount));
  return [...new Set(blocks)].sort((a, b) => a - b);
}

/** @param candidates ascending. @returns those that lie in none of the ranges. */
export function sampleOutside(ranges: readonly BlockRange[], candidates: readonly number[]): number[] {
  let next = 0;
  return candidates.filter((block) => {
    while (next < ranges.length && (ranges[next]?.[1] ?? 0) <= block) next += 1;
    return block < (ranges[next]?.[0] ?? Number.POSITIVE_INFINITY);
  });
}
