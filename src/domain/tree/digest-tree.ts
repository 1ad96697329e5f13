/**
 * The persistent digest tree (docs/format.md section 1): a new point's tree is made from its base's by
 * writing only nodes on the paths to changed leaves. Pure: the caller gives the functions that read, digest
 * and keep nodes. Memory is O(levels), one level-k node and its children's contents at a time, whatever the
 * size of the device.
 *
 * Trees of different height line up at index 0: a taller tree's leftmost path leads to the lower tree's top.
 */

import { DIGEST_BYTES, NODE_BYTES_MAX, TREE_FANOUT } from '../base/limits.js';
import { blockCount, blockLength, type Geometry, treeHeight } from '../blocks/geometry.js';

const EMPTY = new Uint8Array(0);
const NULL_DIGEST = new Uint8Array(DIGEST_BYTES);

export interface Tree {
  readonly geometry: Geometry;
  /** Digest of the top node: node 0 of level `treeHeight(geometry)`. */
  readonly top: Uint8Array;
}

/** Trimmed contents of nodes by digest, in the order asked; null where a node can't be had. */
export type ReadNodes = (digests: readonly Uint8Array[]) => Promise<readonly (Uint8Array | null)[]>;

/** Leaves to put over a base; the form of the native LeafOverlay. */
export interface ChangedLeaves {
  /** Index of the first level-1 node >= from with a changed leaf, or -1. */
  nextNode(nodeIndex: number): number;
  /** 8 bytes of presence bits (LSB first), then 64 digests. */
  node(nodeIndex: number): Uint8Array;
}

export interface UpdateTreeOptions {
  /** Null: the empty tree. Of the same block size. */
  readonly base: Tree | null;
  readonly geometry: Geometry;
  readonly changes: ChangedLeaves;
  /** Must answer every node of the base. */
  readonly readNodes: ReadNodes;
  /** Digest of a trimmed, non-empty content. */
  readonly hashNode: (content: Uint8Array) => Uint8Array;
  /**
   * Gets every non-NULL node that may be new, children before parents. The content is the callee's to keep.
   */
  readonly putNode: (digest: Uint8Array, content: Uint8Array) => Promise<void> | void;
  /** Called for every changed leaf that is not NULL, ascending. The digest is only valid during the call. */
  readonly onNewLeaf?: (blockIndex: number, digest: Uint8Array) => void;
}

