/** An MBR partition table, made without a tool for it. */
import { open } from 'node:fs/promises';

const SECTOR_BYTES = 512;

export interface MbrPartition {
  /** In 512-byte sectors. */
  readonly start: number;
  readonly length: number;
}

/** The kernel then names the partitions' UUIDs `<diskId>-01`, ... */
export async function writeMbr(
  path: string,
  diskId: number,
  partitions: readonly MbrPartition[],
): Promise<void> {
  const sector = Buffer.alloc(SECTOR_BYTES);
  sector.writeUInt32LE(diskId, 440);
  for (const [index, { start, length }] of partitions.entries()) {
    const at = 446 + 16 * index;
    sector.writeUInt8(0x83, at + 4); // Linux
    sector.writeUInt32LE(start, at + 8);
    sector.writeUInt32LE(length, at + 12);
  }
  sector.writeUInt16LE(0xaa55, 510);
  const file = await open(path, 'r+');
  await file.write(sector, 0, SECTOR_BYTES, 0);
  await file.close();
}
