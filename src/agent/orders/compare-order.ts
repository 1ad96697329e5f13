/** An ordered comparison, with the settings of the device; its result is bounded for the wire. */
import { StillpointError } from '../../domain/base/errors.js';
import { COMPARED_RANGES_MAX, COMPARED_REASON_CHARS_MAX } from '../../domain/base/limits.js';
import type { ComparedRange, CompareWish, Comparison } from '../../domain/order/comparison.js';
import type { Point } from '../../domain/point/point.js';
import type { ConfiguredSettings } from '../backup/configured.js';
import { unlessAborted } from '../common/cancel.js';
import { runCompare } from '../compare/compare.js';
import { shipDifferences } from '../compare/ship.js';
import { countBlocks, rangesOf, type Told } from '../compare/told.js';

export interface ComparedByOrder {
  /** That was made, or else that was compared. */
  readonly point: Point;
  readonly wireBytes: number;
  readonly warnings: readonly string[];
  readonly comparison: Comparison;
}

/** @throws StillpointError `point-unknown`: there is nothing to compare with */
export async function compareByOrder(
  { deep, ship }: CompareWish,
  settings: ConfiguredSettings,
): Promise<ComparedByOrder> {
  const { receiver, device, signal } = settings;
  const last = (await unlessAborted(signal, receiver.points(device, { last: true }))).at(-1);
  if (last === undefined) {
    throw new StillpointError('point-unknown', {
      thing: `device ${device}`,
      reason: 'it has no point to compare with',
      remedy: 'Back it up first.',
    });
  }
  if (ship) {
    const { made, told } = await shipDifferences({ ...settings, point: last, deep });
    return resultOf(made, last, told);
  }
  const { path, stateDirectory, provider, fuzzy, onEvent } = settings;
  const told = await runCompare({
    ...{ receiver, point: last, path, stateDirectory, provider, fuzzy, deep, signal, onEvent },
  });
  return resultOf(last, last, told);
}

function resultOf(point: Point, compared: Point, told: Told): ComparedByOrder {
  const { warnings, wireBytes } = told;
  return { point, wireBytes, warnings, comparison: comparisonOf(compared, told) };
}

function comparisonOf(point: Point, told: Told): Comparison {
  const ranges: ComparedRange[] = [];
  let rangeCount = 0;
  for (const range of rangesOf(point, told)) {
    rangeCount += 1;
    if (ranges.length < COMPARED_RANGES_MAX) ranges.push(bounded(range));
  }
  const { differing, damaged, unreadableBlocks, deviceSizeBytes, scannedBytes, wireBytes, kind } = told;
  return {
    ...{ ranges, rangeCount, deviceSizeBytes, scannedBytes, wireBytes, kind, comparedId: point.id },
    differingBlocks: differing?.count ?? null,
    unreadableBlocks: unreadableBlocks.length,
    damagedBlocks: countBlocks(damaged),
  };
}

function bounded({ reason, ...range }: ComparedRange): ComparedRange {
  return reason === undefined ? range : { ...range, reason: reason.slice(0, COMPARED_REASON_CHARS_MAX) };
}
