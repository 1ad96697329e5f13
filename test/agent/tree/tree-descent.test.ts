/**
 * The descent against counting by hand: random pairs of trees, all directions, ranges;
 * and what crosses, in bytes.
 */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { descend } from '../../../src/agent/tree/tree-descent.js';
import { DIGEST_BYTES, GiB, TiB, TREE_FANOUT } from '../../../src/domain/base/limits.js';
import type { BlockRange } from '../../../src/domain/blocks/block-ranges.js';
import { BlockSet } from '../../../src/domain/blocks/block-set.js';
import { coverageOf } from '../../../src/domain/blocks/coverage.js';
import { blockCount, type Geometry, levelCount, treeHeight } from '../../../src/domain/blocks/geometry.js';
import { DIRECTIONS, type Direction } from '../../../src/domain/session/compare-direction.js';
import type { TreeFile } from '../../../src/native/index.js';
import { compareChildren, decodeQuestion, encodeAnswer } from '../../../src/protocol/codecs/compare-codec.js';
import type { NodeSource } from '../../../src/protocol/port/point.js';
import { makePoint } from '../../helpers/bytes/points.js';
import { leafOf, makeTree } from '../../helpers/bytes/trees.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { LONG, seededRandom } from '../../helpers/seed.js';

const POINT_ID = 'ab'.repeat(16);
const BLOCK = 65_536;

/** Block -> generation of its content; no entry: zero. */
type Content = ReadonlyMap<number, number>;

interface Counters {
  messages: number;
  bytes: number;
  rounds: Set<number>;
}

/** A receiver of one tree, read from its file; counts what a request and its answer have in their bodies. */
function receiverOf(tree: TreeFile, counters: Counters): NodeSource {
  const geometry = { sizeBytes: tree.sizeBytes, blockSize: tree.blockSize };
  const content = (level: number, index: number): Buffer => {
    const count = Math.min(TREE_FANOUT, levelCount(geometry, level - 1) - index * TREE_FANOUT);
    const digests = tree.digests(level - 1, index * TREE_FANOUT, count);
    let end = digests.length;
    while (end > 0 && digests.subarray(end - DIGEST_BYTES, end).every((byte) => byte === 0))
      end -= DIGEST_BYTES;
    return digests.subarray(0, end);
  };
  const count = (requestBytes: number, answer: Buffer, levels: readonly number[]): Buffer => {
    counters.messages += 1;
    counters.bytes += requestBytes + answer.length;
    for (const level of levels) counters.rounds.add(level);
    return answer;
  };
  return {
    nodes: async (_, wanted) => {
      const parts = wanted.flatMap(({ level, index }) => {
        const bytes = content(level, index);
        const length = Buffer.alloc(4);
        length.writeUInt32LE(bytes.length);
        return [length, bytes];
      });
      const requestBytes = Buffer.byteLength(JSON.stringify({ pointId: POINT_ID, requests: wanted }));
      return count(
        requestBytes,
        Buffer.concat(parts),
        wanted.map(({ level }) => level),
      );
    },
    compareNodes: async (question) => {
      const { nodes } = decodeQuestion(question);
      const answer = nodes.map((node) => compareChildren(node.content, content(node.level, node.index)));
      return count(
        question.length,
        encodeAnswer(answer),
        nodes.map(({ level }) => level),
      );
    },
  };
}

async function treeOf(directory: string, name: string, geometry: Geometry, content: Content, id = POINT_ID) {
  const leaves = new Map(
    [...content].map(([block, generation]) => [block, leafOf(`${block} ${generation}`)]),
  );
  return makeTree(join(directory, name), geometry, leaves, id);
}

interface Descended {
  readonly found: BlockSet;
  readonly counters: Counters;
}

