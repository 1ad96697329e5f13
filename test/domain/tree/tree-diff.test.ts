import test from 'ava';
import fc from 'fast-check';
import { KiB, TREE_FANOUT } from '../../../src/domain/base/limits.js';
import { blockCount, blockLength, type Geometry, treeHeight } from '../../../src/domain/blocks/geometry.js';
import type { ReadNodes, Tree } from '../../../src/domain/tree/digest-tree.js';
import { type DiffRange, treeDiff } from '../../../src/domain/tree/tree-diff.js';
import { hash, hex, type Leaves, naiveTree } from '../../helpers/bytes/naive-tree.js';

const BLOCK = 4 * KiB;

/** A device: what each block that is not zero holds, as a number. */
interface Device {
  readonly geometry: Geometry;
  readonly contents: ReadonlyMap<number, number>;
}

/** As a digest of bytes: the same content in a block of another length gives another one. */
function leavesOf({ geometry, contents }: Device): Leaves {
  return new Map(
    [...contents].map(([block, content]) => [
      block,
      hash(Buffer.from(`${content} in ${blockLength(geometry, block)} bytes`)),
    ]),
  );
}

class ReadTree {
  readonly tree: Tree;
  readonly nodes: Map<string, Uint8Array>;
  readonly asked: string[] = [];

  constructor(device: Device) {
    const { top, nodes } = naiveTree(device.geometry, leavesOf(device));
    this.tree = { geometry: device.geometry, top };
    this.nodes = nodes;
  }

  readonly read: ReadNodes = async (digests) => {
    this.asked.push(...digests.map(hex));
    return digests.map((digest) => this.nodes.get(hex(digest)) ?? null);
  };
}

async function diffOf(from: ReadTree, to: ReadTree): Promise<DiffRange[]> {
  const all: DiffRange[] = [];
  let doneBlock = 0;
  const steps = treeDiff({ from: from.tree, to: to.tree, readFrom: from.read, readTo: to.read });
  for await (const { ranges, blockIndex } of steps) {
    if (blockIndex < doneBlock) throw new Error('a step goes backwards');
    if (ranges.some(([, end]) => end > blockIndex)) throw new Error('a range goes beyond what is compared');
    doneBlock = blockIndex;
    all.push(...ranges);
  }
  return all;
}

/** What differs, knowing nothing of trees. */
function naiveDiff(from: Device, to: Device): DiffRange[] {
  const [before, after] = [leavesOf(from), leavesOf(to)];
  const text = (digest: Uint8Array | undefined) => (digest === undefined ? '-' : hex(digest));
  const blocks = [...new Set([...before.keys(), ...after.keys()])]
    .filter((block) => text(before.get(block)) !== text(after.get(block)))
    .sort((a, b) => a - b);
  const ranges: [number, number, number][] = [];
  for (const block of blocks) {
    if (ranges.at(-1)?.[1] !== block) ranges.push([block, block, 0]);
    const range = ranges.at(-1) as [number, number, number];
    range[1] = block + 1;
    if (!after.has(block) && block < blockCount(to.geometry)) range[2] += 1;
  }
  return ranges;
}

const counts = fc.oneof(
  fc.constantFrom(0, 1, 2, 63, 64, 65, 64 ** 2 - 1, 64 ** 2, 64 ** 2 + 1, 64 ** 3 - 1, 64 ** 3, 64 ** 3 + 1),
  fc.integer({ min: 0, max: 300 }),
  fc.integer({ min: 0, max: 64 ** 3 }),
);
const geometries = fc
  .tuple(counts, fc.integer({ min: 0, max: BLOCK - 1 }))
  .map(([count, short]) => ({ sizeBytes: Math.max(0, count * BLOCK - short), blockSize: BLOCK }));

/** Changes as runs, so that ranges join over the borders of nodes: start, length, content or zero. */
const runs = (geometry: Geometry) => {
  const last = Math.max(0, blockCount(geometry) - 1);
  const starts = fc.oneof(
    fc.integer({ min: 0, max: last }),
    fc.integer({ min: 0, max: Math.min(150, last) }),
    fc.integer({ min: Math.max(0, last - 100), max: last }),
  );
  const content = fc.option(fc.integer({ min: 1, max: 3 }), { freq: 3 });
  return fc.array(fc.tuple(starts, fc.integer({ min: 1, max: 130 }), content), { maxLength: 12 });
};

function withRuns(
  base: Device,
  geometry: Geometry,
  changes: readonly (readonly [number, number, number | null])[],
): Device {
  const contents = new Map([...base.contents].filter(([block]) => block < blockCount(geometry)));
  for (const [start, length, content] of changes) {
    for (let block = start; block < Math.min(start + length, blockCount(geometry)); block += 1) {
      if (content === null) contents.delete(block);
      else contents.set(block, content);
    }
  }
  return { geometry, contents };
}

