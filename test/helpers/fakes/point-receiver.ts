/** A receiver of one point, held in memory: what a restore needs of one, with hooks for faults. */
import { join } from 'node:path';
import type { RestoreReceiver } from '../../../src/agent/restore/restore.js';
import type { BlockRange } from '../../../src/domain/blocks/block-ranges.js';
import { blockLength, type Geometry } from '../../../src/domain/blocks/geometry.js';
import type { Point } from '../../../src/domain/point/point.js';
import { batchOf } from '../bytes/block-batch.js';
import { PLAIN } from '../bytes/digests.js';
import { makePoint } from '../bytes/points.js';
import { stampedBlock } from '../bytes/stamped-blocks.js';
import { answerNodes, makeTree } from '../bytes/trees.js';
import { fakePort } from './port.js';

export interface PointReceiver {
  readonly receiver: RestoreReceiver;
  readonly point: Point;
  /** Of the whole device. */
  readonly bytes: Buffer;
  /** Requests for blocks: their sizes. */
  readonly requests: number[];
  close(): Promise<void>;
}

export interface PointReceiverOptions {
  readonly geometry: Geometry;
  /** These are stamped, all others zero. */
  readonly blockIndexes: readonly number[];
  readonly point?: Partial<Point>;
  /** Answers at most so many blocks of a request. */
  readonly answerBlocksMax?: number;
  /** Is called before each answer of blocks; may throw. */
  readonly onBlocks?: (requestNumber: number) => void;
  /** Blocks [start, end) that it says it can't give. */
  readonly lost?: readonly BlockRange[];
  readonly spoil?: (body: Buffer, requestNumber: number) => Uint8Array;
}

const POINT_ID = 'de'.repeat(16);

/** @param directory of the test's own. */
export async function pointReceiver(
  directory: string,
  options: PointReceiverOptions,
): Promise<PointReceiver> {
  const { geometry } = options;
  const bytes = Buffer.alloc(geometry.sizeBytes);
  const blockOf = (blockIndex: number) => {
    const at = blockIndex * geometry.blockSize;
    return bytes.subarray(at, at + blockLength(geometry, blockIndex));
  };
  for (const blockIndex of options.blockIndexes) {
    const block = blockOf(blockIndex);
    block.set(stampedBlock({ seed: 9, blockIndex, generation: 1 }, block.length));
  }
  const leaves = new Map(options.blockIndexes.map((index) => [index, PLAIN.leafDigest(blockOf(index))]));
  const tree = await makeTree(join(directory, 'receiver-tree'), geometry, leaves, POINT_ID);
  const point = makePoint({
    id: POINT_ID,
    geometry,
    root: tree.generation.root,
    top: tree.top.toString('hex'),
    ...options.point,
  });
  const requests: number[] = [];
  const { lost = [] } = options;
  const receiver = fakePort<RestoreReceiver>({
    info: async () => ({ storeId: '6'.repeat(32), agent: 'local', protocolVersion: 1 }),
    damage: async () =>
      lost.length === 0 ? [] : [{ pointId: POINT_ID, blockCount: lost.length, byteCount: 1 }],
    check: async function* () {
      for (const [start, end] of lost) yield { type: 'damaged', start, end, reason: 'a test' };
      yield { type: 'summary', blockCount: 0, damagedBlocks: lost.length };
    },
    nodes: async (_, wanted) => answerNodes(tree, wanted),
    blocks: async (_, wanted) => {
      const requestNumber = requests.push(wanted.length);
      options.onBlocks?.(requestNumber);
      const indexes = wanted.slice(0, options.answerBlocksMax ?? wanted.length);
      const body = await batchOf(POINT_ID, new Map(indexes.map((index) => [index, blockOf(index)])));
      return options.spoil?.(body, requestNumber) ?? body;
    },
  });
  return { receiver, point, bytes, requests, close: () => tree.close() };
}
