/**
 * Compares a local digest tree with that of a point at the receiver: from the top down, only below differing
 * nodes, one round trip a level, so that O(differences * levels) bytes cross.
 *
 * For each node it asks the cheaper of two questions (src/domain/session/compare-direction.ts): `nodes`
 * fetches the receiver's content, which is proven if the parent's was; `compareNodes` sends the local
 * content, and a few bytes come back, which prove nothing. A caller that needs the point's own digests, or
 * proof, only fetches.
 *
 * A caller that can do without a part of the point is told of nodes that the receiver can't give, and goes
 * on: what the own tree has there is compared as a whole, by the digest that the parent names.
 *
 * The deepest nodes come first, so that the number of waiting nodes is bounded by requests in flight times
 * height, not by the size of the device.
 */

import { StillpointError } from '../../domain/base/errors.js';
import { DIGEST_BYTES, NODES_REQUEST_MAX, TREE_FANOUT } from '../../domain/base/limits.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type { Coverage } from '../../domain/blocks/coverage.js';
import { type Geometry, levelCount, treeHeight } from '../../domain/blocks/geometry.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { compareDirection, type Direction } from '../../domain/session/compare-direction.js';
import { isNull, trimNode } from '../../domain/tree/digest-tree.js';
import type { TreeFile } from '../../native/index.js';
import { type ComparedChildren, decodeAnswer, encodeQuestion } from '../../protocol/codecs/compare-codec.js';
import { decodeNodes } from '../../protocol/codecs/nodes-codec.js';
import type { NodeSource } from '../../protocol/port/point.js';
import { throwIfCancelled } from '../common/cancel.js';
import { InFlight } from '../common/in-flight.js';

const REQUESTS_IN_FLIGHT = 4;
const NULL_DIGEST = Buffer.alloc(DIGEST_BYTES);
const NULLS_AT_ONCE = 65_536;
const NULL_LEAVES = Buffer.alloc(NULLS_AT_ONCE * DIGEST_BYTES);

/** What is done about parts that the receiver can't give. */
export interface LostParts {
  /** This error of the receiver says that it does not have a node, or not as the point has it. */
  readonly isLost: (error: unknown) => boolean;
  /** Blocks under such a node: they differ, or may. In no order. */
  readonly onLost: (range: BlockRange) => void;
}

export interface DescentOptions {
  readonly receiver: NodeSource;
  readonly point: Point;
  /** Of the point's geometry. */
  readonly own: TreeFile;
  readonly direction: Direction;
  /** Of a node or (level 0) a leaf. Below `none` nothing is asked for. Default: everything. */
  readonly covers?: ((level: number, index: number) => Coverage) | undefined;
  /**
   * A run of blocks that differ, and the receiver's leaves of all of them, or null: not known. In no order.
   */
  readonly onLeaves: (blockIndex: number, blockCount: number, theirs: Buffer | null) => void;
  /** Undefined: then the descent fails. Only for nodes that are fetched. */
  readonly lost?: LostParts | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Wanted {
  readonly level: number;
  readonly index: number;
  /** The receiver's; null: not known. */
  readonly digest: Buffer | null;
}

/** @throws StillpointError `bad-digest` where the receiver's nodes do not prove the root */
export async function descend(options: DescentOptions): Promise<void> {
  const { point, own } = options;
  const { sizeBytes, blockSize } = point.geometry;
  const top = Buffer.from(point.top, 'hex');
  if (own.digester.rootDigest(sizeBytes, blockSize, top).toString('hex') !== point.root)
    throw unproven(point, 'its top node does not give its root');
  if (own.sizeBytes !== sizeBytes || own.blockSize !== blockSize)
    throw new Error("the tree does not have the point's geometry");
  await new Descent(options).run(top);
}

class Descent {
  readonly #options: DescentOptions;
  readonly #geometry: Geometry;
  readonly #covers: (level: number, index: number) => Coverage;
  /** Differing nodes that are not asked for yet; deepest last. */
  readonly #waiting: Wanted[][] = [];

  constructor(options: DescentOptions) {
    this.#options = options;
    this.#geometry = options.point.geometry;
    this.#covers = options.covers ?? (() => 'all');
  }

