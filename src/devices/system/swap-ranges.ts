/** Which bytes of a device are swap: the kernel writes there whenever it likes, and nobody restores it. */
import { stat } from 'node:fs/promises';
import { readBlockFamily, readFact } from './block-sysfs.js';
import { type ByteRange, byteRangeOn } from './byte-ranges.js';
import { deviceNumber } from './in-use.js';
import { unescapeOctal } from './mount-table.js';

export interface SwapRange extends ByteRange {
  readonly path: string;
}

/**
 * Of the device itself and of its partitions.
 * @param number `MAJOR:MINOR`
 */
export async function swapRangesOf(number: string): Promise<SwapRange[]> {
  const family = await readBlockFamily(number);
  const table = await readFact('/proc/swaps');
  if (family === null || table === null) return [];
  const ranges: SwapRange[] = [];
  for (const line of table.split('\n').slice(1)) {
    const path = unescapeOctal(line.split(/\s+/)[0] ?? '');
    const status = await stat(path, { bigint: true }).catch(() => null);
    if (status?.isBlockDevice() !== true) continue;
    const range = await byteRangeOn(family, deviceNumber(status.rdev));
    if (range !== null) ranges.push({ path, ...range });
  }
  return ranges;
}