async function run(
  t: ExecutionContext,
  geometry: Geometry,
  own: Content,
  theirs: Content,
  direction: Direction,
  ranges?: readonly BlockRange[],
): Promise<Descended> {
  const directory = await temporaryDirectory(t, 'descent');
  const mine = await treeOf(directory, 'own', geometry, own);
  const remote = await treeOf(directory, 'theirs', geometry, theirs);
  const counters: Counters = { messages: 0, bytes: 0, rounds: new Set() };
  const found = new BlockSet();
  const point = makePoint({
    ...{ id: POINT_ID, geometry, root: remote.generation.root, top: remote.top.toString('hex') },
  });
  try {
    await descend({
      ...{ receiver: receiverOf(remote, counters), point, own: mine, direction },
      covers:
        ranges &&
        ((level, index) => {
          const width = TREE_FANOUT ** level;
          return coverageOf(ranges, [index * width, Math.min((index + 1) * width, mine.blockCount)]);
        }),
      onLeaves: (blockIndex, count, leaves) => {
        for (let i = 0; i < count; i += 1) {
          t.false(found.has(blockIndex + i), 'a block is named once');
          found.add(blockIndex + i);
          if (leaves === null) continue;
          const leaf = leaves.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
          t.deepEqual(leaf, remote.leaves(blockIndex + i, 1));
        }
      },
    });
  } finally {
    await mine.close();
    await remote.close();
  }
  return { found, counters };
}

function differing(own: Content, theirs: Content): number[] {
  const blocks = new Set([...own.keys(), ...theirs.keys()]);
  return [...blocks].filter((block) => own.get(block) !== theirs.get(block)).sort((a, b) => a - b);
}

const listed = (set: BlockSet): number[] =>
  [...set.ranges()].flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i));

/** Blocks in use, in runs, and how the other side differs from them. */
const pair = fc
  .record({
    count: fc.oneof(
      fc.integer({ min: 0, max: 70 }),
      fc.integer({ min: 4000, max: 4200 }),
      fc.constant(300_000),
    ),
    runs: fc.array(fc.record({ at: fc.nat(), length: fc.integer({ min: 1, max: 200 }) }), { maxLength: 6 }),
    changes: fc.array(
      fc.record({
        at: fc.nat(),
        length: fc.integer({ min: 1, max: 90 }),
        generation: fc.integer({ min: 0, max: 2 }),
      }),
      { maxLength: 8 },
    ),
  })
  .map(({ count, runs, changes }) => {
    const own = new Map<number, number>();
    const each = (at: number, length: number, use: (block: number) => void) => {
      for (let i = 0; count > 0 && i < length; i += 1) if ((at % count) + i < count) use((at % count) + i);
    };
    for (const { at, length } of runs) each(at, length, (block) => own.set(block, 1));
    const theirs = new Map(own);
    for (const { at, length, generation } of changes)
      each(at, length, (block) => (generation === 0 ? theirs.delete(block) : theirs.set(block, generation)));
    return { count, own, theirs };
  });

const RUNS = LONG ? 500 : 40;

