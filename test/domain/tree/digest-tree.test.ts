import test from 'ava';
import fc from 'fast-check';
import { DIGEST_BYTES, KiB, TREE_FANOUT } from '../../../src/domain/base/limits.js';
import { blockCount, blockLength, type Geometry, treeHeight } from '../../../src/domain/blocks/geometry.js';
import {
  isNull,
  leafNodes,
  leafParts,
  type ReadNodes,
  type Tree,
  updateTree,
} from '../../../src/domain/tree/digest-tree.js';
import { hash, hex, type Leaves, leafOf, naiveTree } from '../../helpers/bytes/naive-tree.js';

interface Step {
  readonly geometry: Geometry;
  /** Present in the overlay; null is a block that became zero. */
  readonly changes: Map<number, Uint8Array | null>;
}

const BLOCK = 4 * KiB;

function overlayOf(changes: Step['changes']) {
  const nodes = [...new Set([...changes.keys()].map((block) => Math.floor(block / TREE_FANOUT)))].sort(
    (a, b) => a - b,
  );
  return {
    nextNode: (from: number) => nodes.find((node) => node >= from) ?? -1,
    node(index: number) {
      const bytes = new Uint8Array(8 + TREE_FANOUT * DIGEST_BYTES);
      for (let i = 0; i < TREE_FANOUT; i += 1) {
        const leaf = changes.get(index * TREE_FANOUT + i);
        if (leaf === undefined) continue;
        bytes[i >> 3] = (bytes[i >> 3] ?? 0) | (1 << (i & 7));
        if (leaf !== null) bytes.set(leaf, 8 + i * DIGEST_BYTES);
      }
      return bytes;
    },
  };
}

/** What the leaves of the next point are: docs/format.md section 1, said with a map. */
function nextLeaves(leaves: Leaves, before: Geometry | null, { geometry, changes }: Step): Leaves {
  const next: Leaves = new Map();
  for (const [block, digest] of leaves) {
    if (block >= blockCount(geometry)) continue;
    if (before !== null && blockLength(before, block) !== blockLength(geometry, block)) continue;
    next.set(block, digest);
  }
  for (const [block, digest] of changes) {
    if (digest === null) next.delete(block);
    else next.set(block, digest);
  }
  return next;
}

class NodePool {
  readonly nodes = new Map<string, Uint8Array>();
  puts = 0;
  readonly read: ReadNodes = async (digests) => digests.map((digest) => this.nodes.get(hex(digest)) ?? null);
  readonly put = (digest: Uint8Array, content: Uint8Array) => {
    this.puts += 1;
    this.nodes.set(hex(digest), content);
  };
}

async function apply(pool: NodePool, base: Tree | null, step: Step, newLeaves: number[] = []): Promise<Tree> {
  const top = await updateTree({
    base,
    geometry: step.geometry,
    changes: overlayOf(step.changes),
    readNodes: pool.read,
    hashNode: hash,
    putNode: pool.put,
    onNewLeaf: (blockIndex) => newLeaves.push(blockIndex),
  });
  return { geometry: step.geometry, top };
}

const counts = fc.oneof(
  fc.constantFrom(0, 1, 2, 63, 64, 65, 64 ** 2 - 1, 64 ** 2, 64 ** 2 + 1, 64 ** 3 - 1, 64 ** 3, 64 ** 3 + 1),
  fc.integer({ min: 0, max: 300 }),
  fc.integer({ min: 0, max: 64 ** 4 + 100 }),
);
const geometries = fc
  .tuple(counts, fc.integer({ min: 0, max: BLOCK - 1 }))
  .map(([count, short]) => ({ sizeBytes: Math.max(0, count * BLOCK - short), blockSize: BLOCK }));
