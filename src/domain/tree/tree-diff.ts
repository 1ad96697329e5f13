/**
 * The differences between two digest trees of one block size. Nodes that both have at the same place are not
 * read, so the cost for two points of a device depends on the changes between them, not on their content.
 * Pure: the caller gives the function that reads nodes. Memory is O(levels), the children's contents of one
 * node of each level and tree.
 *
 * A block that a tree does not have counts as zero there. A last block of another length needs no special
 * check: its digest is that of its bytes, and bytes of another length give another digest. Trees of different
 * height line up at index 0.
 */

import { DIGEST_BYTES, TREE_FANOUT } from '../base/limits.js';
import { type BlockRange, intersectRanges } from '../blocks/block-ranges.js';
import { blockCount, treeHeight } from '../blocks/geometry.js';
import { child, equals, isNull, type ReadNodes, type Tree } from './digest-tree.js';

const EMPTY = new Uint8Array(0);
const NULL_DIGEST = new Uint8Array(DIGEST_BYTES);
/**
 * Stands for node 0 of a level above the top of the lower tree. Its length is no digest's: it equals none.
 */
const ABOVE_TOP = new Uint8Array(0);

/** Blocks [start, end) that differ, and how many of them had content and are zero in `to`. */
export type DiffRange = readonly [start: number, end: number, zeroBlocks: number];

export interface DiffStep {
  /** Ascending over all steps, never touching: a range is given when its end is known. */
  readonly ranges: readonly DiffRange[];
  /** All blocks before this one are compared. */
  readonly blockIndex: number;
}

export interface TreeDiffOptions {
  readonly from: Tree;
  readonly to: Tree;
  /** Both must answer every node that they are asked for. */
  readonly readFrom: ReadNodes;
  readonly readTo: ReadNodes;
  /** Blocks that are not compared, ascending, apart. Default: none. */
  readonly skipped?: readonly BlockRange[];
}

/** One step for each level-1 node that differs, and a last one. */
export async function* treeDiff(options: TreeDiffOptions): AsyncGenerator<DiffStep> {
  const { from, to, skipped = [] } = options;
  const toCount = blockCount(to.geometry);
  const count = Math.max(blockCount(from.geometry), toCount);
  let open: [start: number, end: number, zeroBlocks: number] | null = null;
  for await (const { blockIndex, before, after } of differingNodes(options)) {
    const ranges: DiffRange[] = [];
    const skippedHere = intersectRanges(skipped, blockIndex, blockIndex + TREE_FANOUT);
    for (let i = 0; i < TREE_FANOUT; i += 1) {
      const leaf = childOrNull(after, i);
      if (equals(childOrNull(before, i), leaf)) continue;
      const block = blockIndex + i;
      if (skippedHere.some(([start, end]) => start <= block && block < end)) continue;
      if (open === null || open[1] < block) {
        if (open !== null) ranges.push(open);
        open = [block, block, 0];
      }
      open[1] = block + 1;
      if (block < toCount && isNull(leaf)) open[2] += 1;
    }
    yield { ranges, blockIndex: Math.min(blockIndex + TREE_FANOUT, count) };
  }
  yield { ranges: open === null ? [] : [open], blockIndex: count };
}

interface DifferingNode {
  /** Of the node's first leaf. */
  readonly blockIndex: number;
  /** Trimmed leaves of both trees. */
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

/** Level-1 nodes that differ, ascending. */
async function* differingNodes({
  from,
  to,
  readFrom,
  readTo,
}: TreeDiffOptions): AsyncGenerator<DifferingNode> {
  async function* visit(
    level: number,
    index: number,
    before: Uint8Array,
    after: Uint8Array,
  ): AsyncGenerator<DifferingNode> {
    if (level === 1) {
      yield { blockIndex: index * TREE_FANOUT, before, after };
      return;
    }
    const differing: number[] = [];
    const befores: Uint8Array[] = [];
    const afters: Uint8Array[] = [];
    for (let i = 0; i < TREE_FANOUT; i += 1) {
      const old = childAt(from, level, index, before, i);
      const now = childAt(to, level, index, after, i);
      if (equals(old, now)) continue;
      differing.push(index * TREE_FANOUT + i);
      befores.push(old);
      afters.push(now);
    }
    const oldContents = await readContents(readFrom, befores);
    const contents = await readContents(readTo, afters);
    for (const [n, childIndex] of differing.entries()) {
      yield* visit(level - 1, childIndex, oldContents[n] ?? EMPTY, contents[n] ?? EMPTY);
    }
  }

  const height = Math.max(treeHeight(from.geometry), treeHeight(to.geometry));
  const tops = [firstAt(from, height), firstAt(to, height)] as const;
  if (equals(...tops)) return;
  const [before] = await readContents(readFrom, [tops[0]]);
  const [after] = await readContents(readTo, [tops[1]]);
  yield* visit(height, 0, before ?? EMPTY, after ?? EMPTY);
}

/** Digest of child `i` of a node that has this content. */
function childAt(tree: Tree, level: number, index: number, content: Uint8Array, i: number): Uint8Array {
  if (level > treeHeight(tree.geometry))
    return index === 0 && i === 0 ? firstAt(tree, level - 1) : NULL_DIGEST;
  return childOrNull(content, i);
}

/** Node 0 of a level that is not below the top. */
function firstAt(tree: Tree, level: number): Uint8Array {
  return level === treeHeight(tree.geometry) || isNull(tree.top) ? tree.top : ABOVE_TOP;
}

function childOrNull(content: Uint8Array, i: number): Uint8Array {
  return i * DIGEST_BYTES < content.length ? child(content, i) : NULL_DIGEST;
}

/** NULL nodes, and those above the top, are empty. */
async function readContents(readNodes: ReadNodes, digests: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const isStored = (digest: Uint8Array) => digest !== ABOVE_TOP && !isNull(digest);
  const stored = digests.filter(isStored);
  const found = stored.length === 0 ? [] : await readNodes(stored);
  let next = 0;
  return digests.map((digest) => {
    const content = isStored(digest) ? found[next++] : EMPTY;
    if (!content) throw new Error('a node of a tree is missing');
    return content;
  });
}