const EMPTY_DEVICE: Device = { geometry: { sizeBytes: 0, blockSize: BLOCK }, contents: new Map() };
const devices = geometries.chain((geometry) =>
  runs(geometry).map((changes) => withRuns(EMPTY_DEVICE, geometry, changes)),
);
/** Two devices that have much in common, of the same size or not, or nothing at all. */
const pairs = fc.oneof(
  fc.tuple(devices, devices),
  devices.chain((from) =>
    fc
      .oneof(fc.constant(from.geometry), geometries)
      .chain((geometry) =>
        runs(geometry).map((changes) => [from, withRuns(from, geometry, changes)] as const),
      ),
  ),
);

/**
 * Nodes of either tree that the other has not at the same place; a lower tree's top stands under
 * the other's leftmost path.
 */
function differingNodes(from: ReadTree, to: ReadTree): { from: number; to: number } {
  const placed = ({ tree, nodes }: ReadTree) => {
    const places = new Map<string, string>();
    const visit = (digest: Uint8Array, level: number, index: number) => {
      if (level === 0 || digest.every((byte) => byte === 0)) return;
      places.set(`${level}/${index}`, hex(digest));
      const content = nodes.get(hex(digest)) ?? new Uint8Array(0);
      for (let i = 0; i * 32 < content.length; i += 1) {
        visit(content.subarray(i * 32, i * 32 + 32), level - 1, index * TREE_FANOUT + i);
      }
    };
    visit(tree.top, treeHeight(tree.geometry), 0);
    return places;
  };
  const [a, b] = [placed(from), placed(to)];
  const only = (some: Map<string, string>, others: Map<string, string>) =>
    [...some].filter(([place, digest]) => others.get(place) !== digest).length;
  return { from: only(a, b), to: only(b, a) };
}

test('exactly the blocks that differ are found, in both directions, and exactly the nodes that differ are read', async (t) => {
  await fc.assert(
    fc.asyncProperty(pairs, async ([one, two]) => {
      for (const [from, to] of [
        [one, two],
        [two, one],
      ] as const) {
        const [before, after] = [new ReadTree(from), new ReadTree(to)];
        t.deepEqual(await diffOf(before, after), naiveDiff(from, to));
        const nodes = differingNodes(before, after);
        t.deepEqual({ from: before.asked.length, to: after.asked.length }, nodes);
      }
    }),
    { numRuns: 300 },
  );
});

test('100 changed blocks of 16 TiB cost at most one node a level and tree for each, however full the device is', async (t) => {
  const geometry = { sizeBytes: 2 ** 44, blockSize: 64 * KiB };
  const step = Math.floor(2 ** 28 / 100);
  const full = Array.from({ length: 20_000 }, (_, i) => [i * 13_421, 1] as const);
  const changed = Array.from({ length: 100 }, (_, i) => i * step + 7);
  const from = { geometry, contents: new Map(full) };
  const to = { geometry, contents: new Map([...full, ...changed.map((block) => [block, 9] as const)]) };
  const [before, after] = [new ReadTree(from), new ReadTree(to)];
  t.deepEqual(
    await diffOf(before, after),
    changed.map((block): DiffRange => [block, block + 1, 0]),
  );
  const asked = before.asked.length + after.asked.length;
  t.log(`${asked} nodes read`);
  t.true(asked <= 2 * 100 * treeHeight(geometry));
  t.true(after.nodes.size > 10 * asked);
});

test('a device against itself reads nothing, and one that became zero is told as such', async (t) => {
  const geometry = { sizeBytes: 5000 * BLOCK - 100, blockSize: BLOCK };
  const device = withRuns(EMPTY_DEVICE, geometry, [[0, 5000, 1]]);
  const same = new ReadTree(device);
  t.deepEqual(await diffOf(same, new ReadTree(device)), []);
  t.deepEqual(same.asked, []);
  const zero = { geometry, contents: new Map() };
  t.deepEqual(await diffOf(new ReadTree(device), new ReadTree(zero)), [[0, 5000, 5000]]);
  t.deepEqual(await diffOf(new ReadTree(zero), new ReadTree(device)), [[0, 5000, 0]]);
  // Gone with the device's end is not zeroed.
  t.deepEqual(await diffOf(new ReadTree(device), new ReadTree(EMPTY_DEVICE)), [[0, 5000, 0]]);
});

test('a last block of another length differs, unless it is zero in both', async (t) => {
  const short = { sizeBytes: 3 * BLOCK - 512, blockSize: BLOCK };
  const long = { sizeBytes: 3 * BLOCK, blockSize: BLOCK };
  const at = (geometry: Geometry, block: number) =>
    new ReadTree({ geometry, contents: new Map([[block, 1]]) });
  t.deepEqual(await diffOf(at(short, 2), at(long, 2)), [[2, 3, 0]]);
  t.deepEqual(await diffOf(at(short, 1), at(long, 1)), []);
});

test('a node that is missing is an error, never taken for zeros', async (t) => {
  const geometry = { sizeBytes: 5000 * BLOCK, blockSize: BLOCK };
  const one = new ReadTree(withRuns(EMPTY_DEVICE, geometry, [[0, 5000, 1]]));
  const two = new ReadTree(withRuns(EMPTY_DEVICE, geometry, [[0, 4999, 1]]));
  two.nodes.clear();
  await t.throwsAsync(diffOf(one, two), { message: /missing/ });
});
