/** What a commit says of its session, from plain facts. */
import { blockCount, blockLength, type Geometry } from '../../domain/blocks/geometry.js';
import type { BadRange } from '../../domain/point/point.js';
import type { LeafOverlay } from '../../native/index.js';

export function presentBytes(overlay: LeafOverlay, size: Geometry): number {
  const lastIndex = blockCount(size) - 1;
  const missing =
    lastIndex >= 0 && overlay.get(lastIndex) !== null ? size.blockSize - blockLength(size, lastIndex) : 0;
  return overlay.presentCount * size.blockSize - missing;
}

export function describeBadRanges(badRanges: readonly BadRange[]): string {
  const bytesOf = (content: BadRange['content']) =>
    badRanges.filter((range) => range.content === content).reduce((sum, range) => sum + range.byteLength, 0);
  return (
    `${badRanges.length} ranges could not be read: ${bytesOf('previous')} bytes keep the last good content, ` +
    `${bytesOf('filler')} bytes are marked as unreadable`
  );
}
