/**
 * Digest trees as docs/format.md defines them, built from all leaves: what the arithmetic
 * of src/domain is held to.
 */
import { createHash } from 'node:crypto';
import { DIGEST_BYTES, TREE_FANOUT } from '../../../src/domain/base/limits.js';
import { type Geometry, treeHeight } from '../../../src/domain/blocks/geometry.js';
import { trimNode } from '../../../src/domain/tree/digest-tree.js';

/** A device's contents as the model sees them: leaf digests by block, NULL ones left out. */
export type Leaves = Map<number, Uint8Array>;

export const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();
export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
export const leafOf = (n: number) => hash(Buffer.from(`leaf ${n}`));

/** Every level from the leaves up, knowing nothing of bases: the tree as docs/format.md defines it. */
export function naiveTree(
  geometry: Geometry,
  leaves: Leaves,
): { top: Uint8Array; nodes: Map<string, Uint8Array> } {
  const nodes = new Map<string, Uint8Array>();
  let level: Leaves = leaves;
  for (let height = treeHeight(geometry); height > 0; height -= 1) {
    const contents = new Map<number, Uint8Array>();
    for (const [index, digest] of level) {
      const parent = Math.floor(index / TREE_FANOUT);
      const content = contents.get(parent) ?? new Uint8Array(TREE_FANOUT * DIGEST_BYTES);
      content.set(digest, (index % TREE_FANOUT) * DIGEST_BYTES);
      contents.set(parent, content);
    }
    level = new Map();
    for (const [index, content] of contents) {
      const trimmed = trimNode(content);
      const digest = hash(trimmed);
      nodes.set(hex(digest), trimmed);
      level.set(index, digest);
    }
  }
  return { top: level.get(0) ?? new Uint8Array(DIGEST_BYTES), nodes };
}