const steps: fc.Arbitrary<Step> = geometries.chain((geometry) => {
  const count = blockCount(geometry);
  const blocks = fc.oneof(
    fc.integer({ min: 0, max: Math.max(0, count - 1) }),
    fc.integer({ min: 0, max: Math.min(150, Math.max(0, count - 1)) }),
    fc.integer({ min: Math.max(0, count - 100), max: Math.max(0, count - 1) }),
  );
  const leaf = fc.option(fc.integer({ min: 0, max: 5 }).map(leafOf), { freq: 4 });
  return fc.array(fc.tuple(blocks, leaf), { maxLength: count === 0 ? 0 : 60 }).map((entries) => ({
    geometry,
    changes: new Map(entries),
  }));
});

test('a chain of updates gives the tree that a full rebuild gives', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 6 }), async (chain) => {
      const pool = new NodePool();
      let leaves: Leaves = new Map();
      let tree: Tree | null = null;
      for (const step of chain) {
        leaves = nextLeaves(leaves, tree === null ? null : tree.geometry, step);
        tree = await apply(pool, tree, step);
        const naive = naiveTree(step.geometry, leaves);
        t.is(hex(tree.top), hex(naive.top));
        for (const [digest, content] of naive.nodes) t.deepEqual(pool.nodes.get(digest), content);
      }
    }),
    { numRuns: 300 },
  );
});

test('leafNodes walks exactly the leaves that are there, and against another tree exactly the nodes that differ', async (t) => {
  await fc.assert(
    fc.asyncProperty(steps, steps, async (first, second) => {
      const pool = new NodePool();
      const a = await apply(pool, null, first);
      const b = await apply(pool, a, second);
      const leavesOfA = nextLeaves(new Map(), null, first);
      const leavesOfB = nextLeaves(leavesOfA, first.geometry, second);
      const seen: Leaves = new Map();
      let last = -1;
      for await (const { blockIndex, content } of leafNodes(b, null, pool.read)) {
        t.true(blockIndex > last);
        last = blockIndex;
        for (let i = 0; i * DIGEST_BYTES < content.length; i += 1) {
          const digest = content.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
          if (!isNull(digest)) seen.set(blockIndex + i, digest);
        }
      }
      t.deepEqual(
        [...seen].map(([block, digest]) => [block, hex(digest)]),
        [...leavesOfB].sort(([x], [y]) => x - y).map(([block, digest]) => [block, hex(digest)]),
      );

      const nodeOf = (leaves: Leaves, node: number) =>
        Array.from({ length: TREE_FANOUT }, (_, i) => leaves.get(node * TREE_FANOUT + i))
          .map((digest) => (digest === undefined ? '-' : hex(digest)))
          .join();
      const nodes = new Set([...leavesOfB.keys()].map((block) => Math.floor(block / TREE_FANOUT)));
      const differing = [...nodes].filter((node) => nodeOf(leavesOfA, node) !== nodeOf(leavesOfB, node));
      const walked: number[] = [];
      for await (const { blockIndex } of leafNodes(b, a, pool.read)) walked.push(blockIndex / TREE_FANOUT);
      t.deepEqual(
        walked,
        differing.sort((x, y) => x - y),
      );
    }),
    { numRuns: 300 },
  );
});

