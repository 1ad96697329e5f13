/**
 * A tree file of a point: fetched whole, or completed from a similar tree (that of a device that may have
 * changed), so that only nodes that differ are sent. It believes nothing: every node must have the digest
 * that its parent names, the top must give the point's root, and so must the whole file in the end.
 */
import { rm } from 'node:fs/promises';
import { BlockSet } from '../../domain/blocks/block-set.js';
import type { Point } from '../../domain/point/point.js';
import { type Digester, native, type TreeFile } from '../../native/index.js';
import type { NodeSource } from '../../protocol/port/point.js';
import { descend } from './tree-descent.js';

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
): Promise<TreeFile> {
  const { sizeBytes, blockSize } = point.geometry;
  const tree = await native.createTree(path, sizeBytes, blockSize, digester);
  try {
    await completeTree(receiver, point, tree, signal);
    return tree;
  } catch (error) {
    await tree.close();
    await rm(path, { force: true });
    throw error;
  }
}

/**
 * Makes a tree of the point's geometry the point's.
 * @returns the blocks whose leaves were others.
 * @throws StillpointError `bad-digest`; then the tree is as it was, or of no use
 */
export async function completeTree(
  receiver: NodeSource,
  point: Point,
  tree: TreeFile,
  signal?: AbortSignal,
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
    await descend({ receiver, point, own: tree, direction: 'fetch', onLeaves, signal });
    await overlay.seal({ pointId: point.id, root: point.root });
    await tree.apply(overlay);
    return differing;
  } finally {
    await overlay.close();
    await rm(overlayPath, { force: true });
  }
}
