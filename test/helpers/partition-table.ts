/** Loop devices with partitions, made without a partitioning tool. */
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';
import { attachLoop, run } from './loop-device.js';

const SECTOR_BYTES = 512;

export interface MbrPartition {
  /** In 512-byte sectors. */
  readonly start: number;
  readonly length: number;
}

/** Writes an MBR to an image and attaches it. The partitions are `<loop>p1`, ...; their UUIDs `<diskId>-01`, ... */
export async function attachPartitioned(
  t: ExecutionContext,
  path: string,
  diskId: number,
  partitions: readonly MbrPartition[],
): Promise<string> {
  await writeMbr(path, diskId, partitions);
  const loop = attachLoop(t, path, { partitionScan: true });
  for (const [index, { start, length }] of partitions.entries()) {
    // A kernel without MBR support has to be told.
    if (!existsSync(`${loop}p${index + 1}`)) {
      run('addpart', loop, String(index + 1), String(start), String(length));
    }
  }
  return loop;
}

async function writeMbr(path: string, diskId: number, partitions: readonly MbrPartition[]): Promise<void> {
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
