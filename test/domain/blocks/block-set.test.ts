/** Sets of blocks and coverage by ranges, against counting by hand. */
import test from 'ava';
import fc from 'fast-check';
import { type BlockRange, withoutRanges } from '../../../src/domain/blocks/block-ranges.js';
import { BlockSet } from '../../../src/domain/blocks/block-set.js';
import { coverageOf } from '../../../src/domain/blocks/coverage.js';
import { compareDirection } from '../../../src/domain/session/compare-direction.js';
import { seededRandom } from '../../helpers/seed.js';

/** Around the bounds of bytes and pages (32,768 blocks), and far out. */
const place = fc.oneof(
  fc.nat({ max: 40 }),
  fc.integer({ min: 32_750, max: 32_790 }),
  fc.integer({ min: 2 ** 40 - 20, max: 2 ** 40 + 20 }),
);

/** Ascending, apart, neighbours in one. */
function rangesOf(blocks: ReadonlySet<number>): BlockRange[] {
  const ranges: [number, number][] = [];
  for (const block of [...blocks].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last?.[1] === block) last[1] = block + 1;
    else ranges.push([block, block + 1]);
  }
  return ranges;
}

test('a block set is a set: in any order, twice, over the bounds of its pages', (t) => {
  const adds = fc.array(fc.tuple(place, fc.integer({ min: 0, max: 30 })), { maxLength: 12 });
  fc.assert(
    fc.property(adds, fc.array(place), (ranges, asked) => {
      const set = new BlockSet();
      const model = new Set<number>();
      for (const [start, length] of ranges) {
        if (length === 1) set.add(start);
        else set.addRange([start, start + length]);
        for (let i = 0; i < length; i += 1) model.add(start + i);
      }
      t.is(set.count, model.size);
      t.deepEqual([...set.ranges()], rangesOf(model));
      for (const block of [...asked, ...model]) t.is(set.has(block), model.has(block));
    }),
    { seed: seededRandom(t).seed },
  );
});

/** Ranges in [0, 60), from bits. */
const few = fc
  .array(fc.boolean(), { maxLength: 60 })
  .map((bits) => rangesOf(new Set(bits.flatMap((isIn, block) => (isIn ? [block] : [])))));

const isIn = (ranges: readonly BlockRange[], block: number) =>
  ranges.some(([start, end]) => block >= start && block < end);

test('coverage is what counting blocks says', (t) => {
  fc.assert(
    fc.property(few, fc.nat({ max: 60 }), fc.integer({ min: 1, max: 20 }), (ranges, start, length) => {
      const blocks = Array.from({ length }, (_, i) => start + i);
      const count = blocks.filter((block) => isIn(ranges, block)).length;
      const expected = count === 0 ? 'none' : count === length ? 'all' : 'part';
      t.is(coverageOf(ranges, [start, start + length]), expected);
    }),
    { seed: seededRandom(t).seed },
  );
});

test('ranges without others', (t) => {
  fc.assert(
    fc.property(few, few, (ranges, taken) => {
      const left = new Set<number>();
      for (let block = 0; block < 60; block += 1)
        if (isIn(ranges, block) && !isIn(taken, block)) left.add(block);
      t.deepEqual(withoutRanges(ranges, taken), rangesOf(left));
    }),
    { seed: seededRandom(t).seed },
  );
});

test('digests go the cheaper way: short contents are sent, full ones fetched, unless it is said', (t) => {
  const whole = 64 * 32;
  t.is(compareDirection('cheaper', whole, 64), 'fetch');
  t.is(compareDirection('cheaper', 32, 64), 'send');
  t.is(compareDirection('cheaper', 0, 64), 'send');
  t.is(compareDirection('cheaper', whole, 1), 'fetch');
  t.is(compareDirection('send', whole, 64), 'send');
  t.is(compareDirection('fetch', 0, 64), 'fetch');
});