test('leafParts tells lost subtrees in their place, and reads no node outside of what is wanted', async (t) => {
  const windows = fc.tuple(
    fc.double({ min: 0, max: 1, noNaN: true }),
    fc.double({ min: 0, max: 1, noNaN: true }),
  );
  await fc.assert(
    fc.asyncProperty(steps, fc.nat({ max: 7 }), windows, async ({ geometry, changes }, losing, window) => {
      const leaves = nextLeaves(new Map(), null, { geometry, changes });
      const { top, nodes } = naiveTree(geometry, leaves);
      const count = blockCount(geometry);
      const [from = 0, to = 0] = window.map((share) => Math.floor(share * count)).sort((a, b) => a - b);
      const isWanted = (start: number, end: number) => start < to && end > from;
      const isLost = (digest: Uint8Array) => losing > 0 && (digest[0] ?? 0) % 8 < losing;
      const asked: string[] = [];
      const read: ReadNodes = async (digests) => {
        asked.push(...digests.map(hex));
        return digests.map((digest) => (isLost(digest) ? null : (nodes.get(hex(digest)) ?? null)));
      };
      const expected: string[] = [];
      const reads: string[] = [];
      const visit = (digest: Uint8Array, level: number, index: number): void => {
        const [start, end] = [index * 64 ** level, Math.min((index + 1) * 64 ** level, count)];
        if (isNull(digest) || (level < treeHeight(geometry) && !isWanted(start, end))) return;
        reads.push(hex(digest));
        const content = nodes.get(hex(digest)) ?? new Uint8Array(0);
        if (isLost(digest)) expected.push(`lost ${start} ${end} ${hex(digest)}`);
        else if (level === 1) expected.push(`leaves ${start} ${hex(content)}`);
        else {
          for (let i = 0; i * DIGEST_BYTES < content.length; i += 1) {
            visit(
              content.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES),
              level - 1,
              index * TREE_FANOUT + i,
            );
          }
        }
      };
      visit(top, treeHeight(geometry), 0);
      const told: string[] = [];
      for await (const part of leafParts({ geometry, top }, null, read, isWanted)) {
        told.push(
          'content' in part
            ? `leaves ${part.blockIndex} ${hex(part.content)}`
            : `lost ${part.start} ${part.end} ${hex(part.digest)}`,
        );
      }
      t.deepEqual(told, expected);
      t.deepEqual(asked.sort(), reads.sort());
    }),
    { numRuns: 300 },
  );
});

test('one changed block of a 16 TiB device costs one node a level', async (t) => {
  const geometry = { sizeBytes: 2 ** 44, blockSize: 64 * KiB };
  const pool = new NodePool();
  const base = await apply(pool, null, {
    geometry,
    changes: new Map([
      [0, leafOf(1)],
      [2 ** 28 - 1, leafOf(2)],
    ]),
  });
  pool.puts = 0;
  const newLeaves: number[] = [];
  await apply(pool, base, { geometry, changes: new Map([[123_456_789, leafOf(3)]]) }, newLeaves);
  t.is(pool.puts, treeHeight(geometry));
  t.deepEqual(newLeaves, [123_456_789]);
});

test('no change, and growth by zeros at the same height, put no node', async (t) => {
  const pool = new NodePool();
  const geometry = { sizeBytes: 100 * BLOCK, blockSize: BLOCK };
  const base = await apply(pool, null, { geometry, changes: new Map([[99, leafOf(1)]]) });
  pool.puts = 0;
  t.is(hex((await apply(pool, base, { geometry, changes: new Map() })).top), hex(base.top));
  const grown = { sizeBytes: 4000 * BLOCK, blockSize: BLOCK };
  t.is(hex((await apply(pool, base, { geometry: grown, changes: new Map() })).top), hex(base.top));
  t.is(pool.puts, 0);
});

test('onNewLeaf names leaves that are put over a base, and neither zeros nor equal ones', async (t) => {
  const pool = new NodePool();
  const geometry = { sizeBytes: 10 * BLOCK, blockSize: BLOCK };
  const base = await apply(pool, null, {
    geometry,
    changes: new Map([
      [1, leafOf(1)],
      [2, leafOf(2)],
    ]),
  });
  const named: number[] = [];
  await apply(
    pool,
    base,
    {
      geometry,
      changes: new Map<number, Uint8Array | null>([
        [1, leafOf(1)],
        [2, leafOf(9)],
        [3, null],
        [4, leafOf(1)],
      ]),
    },
    named,
  );
  t.deepEqual(named, [2, 4]);
});

test('a base whose node is missing is refused, not taken for zeros', async (t) => {
  const pool = new NodePool();
  const geometry = { sizeBytes: 100 * BLOCK, blockSize: BLOCK };
  const base = await apply(pool, null, { geometry, changes: new Map([[70, leafOf(1)]]) });
  pool.nodes.clear();
  await t.throwsAsync(apply(pool, base, { geometry, changes: new Map([[71, leafOf(2)]]) }), {
    message: /missing/,
  });
});
