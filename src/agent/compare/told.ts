/** What a comparison found, as ranges of bytes. */
import { type BlockRange, rangeBytes } from '../../domain/blocks/block-ranges.js';
import type { BlockSet } from '../../domain/blocks/block-set.js';
import type { ComparedRange } from '../../domain/order/comparison.js';
import type { Point } from '../../domain/point/point.js';
import type { DamagedRange } from './check-stored.js';
import type { CompareResult } from './compare.js';

/** Null: it was not compared. */
export type Told = Omit<CompareResult, 'differing'> & { readonly differing: BlockSet | null };

export function* rangesOf(
  point: Point,
  { differing, damaged, unreadableBlocks, deviceSizeBytes }: Told,
): Generator<ComparedRange> {
  const { blockSize } = point.geometry;
  const geometry = { sizeBytes: Math.max(point.geometry.sizeBytes, deviceSizeBytes), blockSize };
  const unreadable = new Set(unreadableBlocks);
  const told = ([start, end]: BlockRange, what: ComparedRange['what'], reason?: string): ComparedRange => ({
    ...{ byteOffset: start * blockSize, byteLength: rangeBytes(geometry, start, end), what },
    ...(reason === undefined ? {} : { reason }),
  });
  for (const [start, end] of differing?.ranges() ?? []) {
    if (unreadable.size === 0) yield told([start, end], 'differs');
    else
      for (let block = start; block < end; block += 1)
        yield told([block, block + 1], unreadable.has(block) ? 'unreadable' : 'differs');
  }
  for (const { blocks, reason } of damaged) yield told(blocks, 'damaged', reason);
}

export function countBlocks(damaged: readonly DamagedRange[]): number {
  return damaged.reduce((sum, { blocks: [start, end] }) => sum + end - start, 0);
}
