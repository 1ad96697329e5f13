/** What a point leaves out, at a restore: the target keeps what it has there, unless zeros are asked for. */
import { type BlockRange, withoutRanges } from '../../domain/blocks/block-ranges.js';
import { excludedBlocks, excludedBytes, excludedReasons } from '../../domain/point/excluded.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { TreeFile } from '../../native/index.js';
import { everything } from '../target/block-requests.js';

/** Blocks of the target that are neither read nor written. */
export function leftAlone(point: Point, zeroExcluded = false): readonly BlockRange[] {
  return zeroExcluded ? [] : excludedBlocks(point);
}

/** Beforehand. @returns sentences without their ends */
export function excludedNotices(point: Point, target: string, zeroExcluded = false): string[] {
  const { excluded = [] } = point;
  if (excluded.length === 0) return [];
  const fate =
    target === '-'
      ? 'they are zeros in the stream'
      : zeroExcluded
        ? 'zeros are written there'
        : 'a device or image that has something there keeps it, a new image has zeros';
  const what = `${excludedReasons(excluded)} (${excludedBytes(excluded)} bytes)`;
  return [`${pointLabel(point)} leaves out ${what}: ${fate}`];
}

export function toWrite(tree: TreeFile, alone: readonly BlockRange[]): readonly BlockRange[] {
  return withoutRanges(everything(tree), alone);
}