/** @returns the digest of the new tree's top node. */
export async function updateTree(options: UpdateTreeOptions): Promise<Uint8Array> {
  const { base, geometry, changes, readNodes, hashNode, putNode, onNewLeaf } = options;
  const count = blockCount(geometry);
  if (count === 0) return NULL_DIGEST;
  const height = treeHeight(geometry);
  const resized = base === null ? -1 : resizedBlock(base.geometry, geometry);
  const shrinks = base !== null && blockCount(base.geometry) > count;
  const lowerTop = base === null ? NULL_DIGEST : await leftmost(base, height, readNodes);
  const lowerHeight = base === null ? height : Math.min(height, treeHeight(base.geometry));

  /** Children under which leaves may differ from the base's, ascending. */
  function touchedChildren(level: number, index: number): number[] {
    const childNodes = TREE_FANOUT ** (level - 2);
    const childBlocks = childNodes * TREE_FANOUT;
    const touched = new Set<number>();
    if (level > lowerHeight && index === 0) touched.add(0);
    for (let i = 0; i < TREE_FANOUT; i += 1) {
      const next = changes.nextNode((index * TREE_FANOUT + i) * childNodes);
      if (next === -1) break;
      i = Math.floor(next / childNodes) - index * TREE_FANOUT;
      if (i < TREE_FANOUT) touched.add(i);
    }
    const addBlock = (blockIndex: number) => {
      const i = Math.floor(blockIndex / childBlocks) - index * TREE_FANOUT;
      if (i >= 0 && i < TREE_FANOUT) touched.add(i);
    };
    if (resized !== -1) addBlock(resized);
    if (shrinks && count % childBlocks !== 0) addBlock(count);
    return [...touched].sort((a, b) => a - b);
  }

  function applyLeaves(nodeIndex: number, children: Uint8Array): void {
    const start = nodeIndex * TREE_FANOUT;
    if (resized >= start && resized < start + TREE_FANOUT) child(children, resized - start).fill(0);
    const node = changes.node(nodeIndex);
    for (let i = 0; i < TREE_FANOUT && start + i < count; i += 1) {
      if ((((node[i >> 3] ?? 0) >> (i & 7)) & 1) === 0) continue;
      const leaf = node.subarray(8 + i * DIGEST_BYTES, 8 + (i + 1) * DIGEST_BYTES);
      if (onNewLeaf !== undefined && !isNull(leaf) && !equals(leaf, child(children, i)))
        onNewLeaf(start + i, leaf);
      children.set(leaf, i * DIGEST_BYTES);
    }
  }

  async function applyChildren(level: number, index: number, children: Uint8Array): Promise<void> {
    const touched = touchedChildren(level, index);
    const digests = touched.map((i) =>
      level - 1 === lowerHeight && index === 0 && i === 0 ? lowerTop : child(children, i).slice(),
    );
    const contents = await readContents(readNodes, digests);
    for (const [n, i] of touched.entries()) {
      const digest = await build(
        level - 1,
        index * TREE_FANOUT + i,
        digests[n] ?? NULL_DIGEST,
        contents[n] ?? EMPTY,
      );
      children.set(digest, i * DIGEST_BYTES);
    }
  }

  /** @param before the node's digest in the base, NULL for a node above the base's top. */
  async function build(
    level: number,
    index: number,
    before: Uint8Array,
    content: Uint8Array,
  ): Promise<Uint8Array> {
    const children = new Uint8Array(NODE_BYTES_MAX);
    children.set(content);
    const kept = Math.ceil(count / TREE_FANOUT ** (level - 1)) - index * TREE_FANOUT;
    if (kept < TREE_FANOUT) children.fill(0, kept * DIGEST_BYTES);
    if (level === 1) applyLeaves(index, children);
    else await applyChildren(level, index, children);
    const trimmed = trimNode(children);
    if (equals(trimmed, content)) return before;
    if (trimmed.length === 0) return NULL_DIGEST;
    const digest = hashNode(trimmed);
    await putNode(digest, trimmed);
    return digest;
  }

  const atBase = height === lowerHeight;
  const [content] = await readContents(readNodes, [lowerTop]);
  return build(height, 0, atBase ? lowerTop : NULL_DIGEST, (atBase ? content : null) ?? EMPTY);
}

export interface LeafNode {
  /** Of the node's first leaf. */
  readonly blockIndex: number;
  /** Trimmed: the node's leaves up to the last one that is not NULL. */
  readonly content: Uint8Array;
  /** The same node's content in `unlike`; empty where that has none, or none that can be read. */
  readonly unlike: Uint8Array;
}

/** Blocks [start, end) under a node that can't be had. */
export interface LostLeaves {
  readonly start: number;
  readonly end: number;
  /** Of the node. */
  readonly digest: Uint8Array;
}

/**
 * Contents of the level-1 nodes of a tree, ascending, without NULL nodes and those that `unlike` has at the
 * same place. Subtrees whose nodes can't be had are left out: `readNodes` knows which.
 */
export async function* leafNodes(
  tree: Tree,
  unlike: Tree | null,
  readNodes: ReadNodes,
): AsyncGenerator<LeafNode> {
  for await (const part of leafParts(tree, unlike, readNodes)) if ('content' in part) yield part;
}

/**
 * As leafNodes, but subtrees whose nodes can't be had are told, each in its place.
 * @param isWanted false for blocks [start, end) that are left out: their nodes are not read.
 */
