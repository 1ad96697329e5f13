import test from 'ava';
import fc from 'fast-check';
import { type BlockRange, intersectRanges, rangeBytes } from '../../../src/domain/blocks/block-ranges.js';

test('an intersection has exactly the blocks that lie in both', (t) => {
  const cuts = fc.uniqueArray(fc.nat({ max: 60 }), { maxLength: 20 }).map((all) => all.sort((a, b) => a - b));
  fc.assert(
    fc.property(cuts, fc.nat({ max: 60 }), fc.nat({ max: 60 }), (edges, one, other) => {
      const ranges: BlockRange[] = [];
      for (let i = 0; i + 1 < edges.length; i += 2) ranges.push([edges[i] ?? 0, edges[i + 1] ?? 0]);
      const [start, end] = [Math.min(one, other), Math.max(one, other)];
      const blocksOf = (some: readonly BlockRange[]) =>
        some.flatMap(([from, to]) => Array.from({ length: to - from }, (_, i) => from + i));
      const parts = intersectRanges(ranges, start, end);
      t.true(parts.every(([from, to]) => from < to));
      t.deepEqual(
        blocksOf(parts),
        blocksOf(ranges).filter((block) => block >= start && block < end),
      );
    }),
  );
});

test('bytes of blocks end with the device', (t) => {
  const geometry = { sizeBytes: 3 * 4096 - 512, blockSize: 4096 };
  t.is(rangeBytes(geometry, 0, 1), 4096);
  t.is(rangeBytes(geometry, 1, 3), 2 * 4096 - 512);
});