  async run(top: Buffer): Promise<void> {
    const level = treeHeight(this.#geometry);
    this.#waiting.push(this.#differing(level, 0, [top], this.#options.own.digests(level, 0, 1)));
    const requests = new InFlight(REQUESTS_IN_FLIGHT);
    try {
      for (;;) {
        const wanted = this.#take();
        if (wanted.length > 0) await requests.start(() => this.#ask(wanted));
        else if (requests.count > 0) await requests.settleOne();
        else break;
      }
      await requests.drain();
    } finally {
      await requests.settle();
    }
  }

  #take(): Wanted[] {
    const wanted: Wanted[] = [];
    while (wanted.length < NODES_REQUEST_MAX) {
      const family = this.#waiting.pop();
      if (family === undefined) break;
      const room = NODES_REQUEST_MAX - wanted.length;
      wanted.push(...family.slice(0, room));
      if (family.length > room) this.#waiting.push(family.slice(room));
    }
    return wanted;
  }

  async #ask(wanted: readonly Wanted[]): Promise<void> {
    throwIfCancelled(this.#options.signal);
    const fetched: Wanted[] = [];
    const sent: (Wanted & { readonly content: Buffer })[] = [];
    for (const node of wanted) {
      const content = this.#ownContent(node);
      const childCount = Math.min(TREE_FANOUT, this.#childCount(node));
      if (compareDirection(this.#options.direction, content.length, childCount) === 'fetch')
        fetched.push(node);
      else sent.push({ ...node, content });
    }
    await Promise.all([this.#fetch(fetched), this.#send(sent)]);
  }

  async #fetch(wanted: readonly Wanted[]): Promise<void> {
    if (wanted.length === 0) return;
    const { receiver, point } = this.#options;
    const requests = wanted.map(({ level, index }) => ({ level, index }));
    const body = await receiver.nodes(point.id, requests).catch((error: unknown) => {
      if (this.#options.lost?.isLost(error)) return null;
      throw error;
    });
    if (body === null) return this.#fetchApart(wanted);
    const contents = decodeNodes(body, wanted.length);
    if (typeof contents === 'string') throw unproven(point, contents);
    for (const [n, node] of wanted.entries()) this.#accept(node, contents[n] as Buffer);
  }

  /** One of them is lost. */
  async #fetchApart(wanted: readonly Wanted[]): Promise<void> {
    const [first] = wanted;
    if (first !== undefined && wanted.length === 1) {
      const width = TREE_FANOUT ** first.level;
      const end = Math.min((first.index + 1) * width, this.#options.own.blockCount);
      return this.#options.lost?.onLost([first.index * width, end]);
    }
    throwIfCancelled(this.#options.signal);
    const half = wanted.length >> 1;
    for (const part of [wanted.slice(0, half), wanted.slice(half)]) await this.#fetch(part);
  }

  #accept(node: Wanted, content: Buffer): void {
    const isProven =
      node.digest === null || this.#options.own.digester.nodeDigest(content).equals(node.digest);
    const childCount = this.#childCount(node);
    if (!isProven || content.length > childCount * DIGEST_BYTES)
      throw unproven(this.#options.point, `node ${node.index} of level ${node.level} has another digest`);
    const theirs = Array.from({ length: Math.min(TREE_FANOUT, childCount) }, (_, i) => digestAt(content, i));
    this.#takeChildren(node, theirs);
  }

  async #send(wanted: readonly (Wanted & { readonly content: Buffer })[]): Promise<void> {
    if (wanted.length === 0) return;
    const { receiver, point } = this.#options;
    const answer = decodeAnswer(await receiver.compareNodes(encodeQuestion(point.id, wanted)), wanted.length);
    for (const [n, node] of wanted.entries()) this.#acceptComparison(node, answer[n] as ComparedChildren);
  }

  #acceptComparison(node: Wanted, { differing, nulls }: ComparedChildren): void {
    const bit = (bits: bigint, i: number) => (bits >> BigInt(i)) & 1n;
    const own = this.#ownContent(node);
    const childCount = Math.min(TREE_FANOUT, this.#childCount(node));
    // Not proven, but that much can be seen: what differs as a whole differs somewhere.
    if (this.#covers(node.level, node.index) === 'all' && BigInt.asUintN(childCount, differing) === 0n)
      throw unproven(
        this.#options.point,
        `node ${node.index} of level ${node.level} differs, its children do not`,
      );
    const theirs = Array.from({ length: childCount }, (_, i) => {
      if (bit(nulls, i) === 1n) return NULL_DIGEST;
      return bit(differing, i) === 1n ? null : digestAt(own, i);
    });
    this.#takeChildren(node, theirs);
  }

  /** @param theirs the receiver's digests of the node's children; null: it differs, and is not known */
  #takeChildren(node: Wanted, theirs: readonly (Buffer | null)[]): void {
    const level = node.level - 1;
    const firstIndex = node.index * TREE_FANOUT;
    const own = this.#options.own.digests(level, firstIndex, theirs.length);
    const differing = this.#differing(level, firstIndex, theirs, own);
    if (level > 0) {
      if (differing.length > 0) this.#waiting.push(differing);
      return;
    }
    for (const run of runsOf(differing)) {
      const [first] = run as [Wanted];
      const digests = run.flatMap(({ digest }) => (digest === null ? [] : [digest]));
      const known = digests.length === run.length ? Buffer.concat(digests) : null;
      this.#options.onLeaves(first.index, run.length, known);
    }
  }

  #differing(level: number, firstIndex: number, theirs: readonly (Buffer | null)[], own: Buffer): Wanted[] {
    const differing: Wanted[] = [];
    for (const [i, digest] of theirs.entries()) {
      const index = firstIndex + i;
      if (this.#covers(level, index) === 'none') continue;
      const ownDigest = own.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      if (digest?.equals(ownDigest)) continue;
      // Nothing is to be asked for below it.
      if (level > 0 && digest !== null && isNull(digest)) this.#takeNull(level, index);
      else differing.push({ level, index, digest });
    }
    return differing;
  }

  /** All that the own tree has under a node, and the receiver has zeros. */
  #takeNull(level: number, index: number): void {
    const { own, onLeaves } = this.#options;
    const width = TREE_FANOUT ** level;
    const end = Math.min((index + 1) * width, own.blockCount);
    for (let start = own.nextNonNull(index * width); start < end; ) {
      const runEnd = Math.min(own.nextNull(start), end, start + NULLS_AT_ONCE);
      onLeaves(start, runEnd - start, NULL_LEAVES.subarray(0, (runEnd - start) * DIGEST_BYTES));
      start = runEnd < end ? own.nextNonNull(runEnd) : end;
    }
  }

  #childCount({ level, index }: Wanted): number {
    return levelCount(this.#geometry, level - 1) - index * TREE_FANOUT;
  }

  #ownContent(node: Wanted): Buffer {
    const count = Math.min(TREE_FANOUT, this.#childCount(node));
    const content = this.#options.own.digests(node.level - 1, node.index * TREE_FANOUT, count);
    return Buffer.from(trimNode(content));
  }
}

/** Neighbours together; known and unknown ones apart. */
function* runsOf(leaves: readonly Wanted[]): Generator<readonly Wanted[]> {
  for (let start = 0; start < leaves.length; ) {
    const first = leaves[start] as Wanted;
    let end = start + 1;
    while (
      leaves[end]?.index === first.index + end - start &&
      (leaves[end]?.digest === null) === (first.digest === null)
    )
      end += 1;
    yield leaves.slice(start, end);
    start = end;
  }
}

/** Views; digests beyond the content are NULL. */
function digestAt(content: Buffer, i: number): Buffer {
  const at = i * DIGEST_BYTES;
  return at < content.length ? content.subarray(at, at + DIGEST_BYTES) : NULL_DIGEST;
}

export function unproven(point: Point, reason: string): StillpointError {
  return new StillpointError('bad-digest', {
    thing: `tree of point ${pointLabel(point)}`,
    reason: `what the receiver sent does not prove it: ${reason}`,
    remedy: 'Check the store with "stillpoint verify".',
  });
}
