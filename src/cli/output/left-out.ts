/** What a point leaves out, for people. */
import { excludedBytes, excludedReasons } from '../../domain/point/excluded.js';
import type { Point } from '../../domain/point/point.js';
import { formatBytes } from './format.js';

/** @returns one line, or none */
export function leftOutLines({ excluded = [] }: Pick<Point, 'excluded'>): string[] {
  return excluded.length === 0
    ? []
    : [`${excludedReasons(excluded)}: ${formatBytes(excludedBytes(excluded))}, zeros in the point`];
}