for (const direction of DIRECTIONS) {
  test(`two random trees: exactly the blocks that differ are found (${direction})`, async (t) => {
    await fc.assert(
      fc.asyncProperty(
        pair,
        fc.integer({ min: 1, max: BLOCK }),
        async ({ count, own, theirs }, lastBytes) => {
          const geometry = { sizeBytes: count === 0 ? 0 : (count - 1) * BLOCK + lastBytes, blockSize: BLOCK };
          const { found } = await run(t, geometry, own, theirs, direction);
          t.deepEqual(listed(found), differing(own, theirs));
          t.is(found.count, differing(own, theirs).length);
        },
      ),
      { seed: seededRandom(t).seed, numRuns: RUNS },
    );
  });

  test(`of ranges alone, exactly what differs in them is found (${direction})`, async (t) => {
    const cuts = fc.uniqueArray(fc.nat({ max: 4199 }), { minLength: 2, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(pair, cuts, async ({ count, own, theirs }, bounds) => {
        const geometry = { sizeBytes: count * BLOCK, blockSize: BLOCK };
        const sorted = bounds.sort((a, b) => a - b).slice(0, bounds.length & ~1);
        const ranges: BlockRange[] = [];
        for (let i = 0; i < sorted.length; i += 2) ranges.push([sorted[i] ?? 0, sorted[i + 1] ?? 0]);
        const isIn = (block: number) => ranges.some(([start, end]) => block >= start && block < end);
        // As the device is digested: nothing outside of the ranges.
        const seen = new Map([...own].filter(([block]) => isIn(block)));
        const { found } = await run(t, geometry, seen, theirs, direction, ranges);
        t.deepEqual(listed(found), differing(own, theirs).filter(isIn));
      }),
      { seed: seededRandom(t).seed, numRuns: RUNS },
    );
  });
}

const scattered = (count: number, total: number, generation: number): Content =>
  new Map(Array.from({ length: count }, (_, i) => [Math.floor(((i + 0.37) * total) / count), generation]));

test('1 TiB with 100 scattered differences: at most 1 MiB, one round trip a level', async (t) => {
  const geometry = { sizeBytes: TiB, blockSize: BLOCK };
  const total = blockCount(geometry);
  // In use all over, so that the nodes on the way are full.
  const own = new Map<number, number>();
  for (const block of scattered(100, total, 1).keys()) {
    for (let i = 0; i < TREE_FANOUT; i += 1) own.set(block - (block % TREE_FANOUT) + i, 1);
  }
  for (let node = 0; node < total; node += TREE_FANOUT ** 2) own.set(node, 1);
  const theirs = new Map([...own, ...scattered(100, total, 2)]);
  for (const direction of DIRECTIONS) {
    const { found, counters } = await run(t, geometry, own, theirs, direction);
    t.is(found.count, 100);
    t.log(`${direction}: ${counters.bytes} bytes in ${counters.messages} messages`);
    t.true(counters.bytes <= 1024 * 1024, `${direction}: ${counters.bytes} bytes`);
    t.is(counters.rounds.size, treeHeight(geometry), direction);
    // Of a level both questions may go out, together.
    t.true(counters.messages <= (direction === 'cheaper' ? 2 : 1) * treeHeight(geometry), direction);
  }
});

test('an identical device costs nothing', async (t) => {
  const content = scattered(100, blockCount({ sizeBytes: TiB, blockSize: BLOCK }), 1);
  const { counters } = await run(t, { sizeBytes: TiB, blockSize: BLOCK }, content, content, 'cheaper');
  t.is(counters.bytes, 0);
});

test('a wholly different device costs at most 1.1 of the flat list of its digests', async (t) => {
  const geometry = { sizeBytes: 4 * GiB, blockSize: BLOCK };
  const all = (generation: number): Content =>
    new Map(Array.from({ length: blockCount(geometry) }, (_, block) => [block, generation]));
  for (const direction of DIRECTIONS) {
    const { found, counters } = await run(t, geometry, all(1), all(2), direction);
    t.is(found.count, blockCount(geometry));
    const flatBytes = blockCount(geometry) * DIGEST_BYTES;
    t.log(`${direction}: ${(counters.bytes / flatBytes).toFixed(3)} of the flat list`);
    t.true(counters.bytes <= 1.1 * flatBytes, `${direction}: ${counters.bytes / flatBytes}`);
  }
});

test('an empty device against a full point is told in a fraction of the flat list: the shorter side is sent', async (t) => {
  const geometry = { sizeBytes: 4 * GiB, blockSize: BLOCK };
  const full: Content = new Map(Array.from({ length: blockCount(geometry) }, (_, block) => [block, 1]));
  const { found, counters } = await run(t, geometry, new Map(), full, 'cheaper');
  t.is(found.count, blockCount(geometry));
  t.true(counters.bytes < (blockCount(geometry) * DIGEST_BYTES) / 50, `${counters.bytes} bytes`);
});
