/**
 * Fetches a point's digest tree from the receiver, from the top down, believing nothing: every node must digest to what its
 * parent says, and the top to the point's root. NULL subtrees are not asked for. Deepest nodes first, so that what waits is bounded
 * by requests in flight times height, not by the size of the device.
 */
import { rm } from 'node:fs/promises';
import { StillpointError } from '../domain/errors.js';
import { levelCount, treeHeight } from '../domain/geometry.js';
import { DIGEST_BYTES, NODE_BYTES_MAX, NODES_REQUEST_MAX, TREE_FANOUT } from '../domain/limits.js';
import type { Point } from '../domain/point.js';
import { type LeafOverlay, native, type TreeFile } from '../native/index.js';
import type { ReceiverPort } from '../protocol/receiver-port.js';
import { throwIfCancelled } from './cancel.js';
import { InFlight } from './in-flight.js';

const REQUESTS_IN_FLIGHT = 4;
const NULL_DIGEST = Buffer.alloc(DIGEST_BYTES);

/**
 * @param path where the tree file is made; it must not exist. Nothing stays behind on failure.
 * @throws StillpointError `bad-digest` where the receiver's nodes do not prove the root.
 */
export async function fetchTree(
  receiver: ReceiverPort,
  point: Point,
  path: string,
  signal?: AbortSignal,
): Promise<TreeFile> {
  const { sizeBytes, blockSize } = point.geometry;
  const top = Buffer.from(point.top, 'hex');
  if (native.rootDigest(sizeBytes, blockSize, top).toString('hex') !== point.root) {
    throw unproven(point, 'its top node does not give its root');
  }
  const overlayPath = `${path}.overlay`;
  const tree = await native.createTree(path, sizeBytes, blockSize);
  let overlay: LeafOverlay | null = null;
  try {
    overlay = await native.createOverlay(overlayPath, sizeBytes, blockSize, tree.generation.root);
    await new Descent(receiver, point, overlay, signal).run(top);
    await overlay.seal({ pointId: point.id, root: point.root });
    await tree.apply(overlay);
    return tree;
  } catch (error) {
    await tree.close();
    await rm(path, { force: true });
    throw error;
  } finally {
    await overlay?.close();
    await rm(overlayPath, { force: true });
  }
}

/** Children of one node that are not asked for yet. */
interface Family {
  /** Of the children. */
  readonly level: number;
  readonly firstIndex: number;
  readonly digests: Buffer;
  next: number;
}

interface Wanted {
  readonly level: number;
  readonly index: number;
  readonly digest: Buffer;
}

class Descent {
  readonly #receiver: ReceiverPort;
  readonly #point: Point;
  readonly #overlay: LeafOverlay;
  readonly #signal: AbortSignal | undefined;
  /** Deepest last. */
  readonly #families: Family[] = [];

  constructor(receiver: ReceiverPort, point: Point, overlay: LeafOverlay, signal: AbortSignal | undefined) {
    this.#receiver = receiver;
    this.#point = point;
    this.#overlay = overlay;
    this.#signal = signal;
  }

  async run(top: Buffer): Promise<void> {
    this.#families.push({ level: treeHeight(this.#point.geometry), firstIndex: 0, digests: top, next: 0 });
    const requests = new InFlight(REQUESTS_IN_FLIGHT);
    try {
      for (;;) {
        const wanted = this.#take();
        if (wanted.length > 0) await requests.start(() => this.#fetch(wanted));
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
      const family = this.#families.at(-1);
      if (family === undefined) break;
      const at = family.next * DIGEST_BYTES;
      if (at >= family.digests.length) {
        this.#families.pop();
        continue;
      }
      const digest = family.digests.subarray(at, at + DIGEST_BYTES);
      if (!digest.equals(NULL_DIGEST)) {
        wanted.push({ level: family.level, index: family.firstIndex + family.next, digest });
      }
      family.next += 1;
    }
    return wanted;
  }

  async #fetch(wanted: readonly Wanted[]): Promise<void> {
    throwIfCancelled(this.#signal);
    const answer = Buffer.from(
      await this.#receiver.nodes(
        this.#point.id,
        wanted.map(({ level, index }) => ({ level, index })),
      ),
    );
    let at = 0;
    for (const node of wanted) {
      if (at + 4 > answer.length) throw unproven(this.#point, 'the answer is too short');
      const byteLength = answer.readUInt32LE(at);
      const content = answer.subarray(at + 4, at + 4 + byteLength);
      if (byteLength > NODE_BYTES_MAX || content.length !== byteLength || byteLength % DIGEST_BYTES !== 0) {
        throw unproven(this.#point, `node ${node.index} of level ${node.level} has a wrong length`);
      }
      this.#accept(node, content);
      at += 4 + byteLength;
    }
    if (at !== answer.length) throw unproven(this.#point, 'the answer is too long');
  }

  #accept(node: Wanted, content: Buffer): void {
    const childLevel = node.level - 1;
    const firstIndex = node.index * TREE_FANOUT;
    const room = levelCount(this.#point.geometry, childLevel) - firstIndex;
    if (content.length > room * DIGEST_BYTES || !native.nodeDigest(content).equals(node.digest)) {
      throw unproven(this.#point, `node ${node.index} of level ${node.level} has another digest`);
    }
    if (childLevel === 0) this.#overlay.put(firstIndex, content);
    else this.#families.push({ level: childLevel, firstIndex, digests: content, next: 0 });
  }
}

function unproven(point: Point, reason: string): StillpointError {
  return new StillpointError('bad-digest', {
    thing: `tree of point ${point.device}@${point.sequence}`,
    reason: `what the receiver sent does not prove it: ${reason}`,
    remedy: 'Check the store with "stillpoint verify".',
  });
}
