/**
 * Which blocks of a point the store can still give: the point's tree and blocks read from their packs,
 * decoded and digested. Damage is marked in the index on the way (RecordReader), so that the device's next
 * session heals it.
 *
 * In device order. Memory: one path of the tree, CHECKED_BYTES of blocks, and a run of damage that may still
 * grow.
 */

import { TREE_FANOUT } from '../../domain/base/limits.js';
import { type BlockRange, intersectRanges, rangeBytes } from '../../domain/blocks/block-ranges.js';
import { type Point, pointLabel, treeOf } from '../../domain/point/point.js';
import type { CheckDamage, CheckEvent, VerifyProgress } from '../../domain/session/messages.js';
import { type LostLeaves, leafParts, type ReadNodes } from '../../domain/tree/digest-tree.js';
import { type Digester, RECORD_KIND_BLOCK } from '../../native/index.js';
import {
  CHECKED_BYTES,
  type Leaf,
  newLeaves,
  partsOf,
  readCheckedBlocks,
  readCheckedNodes,
} from '../records/checked-records.js';
import type { RecordReader } from '../records/record-reader.js';

/**
 * Between two events while all is well, about: nobody is to take the receiver for dead, and a slow
 * link has better to carry.
 */
const PROGRESS_MS = 2_000;
const LEAVES_MAX = 64 * TREE_FANOUT;
const EMPTY = new Uint8Array(0);
const NOWHERE = { reason: 'it was found damaged, or lost, and no pack has another copy', packId: null };

export interface CheckOptions {
  readonly records: RecordReader;
  readonly point: Point;
  /** Ascending, apart, inside the point. */
  readonly ranges: readonly BlockRange[];
  /** Only look where blocks are: what is known to be damaged. */
  readonly known: boolean;
  /** Monotonic. */
  readonly nowMs: () => number;
}

export async function* checkPoint(options: CheckOptions): AsyncGenerator<CheckEvent, void> {
  const { records, point, ranges, known, nowMs } = options;
  const { blockSize } = point.geometry;
  const damaged = new DamagedRuns();
  let blockCount = 0;
  let waiting: Leaf[] = [];
  let toldMs = nowMs();

  async function checkWaiting(): Promise<void> {
    if (known) {
      const located = await records.locate(
        RECORD_KIND_BLOCK,
        waiting.map(({ digest }) => digest),
      );
      for (const [i, at] of located.entries()) {
        const { blockIndex } = waiting[i] as Leaf;
        if (at === null) damaged.add(blockIndex, blockIndex + 1, NOWHERE);
      }
      waiting = [];
      return;
    }
    for (const part of partsOf(waiting, CHECKED_BYTES / blockSize)) {
      const results = await readCheckedBlocks(records, part);
      blockCount += part.length;
      for (const [i, result] of results.entries()) {
        const blockIndex = part[i]?.blockIndex ?? 0;
        if ('damage' in result) damaged.add(blockIndex, blockIndex + 1, result.damage);
      }
    }
    waiting = [];
  }

  async function addLost({ start, end, digest }: LostLeaves): Promise<void> {
    // It was looked for just now: the reader tells why it was in vain, and looks no further.
    const [result] = await readCheckedNodes(records, [Buffer.from(digest)]);
    const damage = result !== undefined && 'damage' in result ? result.damage : null;
    const reason = `a node of the tree of ${pointLabel(point)} can't be read: ${damage?.reason ?? 'its read failed'}`;
    for (const part of intersectRanges(ranges, start, end)) {
      damaged.add(...part, { reason, packId: damage?.packId ?? null });
    }
  }

  if (!hasItsRoot(point, records.digester)) {
    // There is nothing to hold the blocks against.
    const reason = `the manifest of ${pointLabel(point)} names a root that its tree does not have`;
    for (const range of ranges) damaged.add(...range, { reason, packId: null });
  } else {
    const isWanted = (start: number, end: number) => intersectRanges(ranges, start, end).length > 0;
    for await (const part of leafParts(treeOf(point), null, checkedNodes(records), isWanted)) {
      if ('content' in part)
        waiting.push(...leavesIn(ranges, newLeaves(part.blockIndex, part.content, EMPTY)));
      const isFull = waiting.length * blockSize >= CHECKED_BYTES || waiting.length >= LEAVES_MAX;
      if (isFull || !('content' in part)) await checkWaiting();
      if (!('content' in part)) await addLost(part);
      yield* damaged.taken();
      if (nowMs() - toldMs < PROGRESS_MS) continue;
      toldMs = nowMs();
      yield progressAt(point, ranges, 'content' in part ? part.blockIndex : part.end);
    }
    await checkWaiting();
  }
  yield* damaged.taken();
  yield* damaged.last();
  yield progressAt(point, ranges, Number.POSITIVE_INFINITY);
  yield { type: 'summary', blockCount, damagedBlocks: damaged.blockCount };
}

/** Joins neighbours that the same pack should have; the first one's reason stands for all. */
class DamagedRuns {
  blockCount = 0;
  #open: { start: number; end: number; reason: string; packId: string | null } | null = null;
  #ended: CheckDamage[] = [];

  add(start: number, end: number, { reason, packId }: { reason: string; packId: string | null }): void {
    this.blockCount += end - start;
    if (this.#open?.end === start && this.#open.packId === packId) {
      this.#open.end = end;
      return;
    }
    this.#ended.push(...this.last());
    this.#open = { start, end, reason, packId };
  }

  /** Runs that won't go on. */
  taken(): CheckDamage[] {
    const ended = this.#ended;
    this.#ended = [];
    return ended;
  }

  *last(): Generator<CheckDamage> {
    if (this.#open === null) return;
    const { start, end, reason } = this.#open;
    this.#open = null;
    yield { type: 'damaged', start, end, reason };
  }
}

function checkedNodes(records: RecordReader): ReadNodes {
  return async (digests) => {
    const results = await readCheckedNodes(
      records,
      digests.map((digest) => Buffer.from(digest)),
    );
    return results.map((result) => ('record' in result ? result.record : null));
  };
}

function hasItsRoot({ geometry: { sizeBytes, blockSize }, root, top }: Point, digester: Digester): boolean {
  return digester.rootDigest(sizeBytes, blockSize, Buffer.from(top, 'hex')).toString('hex') === root;
}

/** @param leaves of one node */
function leavesIn(ranges: readonly BlockRange[], leaves: readonly Leaf[]): Leaf[] {
  const [first, last] = [leaves[0], leaves.at(-1)];
  if (first === undefined || last === undefined) return [];
  const wanted = intersectRanges(ranges, first.blockIndex, last.blockIndex + 1);
  return leaves.filter(({ blockIndex }) =>
    wanted.some(([start, end]) => blockIndex >= start && blockIndex < end),
  );
}

/** In bytes of the ranges. */
function progressAt({ geometry }: Point, ranges: readonly BlockRange[], blockIndex: number): VerifyProgress {
  let [doneBytes, totalBytes] = [0, 0];
  for (const [start, end] of ranges) {
    totalBytes += rangeBytes(geometry, start, end);
    if (blockIndex > start) doneBytes += rangeBytes(geometry, start, Math.min(end, blockIndex));
  }
  return { type: 'progress', doneBytes, totalBytes };
}
