/** What differs between two points of the memory store. */
import { StillpointError } from '../../../src/domain/base/errors.js';
import { blockCount, blockLength } from '../../../src/domain/blocks/geometry.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { DiffEvent } from '../../../src/domain/session/messages.js';
import type { DiffRange } from '../../../src/domain/tree/tree-diff.js';
import type { Leaves } from './memory-capture.js';

interface HeldPoint {
  readonly point: Point;
  readonly leaves: Leaves;
}

export function* diffOf(before: HeldPoint, after: HeldPoint): Generator<DiffEvent> {
  const [from, to] = [before.point, after.point];
  if (from.geometry.blockSize !== to.geometry.blockSize) {
    throw new StillpointError('bad-geometry', { thing: 'points', reason: 'their block sizes differ' });
  }
  const larger = from.geometry.sizeBytes > to.geometry.sizeBytes ? from.geometry : to.geometry;
  const ranges: [number, number, number][] = [];
  let [blocks, changedBytes, zeroBlockCount] = [0, 0, 0];
  for (let blockIndex = 0; blockIndex < blockCount(larger); blockIndex += 1) {
    const [old, now] = [before.leaves.get(blockIndex), after.leaves.get(blockIndex)];
    if (old === now || (old !== undefined && now?.equals(old) === true)) continue;
    const isZeroed = now === undefined && blockIndex < blockCount(to.geometry) ? 1 : 0;
    const last = ranges.at(-1);
    if (last?.[1] === blockIndex) {
      last[1] += 1;
      last[2] += isZeroed;
    } else ranges.push([blockIndex, blockIndex + 1, isZeroed]);
    blocks += 1;
    changedBytes += blockLength(larger, blockIndex);
    zeroBlockCount += isZeroed;
  }
  if (ranges.length > 0) yield { type: 'ranges', ranges: ranges as readonly DiffRange[] };
  yield { type: 'progress', doneBytes: 1, totalBytes: 1 };
  yield { type: 'summary', rangeCount: ranges.length, blockCount: blocks, changedBytes, zeroBlockCount };
}
