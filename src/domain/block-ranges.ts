/** Ranges of blocks [start, end). */
import type { Geometry } from './geometry.js';

export type BlockRange = readonly [number, number];

/** Bytes of blocks [start, end), of which the last may be short. */
export function rangeBytes({ sizeBytes, blockSize }: Geometry, start: number, end: number): number {
  return Math.min(end * blockSize, sizeBytes) - start * blockSize;
}

/**
 * @param ranges ascending, apart.
 * @param blocks ascending; may lie in the ranges.
 * @returns all of them, ascending, apart; neighbours in one.
 */
export function mergeRanges(ranges: readonly BlockRange[], blocks: readonly number[]): BlockRange[] {
  const merged: [number, number][] = [];
  const add = (start: number, end: number): void => {
    const last = merged.at(-1);
    if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end);
    else merged.push([start, end]);
  };
  let next = 0;
  for (const [start, end] of ranges) {
    for (; next < blocks.length && (blocks[next] ?? 0) < start; next += 1) {
      add(blocks[next] ?? 0, (blocks[next] ?? 0) + 1);
    }
    add(start, end);
  }
  for (; next < blocks.length; next += 1) add(blocks[next] ?? 0, (blocks[next] ?? 0) + 1);
  return merged;
}
