/** Which blocks of a point are requested together, and the check that exactly those came back. */

import { StillpointError } from '../../domain/base/errors.js';
import { BLOCKS_REQUEST_MAX, BLOCKS_REQUEST_RAW_BYTES } from '../../domain/base/limits.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { type NativeError, native, type TreeFile } from '../../native/index.js';
import { answeredCount } from '../../protocol/codecs/blocks-codec.js';
import type { BlockSource } from '../../protocol/port/point.js';

/**
 * All blocks of the ranges (default: of the device) that are not zero, in device order, in
 * groups for one request each.
 * @param rawBytes of a group, asked for each: what the link carries may change.
 */
export function* blockGroups(
  tree: TreeFile,
  ranges: Iterable<BlockRange> = everything(tree),
  rawBytes: () => number = () => BLOCKS_REQUEST_RAW_BYTES,
): Generator<readonly number[]> {
  const blocksNow = () => Math.max(1, Math.min(BLOCKS_REQUEST_MAX, Math.floor(rawBytes() / tree.blockSize)));
  let groupBlocks = blocksNow();
  let group: number[] = [];
  for (const [from, to] of ranges) {
    for (let start = tree.nextNonNull(from); start < to; ) {
      const end = Math.min(tree.nextNull(start), to);
      for (let blockIndex = start; blockIndex < end; blockIndex += 1) {
        group.push(blockIndex);
        if (group.length < groupBlocks) continue;
        yield group;
        group = [];
        groupBlocks = blocksNow();
      }
      start = end < to ? tree.nextNonNull(end) : to;
    }
  }
  if (group.length > 0) yield group;
}

/** All runs of zero blocks in the ranges (default: in the device), in device order. */
export function* zeroRuns(
  tree: TreeFile,
  ranges: Iterable<BlockRange> = everything(tree),
): Generator<{ byteOffset: number; byteLength: number }> {
  for (const [from, to] of ranges) {
    for (let start = tree.nextNull(from); start < to; ) {
      const end = Math.min(tree.nextNonNull(start), to);
      const byteOffset = start * tree.blockSize;
      yield { byteOffset, byteLength: Math.min(end * tree.blockSize, tree.sizeBytes) - byteOffset };
      start = end < to ? tree.nextNull(end) : to;
    }
  }
}

export function everything(tree: TreeFile): readonly BlockRange[] {
  return [[0, tree.blockCount]];
}

/** What is done about a block that the receiver can't give. Undefined: the fetch fails. */
export interface LostHandling {
  /** This error says that it can't give a block, or not as the point has it. */
  readonly isLost: (error: unknown) => boolean;
  readonly onLost: (blockIndex: number) => Promise<void>;
}

/**
 * Fetches a group; the receiver may answer it in parts. Each part is a batch whose contents are still to be
 * proven. In device order, also blocks that are lost: a group with one of them is halved until it is alone.
 */
export async function fetchGroup(
  receiver: BlockSource,
  point: Point,
  group: readonly number[],
  onBatch: (body: Uint8Array) => Promise<void>,
  lost?: LostHandling,
): Promise<void> {
  for (let wanted = group; wanted.length > 0; ) {
    try {
      wanted = wanted.slice(await fetchSome(receiver, point, wanted, onBatch));
    } catch (error) {
      const [first] = wanted;
      if (lost === undefined || first === undefined || !lost.isLost(error)) throw error;
      if (wanted.length === 1) return lost.onLost(first);
      const half = wanted.length >> 1;
      for (const part of [wanted.slice(0, half), wanted.slice(half)])
        await fetchGroup(receiver, point, part, onBatch, lost);
      return;
    }
  }
}

/** @returns how many of them are done */
async function fetchSome(
  receiver: BlockSource,
  point: Point,
  wanted: readonly number[],
  onBatch: (body: Uint8Array) => Promise<void>,
): Promise<number> {
  const body = await receiver.blocks(point.id, wanted);
  const entryCount = answeredCount(body, wanted);
  if (entryCount < 1) throw wrongAnswer(point);
  await onBatch(body).catch((error: unknown) => {
    throw unprovenBatch(point, error);
  });
  native.freeBuffer(body);
  return entryCount;
}

/**
 * What the native decoder calls a batch that it does not accept: `bad-checksum`,
 * `bad-digest`, `truncated`, ...
 */
const DECODER_CODE = /^(bad-[a-z]+|truncated|geometry-mismatch)$/;

function unprovenBatch(point: Point, error: unknown): unknown {
  const { code } = error as NativeError;
  if (error instanceof StillpointError || !DECODER_CODE.test(code)) return error;
  return new StillpointError(code === 'bad-digest' ? 'bad-digest' : 'bad-batch', {
    thing: `blocks of point ${pointLabel(point)}`,
    reason: `the receiver sent something other than the point holds: ${(error as Error).message}`,
    remedy: 'Check the store with "stillpoint verify".',
    cause: error,
  });
}

function wrongAnswer(point: Point): StillpointError {
  return new StillpointError('bad-batch', {
    thing: `blocks of point ${pointLabel(point)}`,
    reason: 'the receiver answered with blocks that were not asked for',
    remedy: 'Check that both sides run the same version.',
  });
}
