/** What of a point is not the device's, since it could not be read there. */
import type { Point } from '../../domain/point/point.js';

const RANGES_NAMED_MAX = 10;

export function badRangeWarnings({ badRanges, device, sequence }: Point): string[] {
  const named = badRanges.slice(0, RANGES_NAMED_MAX).map(({ byteOffset, byteLength, content }) => {
    const held = content === 'previous' ? 'the content of an earlier point' : 'a marker, no data';
    return `${device}@${sequence}: ${byteLength} bytes at byte ${byteOffset} could not be read when it was taken; they hold ${held}`;
  });
  const rest = badRanges.length - named.length;
  return rest > 0 ? [...named, `${device}@${sequence}: ${rest} more ranges could not be read`] : named;
}
