/** The differences between two points, from their trees alone, as events of bounded size. */
import { setImmediate } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { DIFF_RANGES_MAX } from '../../domain/base/limits.js';
import { rangeBytes } from '../../domain/blocks/block-ranges.js';
import { toBlocks } from '../../domain/point/excluded.js';
import { type Point, pointLabel, treeOf } from '../../domain/point/point.js';
import type { DiffEvent } from '../../domain/session/messages.js';
import { type DiffRange, treeDiff } from '../../domain/tree/tree-diff.js';
import type { PointReader } from './reader.js';

/**
 * Level-1 nodes that differ, between two events at most: who waits for the next one must not
 * take the receiver for dead.
 */
const NODES_PER_EVENT = 1024;
/** Nodes that are in memory are read without waiting for anything: others must have their turn. */
const NODES_PER_TURN = 64;

/** @throws StillpointError `bad-geometry`: another block size; `store-damaged`: a node can't be read */
export async function* pointDiff(
  reader: PointReader,
  from: Point,
  to: Point,
): AsyncGenerator<DiffEvent, void> {
  const { blockSize } = to.geometry;
  if (from.geometry.blockSize !== blockSize) {
    throw new StillpointError('bad-geometry', {
      thing: `points ${pointLabel(from)} and ${pointLabel(to)}`,
      reason: `their blocks have ${from.geometry.blockSize} and ${blockSize} bytes, so their trees can't be compared`,
      remedy: 'Choose points from before or from after the change of the block size.',
    });
  }
  const both = { sizeBytes: Math.max(from.geometry.sizeBytes, to.geometry.sizeBytes), blockSize };
  let [rangeCount, blockCount, changedBytes, zeroBlockCount] = [0, 0, 0, 0];
  let waiting: DiffRange[] = [];
  let nodeCount = 0;
  const steps = treeDiff({
    from: treeOf(from),
    to: treeOf(to),
    readFrom: reader.readNodesOf(from),
    readTo: reader.readNodesOf(to),
    skipped: toBlocks([...(from.excluded ?? []), ...(to.excluded ?? [])], blockSize),
  });
  for await (const { ranges, blockIndex } of steps) {
    for (const range of ranges) {
      const [start, end, zeroBlocks] = range;
      rangeCount += 1;
      blockCount += end - start;
      changedBytes += rangeBytes(both, start, end);
      zeroBlockCount += zeroBlocks;
      waiting.push(range);
      if (waiting.length < DIFF_RANGES_MAX) continue;
      yield { type: 'ranges', ranges: waiting };
      waiting = [];
    }
    nodeCount += 1;
    if (nodeCount % NODES_PER_TURN === 0) await setImmediate();
    if (nodeCount % NODES_PER_EVENT !== 0) continue;
    yield { type: 'progress', doneBytes: rangeBytes(both, 0, blockIndex), totalBytes: both.sizeBytes };
  }
  if (waiting.length > 0) yield { type: 'ranges', ranges: waiting };
  yield { type: 'summary', rangeCount, blockCount, changedBytes, zeroBlockCount };
}
