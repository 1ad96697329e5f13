import test from 'ava';
import fc from 'fast-check';
import type { BlockRange } from '../../../src/domain/blocks/block-ranges.js';
import {
  boundedRanges,
  cloneIdOf,
  cloneName,
  expectedStall,
  type RecordedClone,
  sortClones,
  stallWarning,
} from '../../../src/domain/device/clones.js';

const ID = '0123456789abcdef0123456789abcdef';

test('a clone is hidden, names its image, and has a name that a file system takes', (t) => {
  t.is(cloneName('disk.img', ID), `.disk.img.stillpoint-${ID}`);
  for (const name of ['x', 'a b\n', 'ä'.repeat(127), '💾'.repeat(63), 'x'.repeat(255)]) {
    const clone = cloneName(name, ID);
    t.is(cloneIdOf(clone), ID);
    t.true(Buffer.byteLength(clone) <= 255, clone);
    t.true(name.startsWith(clone.slice(1, -`.stillpoint-${ID}`.length)));
  }
  const others = ['disk.img', `.stillpoint-${ID}`, `disk.img.stillpoint-${ID}`, `.x.stillpoint-${ID}0`];
  for (const name of [...others, `.x.stillpoint-${ID.toUpperCase()}`, `.x.stillpoint-${ID.slice(1)}`])
    t.is(cloneIdOf(name), null, name);
});

const clone = (pointId: string, state: RecordedClone['state'], madeAtMs: number) => ({
  pointId,
  state,
  madeAtMs,
});

test('the clone of the last point is compared with, and all others go', (t) => {
  const [old, lost, stray] = [clone('a', 'kept', 1), clone('b', 'held', 2), clone('c', 'held', 3)];
  const all = [old, lost, stray];
  t.deepEqual(sortClones(all, 'a'), { base: old, useless: [lost, stray] });
  // The answer to its commit was lost.
  t.deepEqual(sortClones(all, 'b'), { base: lost, useless: [old, stray] });
  // Another store's point, or nobody knows: the last committed one may be wanted later, and one more.
  for (const other of ['x', null]) t.deepEqual(sortClones(all, other), { base: null, useless: [lost] });
  t.deepEqual(sortClones([], 'a'), { base: null, useless: [] });
  // Its process died between the new record and the old clone.
  const twice = [old, clone('d', 'kept', 4)] as const;
  t.deepEqual(sortClones(twice, 'd'), { base: twice[1], useless: [old] });
  t.deepEqual(sortClones(twice, null), { base: null, useless: [old] });
});

test('a long wait is said, and one that is too long is not imposed', (t) => {
  t.is(expectedStall('xfs', 5_000).is, 'short');
  t.like(expectedStall('xfs', 50_000), { ms: 900, is: 'noted' });
  t.like(expectedStall('btrfs', 50_000), { ms: 375, is: 'noted' });
  t.is(expectedStall('xfs', 120_000).is, 'too-long');
  t.is(expectedStall('btrfs', 120_000).is, 'noted');
  const made = { fileSystem: 'xfs', extentCount: 50_000, cloneMs: 812.4 } as const;
  t.regex(stallWarning(made) ?? '', /waited 812 ms while it was cloned, because it has 50000 extents/);
  // Another time it was the disk.
  t.is(stallWarning({ ...made, extentCount: 85 }), null);
  t.regex(
    stallWarning({ ...made, extentCount: 85, cloneMs: 2_100 }) ?? '',
    /because its file system was busy$/,
  );
  t.is(expectedStall('xfs', 600_000).is, 'impossible');
});

test('what is recorded of changes covers all of them, and is bounded', (t) => {
  const range = fc
    .tuple(fc.nat(2 ** 40), fc.nat(2 ** 22))
    .map(([at, length]): BlockRange => [at, at + length]);
  fc.assert(
    fc.property(fc.array(range, { maxLength: 50 }), (ranges) => {
      const bounded = boundedRanges(ranges);
      for (const [start, end] of ranges)
        if (!bounded.some(([from, to]) => from <= start && end <= to)) return false;
      return bounded.every(([start], index) => index === 0 || (bounded[index - 1]?.[1] ?? 0) < start);
    }),
  );
  const many = Array.from(
    { length: 20_000 },
    (_, index): BlockRange => [index * 131_072, index * 131_072 + 4096],
  );
  const bounded = boundedRanges(many);
  t.true(bounded.length <= 4096);
  for (const [start, end] of many) if (!bounded.some(([from, to]) => from <= start && end <= to)) t.fail();
});
