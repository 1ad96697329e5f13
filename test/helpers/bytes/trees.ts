/** Digest trees made from leaves, and a naive receiver of their nodes. */

import { TREE_FANOUT } from '../../../src/domain/base/limits.js';
import { type Geometry, levelCount } from '../../../src/domain/blocks/geometry.js';
import type { NodeRequest } from '../../../src/domain/session/messages.js';
import { type LeafOverlay, native, type TreeFile } from '../../../src/native/index.js';
import { PLAIN } from './digests.js';

export const leafOf = (text: string): Buffer => native.checksum(Buffer.from(text));

/** An overlay over the tree's generation with these leaves, sealed as the point. */
export async function sealedOverlay(
  path: string,
  tree: TreeFile,
  leaves: ReadonlyMap<number, Buffer>,
  pointId: string,
): Promise<LeafOverlay> {
  const overlay = await native.createOverlay(path, tree.sizeBytes, tree.blockSize, tree.generation.root);
  for (const [blockIndex, leaf] of leaves) overlay.put(blockIndex, leaf);
  await overlay.seal({ pointId, root: (await tree.rootWith(overlay)).toString('hex') });
  return overlay;
}

/** A tree of a point with these leaves, all others NULL. */
export async function makeTree(
  path: string,
  { sizeBytes, blockSize }: Geometry,
  leaves: ReadonlyMap<number, Buffer>,
  pointId: string,
): Promise<TreeFile> {
  const tree = await native.createTree(path, sizeBytes, blockSize, PLAIN);
  const overlay = await sealedOverlay(`${path}.overlay`, tree, leaves, pointId);
  await tree.apply(overlay);
  await overlay.close();
  return tree;
}

function trimmed(digests: Buffer): Buffer {
  let end = digests.length;
  while (end > 0 && digests.subarray(end - 32, end).every((byte) => byte === 0)) end -= 32;
  return digests.subarray(0, end);
}

export function nodeContent(tree: TreeFile, level: number, index: number): Buffer {
  const below = levelCount({ sizeBytes: tree.sizeBytes, blockSize: tree.blockSize }, level - 1);
  const firstLeaf = index * TREE_FANOUT ** level;
  if (tree.nextNonNull(firstLeaf) >= firstLeaf + TREE_FANOUT ** level) return Buffer.alloc(0);
  const first = index * TREE_FANOUT;
  const count = Math.min(TREE_FANOUT, below - first);
  if (level === 1) return trimmed(tree.leaves(first, count));
  const children = Array.from({ length: count }, (_, child) =>
    PLAIN.nodeDigest(nodeContent(tree, level - 1, first + child)),
  );
  return trimmed(Buffer.concat(children));
}

/** As a receiver answers `nodes`. */
export function answerNodes(tree: TreeFile, requests: readonly NodeRequest[]): Buffer {
  return Buffer.concat(
    requests.flatMap(({ level, index }) => {
      const content = nodeContent(tree, level, index);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(content.length);
      return [length, content];
    }),
  );
}
