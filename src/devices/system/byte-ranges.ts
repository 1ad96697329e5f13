/** Where a partition lies on its disk, in bytes. */
import { type BlockFamily, readFact } from './block-sysfs.js';

const SECTOR_BYTES = 512;

export interface ByteRange {
  readonly beginByte: number;
  readonly endByte: number;
}

/**
 * @param number of a device, `MAJOR:MINOR`
 * @returns where on the family's own device it lies; null: it is neither that device nor a partition of it.
 */
export async function byteRangeOn(family: BlockFamily, number: string): Promise<ByteRange | null> {
  const node = [family.self, ...family.partitions].find((one) => one.number === number);
  if (node === undefined) return null;
  const start = node === family.self ? '0' : await readFact(node.directory, 'start');
  const size = await readFact(node.directory, 'size');
  if (start === null || size === null) return null;
  const beginByte = Number(start) * SECTOR_BYTES;
  return { beginByte, endByte: beginByte + Number(size) * SECTOR_BYTES };
}
