/** Stretches of a device as people write them: `0-1G,4096-8192`, `1G-`. Pure. */
import { StillpointError } from '../../domain/base/errors.js';
import { DEVICE_SIZE_MAX } from '../../domain/base/limits.js';
import { parseSize } from '../../domain/base/quantities.js';

const RANGES_MAX = 1000;

/**
 * Bytes [start, end), ascending, apart. `START-END` and `START-` (to the end of the device), with units.
 * @throws StillpointError `usage`
 */
export function parseByteRanges(text: string): (readonly [number, number])[] {
  const ranges = text.split(',').map((part): readonly [number, number] => {
    const match = /^\s*([^-]+)-([^-]*)$/.exec(part);
    if (match === null) throw badRanges(text, `"${part}" is not START-END`);
    const start = parseSize('range', match[1] ?? '');
    const end = match[2]?.trim() === '' ? DEVICE_SIZE_MAX : parseSize('range', match[2] ?? '');
    if (start >= end) throw badRanges(text, `"${part}" is empty`);
    return [start, end];
  });
  if (ranges.length > RANGES_MAX) throw badRanges(text, `there are more than ${RANGES_MAX}`);
  for (const [n, [start]] of ranges.entries()) {
    if (start < (ranges[n - 1]?.[1] ?? 0)) throw badRanges(text, 'they overlap or do not ascend');
  }
  return ranges;
}

function badRanges(text: string, reason: string): StillpointError {
  return new StillpointError('usage', {
    thing: `ranges ${JSON.stringify(text.slice(0, 200))}`,
    reason,
    remedy: 'Write for example 0-1G,10G-12G or 500G-; the end is not part of a range.',
  });
}
