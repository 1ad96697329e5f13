/** Ranges of blocks [start, end). */
import type { Geometry } from './geometry.js';

export type BlockRange = readonly [number, number];

/** Bytes of blocks [start, end); the last may be short. */
export function rangeBytes({ sizeBytes, blockSize }: Geometry, start: number, end: number): number {
  return Math.min(end * blockSize, sizeBytes) - start * blockSize;
}

export function rangesBytes(geometry: Geometry, ranges: readonly BlockRange[]): number {
  return ranges.reduce((sum, [start, end]) => sum + rangeBytes(geometry, start, end), 0);
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

/** @param ranges ascending, apart. @returns what of [start, end) lies in them, ascending. */
export function intersectRanges(ranges: readonly BlockRange[], start: number, end: number): BlockRange[] {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle]?.[1] ?? 0) > start) high = middle;
    else low = middle + 1;
  }
  const parts: BlockRange[] = [];
  for (; low < ranges.length; low += 1) {
    const [from, to] = ranges[low] ?? [end, end];
    const part: BlockRange = [Math.max(start, from), Math.min(end, to)];
    if (part[0] >= part[1]) break;
    parts.push(part);
  }
  return parts;
}

/**
 * @param ranges ascending, apart.
 * @param taken ascending, apart.
 * @returns what of the ranges is not taken, ascending, apart.
 */
export function withoutRanges(ranges: readonly BlockRange[], taken: readonly BlockRange[]): BlockRange[] {
  return ranges.flatMap(([start, end]) => {
    const left: BlockRange[] = [];
    let from = start;
    for (const [takenStart, takenEnd] of intersectRanges(taken, start, end)) {
      if (from < takenStart) left.push([from, takenStart]);
      from = takenEnd;
    }
    if (from < end) left.push([from, end]);
    return left;
  });
}
