/** Which bytes of a device are swap: the kernel writes there whenever it likes, and nobody restores it. */
import { stat } from 'node:fs/promises';
import { readBlockFamily, readFact } from './block-sysfs.js';
import { deviceNumber } from './in-use.js';
import { unescapeOctal } from './mount-table.js';

const SECTOR_BYTES = 512;

export interface SwapRange {
  readonly path: string;
  readonly beginByte: number;
  readonly endByte: number;
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
    const swapNumber = deviceNumber(status.rdev);
    const node = [family.self, ...family.partitions].find((one) => one.number === swapNumber);
    if (node === undefined) continue;
    const start = node === family.self ? '0' : await readFact(node.directory, 'start');
    const size = await readFact(node.directory, 'size');
    if (start === null || size === null) continue;
    const beginByte = Number(start) * SECTOR_BYTES;
    ranges.push({ path, beginByte, endByte: beginByte + Number(size) * SECTOR_BYTES });
  }
  return ranges;
}
