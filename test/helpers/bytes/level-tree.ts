/**
 * Digest trees as docs/format.md section 1 defines them, level by level from all leaves, with the
 * digests of the native side.
 */
import { DIGEST_BYTES, TREE_FANOUT } from '../../../src/domain/base/limits.js';
import { type Geometry, treeHeight } from '../../../src/domain/blocks/geometry.js';
import { trimNode } from '../../../src/domain/tree/digest-tree.js';
import { PLAIN } from './digests.js';

export interface LevelTree {
  /** Trimmed contents by level, then index; NULL nodes are left out. */
  readonly nodes: ReadonlyMap<number, ReadonlyMap<number, Buffer>>;
  readonly top: Buffer;
  /** 64 hex digits. */
  readonly root: string;
}

/** @param leaves digests of the blocks that are not zero */
export function levelTree(geometry: Geometry, leaves: ReadonlyMap<number, Buffer>): LevelTree {
  const nodes = new Map<number, Map<number, Buffer>>();
  let below = leaves;
  for (let level = 1; level <= treeHeight(geometry); level += 1) {
    const contents = new Map<number, Buffer>();
    for (const [index, digest] of below) {
      const parent = Math.floor(index / TREE_FANOUT);
      const content = contents.get(parent) ?? Buffer.alloc(TREE_FANOUT * DIGEST_BYTES);
      content.set(digest, (index % TREE_FANOUT) * DIGEST_BYTES);
      contents.set(parent, content);
    }
    for (const [index, content] of contents) contents.set(index, Buffer.from(trimNode(content)));
    nodes.set(level, contents);
    below = new Map([...contents].map(([index, content]) => [index, PLAIN.nodeDigest(content)]));
  }
  const top = below.get(0) ?? Buffer.alloc(DIGEST_BYTES);
  return { nodes, top, root: PLAIN.rootDigest(geometry.sizeBytes, geometry.blockSize, top).toString('hex') };
}
