/**
 * What a point leaves out on purpose. It reads as zeros, but says nothing of the device: a restore leaves it
 * alone, a comparison does not look at it.
 */
import { type BlockRange, mergeRanges } from '../blocks/block-ranges.js';
import type { Geometry } from '../blocks/geometry.js';

export interface ExcludedRange {
  /** Of whole blocks of the point. */
  readonly byteOffset: number;
  readonly byteLength: number;
  /** For people, as "partition 2, swap". */
  readonly reason: string;
}

interface Excluding {
  readonly geometry: Geometry;
  readonly excluded?: readonly ExcludedRange[];
}

/** Ascending, apart. */
export function excludedBlocks({ geometry, excluded = [] }: Excluding): BlockRange[] {
  return toBlocks(excluded, geometry.blockSize);
}

export function toBlocks(
  excluded: readonly Pick<ExcludedRange, 'byteOffset' | 'byteLength'>[],
  blockSize: number,
): BlockRange[] {
  const ranges = excluded.map(({ byteOffset, byteLength }): BlockRange => {
    return [Math.floor(byteOffset / blockSize), Math.ceil((byteOffset + byteLength) / blockSize)];
  });
  return mergeRanges(
    ranges.sort(([a], [b]) => a - b),
    [],
  );
}

export function excludedBytes(excluded: readonly ExcludedRange[]): number {
  return excluded.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** Of the ranges with the same reason, once: "partition 2, swap; partition 5". */
export function excludedReasons(excluded: readonly ExcludedRange[]): string {
  return [...new Set(excluded.map(({ reason }) => reason))].join('; ');
}