export async function* leafParts(
  tree: Tree,
  unlike: Tree | null,
  readNodes: ReadNodes,
  isWanted: (start: number, end: number) => boolean = () => true,
): AsyncGenerator<LeafNode | LostLeaves> {
  const count = blockCount(tree.geometry);
  const height = treeHeight(tree.geometry);
  const lowerHeight = unlike === null ? height : Math.min(height, treeHeight(unlike.geometry));
  const lowerTop = unlike === null ? NULL_DIGEST : await leftmost(unlike, height, readNodes);

  const blocksUnder = (level: number, index: number): [start: number, end: number] => {
    const blocks = TREE_FANOUT ** level;
    return [index * blocks, Math.min((index + 1) * blocks, count)];
  };
  const lost = (digest: Uint8Array, level: number, index: number): LostLeaves => {
    const [start, end] = blocksUnder(level, index);
    return { start, end, digest };
  };

  async function* visit(
    level: number,
    index: number,
    content: Uint8Array,
    other: Uint8Array,
  ): AsyncGenerator<LeafNode | LostLeaves> {
    if (level === 1) {
      yield { blockIndex: index * TREE_FANOUT, content, unlike: other };
      return;
    }
    const differing: number[] = [];
    const digests: Uint8Array[] = [];
    const others: Uint8Array[] = [];
    for (let i = 0; i * DIGEST_BYTES < content.length; i += 1) {
      const digest = child(content, i);
      const isLower = level - 1 === lowerHeight && index === 0 && i === 0;
      const otherDigest = isLower
        ? lowerTop
        : i * DIGEST_BYTES < other.length
          ? child(other, i)
          : NULL_DIGEST;
      if (isNull(digest) || equals(digest, otherDigest)) continue;
      if (!isWanted(...blocksUnder(level - 1, index * TREE_FANOUT + i))) continue;
      differing.push(i);
      digests.push(digest);
      others.push(otherDigest);
    }
    const contents = await readNodes([...digests, ...others.filter((digest) => !isNull(digest))]);
    let nextOther = digests.length;
    for (const [n, i] of differing.entries()) {
      const otherContent = isNull(others[n] ?? NULL_DIGEST) ? EMPTY : contents[nextOther++];
      const childContent = contents[n];
      const childIndex = index * TREE_FANOUT + i;
      if (childContent) yield* visit(level - 1, childIndex, childContent, otherContent ?? EMPTY);
      else yield lost(digests[n] ?? NULL_DIGEST, level - 1, childIndex);
    }
  }

  if (isNull(tree.top)) return;
  const atUnlike = height === lowerHeight;
  if (atUnlike && equals(tree.top, lowerTop)) return;
  const [content] = await readNodes([tree.top]);
  const [other] = atUnlike && !isNull(lowerTop) ? await readNodes([lowerTop]) : [EMPTY];
  if (content) yield* visit(height, 0, content, other ?? EMPTY);
  else yield lost(tree.top, height, 0);
}

export function isNull(digest: Uint8Array): boolean {
  return equals(digest, NULL_DIGEST);
}

/** Child digests of a node without trailing NULLs: the form that is digested and stored. */
export function trimNode(children: Uint8Array): Uint8Array {
  let end = children.length;
  while (end > 0 && isNull(children.subarray(end - DIGEST_BYTES, end))) end -= DIGEST_BYTES;
  return children.subarray(0, end);
}

/**
 * The block whose length differs between the two, although both have it, or -1. Its old digest says
 * nothing about its new bytes.
 */
function resizedBlock(before: Geometry, after: Geometry): number {
  const last = Math.min(blockCount(before), blockCount(after)) - 1;
  return last >= 0 && blockLength(before, last) !== blockLength(after, last) ? last : -1;
}

/** Digest of node 0 of `level`, or of the top where the tree is lower than that. */
async function leftmost(tree: Tree, level: number, readNodes: ReadNodes): Promise<Uint8Array> {
  let digest = tree.top;
  for (let at = treeHeight(tree.geometry); at > level && !isNull(digest); at -= 1) {
    const [content] = await readNodes([digest]);
    digest = content ? child(content, 0) : NULL_DIGEST;
  }
  return digest;
}

async function readContents(readNodes: ReadNodes, digests: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const found = await readNodes(digests.filter((digest) => !isNull(digest)));
  let next = 0;
  return digests.map((digest) => {
    const content = isNull(digest) ? EMPTY : found[next++];
    if (!content) throw new Error('a node of the base tree is missing');
    return content;
  });
}

export function child(content: Uint8Array, i: number): Uint8Array {
  return content.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
}

export function equals(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}
