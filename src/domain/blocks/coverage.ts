/** How much of a stretch of blocks is in given ranges. Pure. */
import type { BlockRange } from './block-ranges.js';

export type Coverage = 'all' | 'part' | 'none';

/** @param ranges ascending, apart, neighbours in one */
export function coverageOf(ranges: readonly BlockRange[], [start, end]: BlockRange): Coverage {
  let low = 0;
  let high = ranges.length;
  // The first range that ends after the start.
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle]?.[1] ?? 0) <= start) low = middle + 1;
    else high = middle;
  }
  const [from, to] = ranges[low] ?? [end, end];
  if (from >= end) return 'none';
  return from <= start && to >= end ? 'all' : 'part';
}
