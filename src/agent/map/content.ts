/**
 * Where a point has content, and the beginning of it, from the receiver's nodes. Each is proven by the digest
 * that its parent names, and the top by the point's root.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { DIGEST_BYTES, NODES_REQUEST_MAX, TREE_FANOUT } from '../../domain/base/limits.js';
import { blockCount, treeHeight } from '../../domain/blocks/geometry.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { child, isNull } from '../../domain/tree/digest-tree.js';
import type { Digester } from '../../native/index.js';
import { answeredCount, decodeBlocks } from '../../protocol/codecs/blocks-codec.js';
import { decodeNodes } from '../../protocol/codecs/nodes-codec.js';
import type { PointPort } from '../../protocol/port/point.js';
import { unlessAborted } from '../common/cancel.js';

/**
 * Of one level. A device of 16 TiB with blocks of 4 KiB has 2^26 nodes above its leaves, 128 GiB of digests.
 * A picture of it does not need to be that sharp. So many nodes are 32 MiB, and all nodes above the leaves of
 * 64 GiB in blocks of 64 KiB.
 */
const NODES_MAX = 16_384;

type Source = Pick<PointPort, 'nodes' | 'blocks'>;

interface Node {
  readonly index: number;
  readonly digest: Uint8Array;
}

export interface ContentOptions {
  readonly receiver: Source;
  readonly point: Point;
  readonly digester: Digester;
  readonly signal: AbortSignal;
  /** Only tests give it. */
  readonly nodesMax?: number;
  /** Blocks [start, end) that have content, as far as it is looked at. Ascending. */
  readonly onContent: (start: number, end: number) => void;
  readonly onProgress?: (doneNodes: number, totalNodes: number) => void;
}

/**
 * Level by level from the top, to the leaves, or to the last level that has not too many nodes.
 * @returns how many blocks are looked at as one: they are given as content if one of them is.
 */
export async function findContent(options: ContentOptions): Promise<number> {
  const { point, onContent, nodesMax = NODES_MAX } = options;
  const count = blockCount(point.geometry);
  let nodes = topNodes(options);
  for (let level = treeHeight(point.geometry); ; level -= 1) {
    const childBlocks = TREE_FANOUT ** (level - 1);
    const children: Node[] = [];
    const contents: Uint8Array[] = [];
    for (let at = 0; at < nodes.length; at += NODES_REQUEST_MAX) {
      contents.push(...(await fetchNodes(options, level, nodes.slice(at, at + NODES_REQUEST_MAX))));
      options.onProgress?.(Math.min(at + NODES_REQUEST_MAX, nodes.length), nodes.length);
    }
    const found = contents.reduce((sum, content) => sum + countChildren(content), 0);
    const isLast = level === 1 || found > nodesMax;
    for (const [n, content] of contents.entries()) {
      for (let i = 0; i * DIGEST_BYTES < content.length; i += 1) {
        const digest = child(content, i);
        if (isNull(digest)) continue;
        const index = (nodes[n]?.index ?? 0) * TREE_FANOUT + i;
        if (isLast) onContent(index * childBlocks, Math.min((index + 1) * childBlocks, count));
        else children.push({ index, digest });
      }
    }
    if (isLast) return childBlocks;
    nodes = children;
  }
}

/** The first bytes of a point, from whole blocks; zeros where it has none. */
export async function readHead(
  options: Pick<ContentOptions, 'receiver' | 'point' | 'digester' | 'signal'>,
  byteLength: number,
): Promise<Buffer> {
  const { receiver, point, digester, signal } = options;
  const { blockSize, sizeBytes } = point.geometry;
  const count = Math.min(Math.ceil(byteLength / blockSize), blockCount(point.geometry), TREE_FANOUT);
  let nodes = topNodes(options);
  let leaves: Uint8Array = new Uint8Array(0);
  for (let level = treeHeight(point.geometry); nodes.length > 0; level -= 1) {
    const [content = new Uint8Array(0)] = await fetchNodes(options, level, nodes);
    leaves = content;
    const digest = child(content, 0);
    if (level === 1) break;
    leaves = new Uint8Array(0);
    nodes = digest.length === 0 || isNull(digest) ? [] : [{ index: 0, digest }];
  }
  const head = Buffer.alloc(Math.min(count * blockSize, sizeBytes));
  const leafAt = (block: number) => child(leaves, block);
  let wanted = Array.from({ length: count }, (_, block) => block).filter(
    (block) => leafAt(block).length > 0 && !isNull(leafAt(block)),
  );
  while (wanted.length > 0) {
    const answer = await unlessAborted(signal, receiver.blocks(point.id, wanted));
    const answered = answeredCount(answer, wanted);
    const blocks = answered < 1 ? [] : await decodeBlocks(answer, point, digester);
    for (const [n, bytes] of blocks.entries()) {
      const block = wanted[n] ?? 0;
      if (!digester.leafDigest(bytes).equals(leafAt(block))) throw unproven(point);
      head.set(bytes, block * blockSize);
    }
    if (blocks.length === 0) throw unproven(point);
    wanted = wanted.slice(blocks.length);
  }
  return head;
}

/** @throws StillpointError `bad-digest` */
function topNodes({ point, digester }: Pick<ContentOptions, 'point' | 'digester'>): Node[] {
  const { sizeBytes, blockSize } = point.geometry;
  const top = Buffer.from(point.top, 'hex');
  if (digester.rootDigest(sizeBytes, blockSize, top).toString('hex') !== point.root) throw unproven(point);
  return isNull(top) ? [] : [{ index: 0, digest: top }];
}

async function fetchNodes(
  { receiver, point, digester, signal }: Pick<ContentOptions, 'receiver' | 'point' | 'digester' | 'signal'>,
  level: number,
  nodes: readonly Node[],
): Promise<Buffer[]> {
  const requests = nodes.map(({ index }) => ({ level, index }));
  const answer = await unlessAborted(signal, receiver.nodes(point.id, requests));
  const contents = decodeNodes(answer, nodes.length);
  if (typeof contents === 'string') throw unproven(point);
  for (const [n, content] of contents.entries()) {
    if (!digester.nodeDigest(content).equals(nodes[n]?.digest ?? content)) throw unproven(point);
  }
  return contents;
}

function countChildren(content: Uint8Array): number {
  let count = 0;
  for (let i = 0; i * DIGEST_BYTES < content.length; i += 1) if (!isNull(child(content, i))) count += 1;
  return count;
}

function unproven(point: Point): StillpointError {
  return new StillpointError('bad-digest', {
    thing: `point ${pointLabel(point)}`,
    reason: "what the receiver sent of it does not have the point's digests",
    remedy: 'Check the store with "stillpoint verify".',
  });
}
