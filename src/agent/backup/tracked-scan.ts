/** A scan of only what a tracker names, and the check that the tracker can be believed. */
import type { TrackedChanges } from '../../capture/ports.js';
import { type BlockRange, mergeRanges } from '../../domain/blocks/block-ranges.js';
import type { LeafOverlay } from '../../native/index.js';

/** The tracker is not believed: the session ends, and another one reads everything. The message is a clause. */
export class ChangesDoubted extends Error {
  override readonly name = 'ChangesDoubted';
}

/** What the scan reads. Undefined: everything. */
export function rangesToScan(changes: TrackedChanges | null): readonly BlockRange[] | undefined {
  if (changes === null) return undefined;
  return mergeRanges(changes.ranges, changes.sample);
}

/**
 * After the scan: no block of the sample may differ from the base point.
 * @throws ChangesDoubted
 */
export function checkSample(changes: TrackedChanges, overlay: LeafOverlay): void {
  const missed = changes.sample.filter((blockIndex) => overlay.get(blockIndex) !== null);
  if (missed.length === 0) return;
  throw new ChangesDoubted(
    `it missed a change: block ${missed[0]} differs from the last point (${missed.length} of ${changes.sample.length} blocks sampled)`,
  );
}
