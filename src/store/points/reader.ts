/**
 * Trees and blocks of points, as agents ask for them. Its answers are checked; if it can't answer, the error
 * names the damage.
 */

import { StillpointError } from '../../domain/base/errors.js';
import {
  BLOCKS_ANSWER_STORED_BYTES,
  BLOCKS_REQUEST_MAX,
  DIGEST_BYTES,
  NODES_REQUEST_MAX,
  TREE_FANOUT,
} from '../../domain/base/limits.js';
import { blockCount, levelCount, treeHeight } from '../../domain/blocks/geometry.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { NodeRequest } from '../../domain/session/messages.js';
import { isNull, type ReadNodes } from '../../domain/tree/digest-tree.js';
import { native, RECORD_KIND_BLOCK, type StoredBlocks } from '../../native/index.js';
import type { Location } from '../index/record-index.js';
import { isDataError } from '../packs/contents.js';
import { digestKey, RECORD_HEADER_BYTES } from '../packs/entries.js';
import type { Damage } from '../records/other-copies.js';
import type { PackedRecords, RecordReader } from '../records/record-reader.js';

const EMPTY = Buffer.alloc(0);
const NULL_DIGEST = Buffer.alloc(DIGEST_BYTES);

export class PointReader {
  readonly #records: RecordReader;

  constructor(records: RecordReader) {
    this.#records = records;
  }

  /** Nodes of the point's tree by digest; a damaged one is an error. */
  readNodesOf(point: Point): ReadNodes {
    return (digests) =>
      this.#records.readNodes(digests, (_, damage) => {
        throw damagedError(point, 'a node of its tree', damage);
      });
  }

  /** Contents in the order of the requests; a NULL node's is empty. */
  async nodes(point: Point, requests: readonly NodeRequest[]): Promise<Buffer[]> {
    checkCount('nodes', requests.length, NODES_REQUEST_MAX);
    const height = treeHeight(point.geometry);
    for (const { level, index } of requests) {
      const isInTree =
        level >= 1 && level <= height && index >= 0 && index < Math.max(1, levelCount(point.geometry, level));
      if (!Number.isInteger(level) || !Number.isInteger(index) || !isInTree) {
        throw badRequest(
          `node ${index} of level ${level}`,
          `the tree of ${pointLabel(point)} has no such node`,
        );
      }
    }
    const levels = new Map<number, number[]>();
    for (const { level, index } of requests) levels.set(level, [...(levels.get(level) ?? []), index]);
    const contents = new Map<number, Map<number, Buffer>>();
    for (const [level, indexes] of levels) contents.set(level, await this.#nodesAt(point, level, indexes));
    return requests.map(({ level, index }) => contents.get(level)?.get(index) ?? EMPTY);
  }

  /** As Store.blocks. */
  async blocks<T>(
    point: Point,
    blockIndexes: readonly number[],
    take: (blocks: StoredBlocks) => Promise<T>,
  ): Promise<T> {
    checkBlocks(point, blockIndexes);
    const leaves = await this.#leaves(point, blockIndexes);
    const { ordinals, digests } = distinct(leaves);
    const { fitting, recordDigests, packed } = await this.#records.whileReading(async () => {
      const located = await this.#records.locate(RECORD_KIND_BLOCK, digests);
      const fitting = fittingPrefix(located, ordinals);
      const recordCount = Math.max(...ordinals.subarray(0, fitting)) + 1;
      const packed = await this.#records.readPacked(located.slice(0, recordCount));
      return { fitting, recordDigests: digests.slice(0, recordCount), packed };
    });
    const lend = async (packed: PackedRecords): Promise<T> => {
      const taken = await take({
        blockIndexes: Float64Array.from(blockIndexes.slice(0, fitting)),
        recordOrdinals: ordinals.subarray(0, fitting),
        ...packed,
        recordDigests: Buffer.concat(recordDigests),
      });
      for (const run of packed.runs) native.freeBuffer(run);
      return taken;
    };
    try {
      if (packed !== null) return await lend(packed);
    } catch (error) {
      if (!isDataError(error)) throw error;
    }
    // Something is damaged: each for itself, from another pack if need be.
    const results = await this.#records.read(RECORD_KIND_BLOCK, recordDigests);
    const runs = results.map((result, ordinal) => {
      if ('record' in result) return result.record;
      throw damagedError(point, `block ${blockIndexes[ordinals.indexOf(ordinal)]}`, result.damage);
    });
    return lend({
      runs,
      recordRuns: Uint32Array.from(runs.keys()),
      recordOffsets: new Uint32Array(runs.length),
    });
  }

  /** Leaf digests of blocks, none of which may be all zero: zeros are known from the tree. */
  async #leaves(point: Point, blockIndexes: readonly number[]): Promise<Buffer[]> {
    const nodes = blockIndexes.map((blockIndex) => Math.floor(blockIndex / TREE_FANOUT));
    const contents = await this.#nodesAt(point, 1, nodes);
    return blockIndexes.map((blockIndex) => {
      const content = contents.get(Math.floor(blockIndex / TREE_FANOUT)) ?? EMPTY;
      const leaf = childOf(content, blockIndex % TREE_FANOUT);
      if (!isNull(leaf)) return leaf;
      throw badRequest(
        `block ${blockIndex} of ${pointLabel(point)}`,
        'it is all zero, which its tree says; there is nothing to send',
      );
    });
  }

  /** Contents of nodes of one level by index, found from the top; NULL nodes are empty. */
  async #nodesAt(point: Point, level: number, indexes: readonly number[]): Promise<Map<number, Buffer>> {
    const unique = [...new Set(indexes)];
    let digests: Buffer[];
    if (level === treeHeight(point.geometry)) {
      digests = unique.map(() => Buffer.from(point.top, 'hex'));
    } else {
      const parents = await this.#nodesAt(
        point,
        level + 1,
        unique.map((index) => Math.floor(index / TREE_FANOUT)),
      );
      digests = unique.map((index) =>
        childOf(parents.get(Math.floor(index / TREE_FANOUT)) ?? EMPTY, index % TREE_FANOUT),
      );
    }
    const read = await this.readNodesOf(point)(digests.filter((digest) => !isNull(digest)));
    const contents = new Map<number, Buffer>();
    let next = 0;
    for (const [i, index] of unique.entries()) {
      contents.set(index, isNull(digests[i] ?? NULL_DIGEST) ? EMPTY : (read[next++] as Buffer));
    }
    return contents;
  }
}

