/**
 * A tree file of a point: fetched whole, or completed from a similar tree (that of a device that may have
 * changed), so that only nodes that differ are sent. It believes nothing: every node must have the digest
 * that its parent names, the top must give the point's root, and so must the whole file in the end.
 */
import { rm } from 'node:fs/promises';
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { BlockSet } from '../../domain/blocks/block-set.js';
import type { Point } from '../../domain/point/point.js';
import { type Digester, type LeafOverlay, native, type TreeFile } from '../../native/index.js';
import type { NodeSource } from '../../protocol/port/point.js';
import { descend, type LostParts } from './tree-descent.js';

/**
 * @param path where the tree file is made; it must not exist. Nothing stays behind on failure.
 * @throws StillpointError `bad-digest` where the receiver's nodes do not prove the root.
 */
export async function fetchTree(
  receiver: NodeSource,
  point: Point,
  digester: Digester,
  path: string,
  signal?: AbortSignal,
  lost?: LostParts,
): Promise<TreeFile> {
  const { sizeBytes, blockSize } = point.geometry;
  const tree = await native.createTree(path, sizeBytes, blockSize, digester);
  try {
    await completeTree(receiver, point, tree, signal, lost);
    return tree;
  } catch (error) {
    await tree.close();
    await rm(path, { force: true });
    throw error;
  }
}

/**
 * Makes a tree of the point's geometry the point's.
 * @param lost leaves under nodes that differ and can't be had become NULL. Then it is no point's tree, but
 * all other leaves are proven. Undefined: then it fails
 * @returns the blocks whose leaves were others.
 * @throws StillpointError `bad-digest`; then the tree is as it was, or of no use
 */
export async function completeTree(
  receiver: NodeSource,
  point: Point,
  tree: TreeFile,
  signal?: AbortSignal,
  lost?: LostParts,
): Promise<BlockSet> {
  const { sizeBytes, blockSize } = point.geometry;
  const overlayPath = `${tree.path}.overlay`;
  const overlay = await native.createOverlay(overlayPath, sizeBytes, blockSize, tree.generation.root);
  try {
    const differing = new BlockSet();
    const onLeaves = (blockIndex: number, blockCount: number, theirs: Buffer | null) => {
      if (theirs === null) throw new Error('leaves were compared, not fetched');
      overlay.put(blockIndex, theirs);
      differing.addRange([blockIndex, blockIndex + blockCount]);
    };
    let isWhole = true;
    const onLost = (range: BlockRange) => {
      isWhole = false;
      lost?.onLost(range);
      for (const run of nonNullRuns(tree, range)) forget(overlay, differing, run);
    };
    await descend({
      ...{ receiver, point, own: tree, direction: 'fetch', onLeaves, signal },
      lost: lost && { ...lost, onLost },
    });
    const root = isWhole ? point.root : (await tree.rootWith(overlay)).toString('hex');
    await overlay.seal({ pointId: isWhole ? point.id : NO_POINT, root });
    await tree.apply(overlay);
    return differing;
  } finally {
    await overlay.close();
    await rm(overlayPath, { force: true });
  }
}

/**
 * Leaves become NULL, as those of blocks that are zero. For a tree of the caller's own.
 * @param overlayPath of a file that is made meanwhile
 */
export async function forgetLeaves(
  tree: TreeFile,
  blocks: readonly number[],
  overlayPath: string,
): Promise<void> {
  const { sizeBytes, blockSize, generation } = tree;
  const overlay = await native.createOverlay(overlayPath, sizeBytes, blockSize, generation.root);
  try {
    for (const blockIndex of blocks) overlay.put(blockIndex, NULL_LEAVES.subarray(0, DIGEST_BYTES));
    await overlay.seal({ pointId: NO_POINT, root: (await tree.rootWith(overlay)).toString('hex') });
    await tree.apply(overlay);
  } finally {
    await overlay.close();
    await rm(overlayPath, { force: true });
  }
}

const NO_POINT = '0'.repeat(32);
const LEAVES_AT_ONCE = 4096;
const NULL_LEAVES = Buffer.alloc(LEAVES_AT_ONCE * DIGEST_BYTES);

function* nonNullRuns(tree: TreeFile, [from, to]: BlockRange): Generator<BlockRange> {
  for (let start = tree.nextNonNull(from); start < to; ) {
    const end = Math.min(tree.nextNull(start), to, start + LEAVES_AT_ONCE);
    yield [start, end];
    start = end < to ? tree.nextNonNull(end) : to;
  }
}

function forget(overlay: LeafOverlay, differing: BlockSet, [start, end]: BlockRange): void {
  overlay.put(start, NULL_LEAVES.subarray(0, (end - start) * DIGEST_BYTES));
  differing.addRange([start, end]);
}