export function damagedError(point: Point, what: string, damage: Damage): StillpointError {
  return new StillpointError('store-damaged', {
    thing: `point ${pointLabel(point)}`,
    reason: `${what} can't be read: ${damage.reason}`,
    remedy:
      'Run "stillpoint verify" to see what else is damaged. The next backup of the device sends again what the store lacks.',
  });
}

/** @throws StillpointError `bad-message` */
function checkBlocks(point: Point, blockIndexes: readonly number[]): void {
  checkCount('blocks', blockIndexes.length, BLOCKS_REQUEST_MAX);
  const count = blockCount(point.geometry);
  for (const [i, blockIndex] of blockIndexes.entries()) {
    const isAscending = i === 0 || blockIndex > (blockIndexes[i - 1] ?? -1);
    if (!Number.isInteger(blockIndex) || blockIndex < 0 || blockIndex >= count || !isAscending) {
      throw badRequest(
        `block ${blockIndex}`,
        `blocks of ${pointLabel(point)} are asked for in ascending order, from 0 to ${count - 1}`,
      );
    }
  }
}

/** Each digest once, in the order in which it comes first, and which of them each leaf is. */
function distinct(leaves: readonly Buffer[]): { readonly ordinals: Uint32Array; readonly digests: Buffer[] } {
  const ordinals = new Uint32Array(leaves.length);
  const digests: Buffer[] = [];
  const ordinalOf = new Map<string, number>();
  for (const [i, leaf] of leaves.entries()) {
    const ordinal = ordinalOf.get(digestKey(leaf)) ?? digests.length;
    if (ordinal === digests.length) digests.push(leaf);
    ordinalOf.set(digestKey(leaf), ordinal);
    ordinals[i] = ordinal;
  }
  return { ordinals, digests };
}

/**
 * How many blocks of the request fit into one answer. A block that can't be located counts as small:
 * reading it gives the error.
 */
function fittingPrefix(located: readonly (Location | null)[], ordinals: Uint32Array): number {
  let storedBytes = 0;
  let counted = 0;
  for (const [i, ordinal] of ordinals.entries()) {
    if (ordinal !== counted) continue;
    storedBytes += RECORD_HEADER_BYTES + (located[ordinal]?.storedLength ?? 0);
    counted += 1;
    if (storedBytes > BLOCKS_ANSWER_STORED_BYTES && i > 0) return i;
  }
  return ordinals.length;
}

function childOf(content: Buffer, i: number): Buffer {
  const at = i * DIGEST_BYTES;
  return at < content.length ? content.subarray(at, at + DIGEST_BYTES) : NULL_DIGEST;
}

function checkCount(what: string, count: number, max: number): void {
  if (count >= 1 && count <= max) return;
  throw badRequest(`request for ${count} ${what}`, `one request may ask for 1 to ${max}`);
}

function badRequest(thing: string, reason: string): StillpointError {
  return new StillpointError('bad-message', { thing, reason });
}
