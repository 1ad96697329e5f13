/** Partition tables, and loop devices with partitions, made without a partitioning tool. */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
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

const GPT_ENTRIES_SECTORS = 32;
const GPT_ENTRY_BYTES = 128;

/** A GPT with a new disk GUID and one partition, and its protective MBR; no backup table. */
export async function writeGpt(path: string, partition: MbrPartition): Promise<void> {
  const file = await open(path, 'r+');
  try {
    const sectors = Math.floor((await file.stat()).size / SECTOR_BYTES);
    const entries = Buffer.alloc(GPT_ENTRIES_SECTORS * SECTOR_BYTES);
    Buffer.from('af3dc60f838472478e793d69d8477de4', 'hex').copy(entries); // Linux data
    randomBytes(16).copy(entries, 16);
    entries.writeBigUInt64LE(BigInt(partition.start), 32);
    entries.writeBigUInt64LE(BigInt(partition.start + partition.length - 1), 40);
    const header = Buffer.alloc(92);
    header.write('EFI PART');
    header.writeUInt32LE(0x10000, 8);
    header.writeUInt32LE(header.length, 12);
    header.writeBigUInt64LE(1n, 24);
    header.writeBigUInt64LE(BigInt(sectors - 1), 32);
    header.writeBigUInt64LE(BigInt(2 + GPT_ENTRIES_SECTORS), 40);
    header.writeBigUInt64LE(BigInt(sectors - 2 - GPT_ENTRIES_SECTORS), 48);
    randomBytes(16).copy(header, 56);
    header.writeBigUInt64LE(2n, 72);
    header.writeUInt32LE(entries.length / GPT_ENTRY_BYTES, 80);
    header.writeUInt32LE(GPT_ENTRY_BYTES, 84);
    header.writeUInt32LE(crc32(entries), 88);
    header.writeUInt32LE(crc32(header), 16);
    const protective = Buffer.alloc(SECTOR_BYTES);
    protective.writeUInt8(0xee, 450);
    protective.writeUInt32LE(1, 454);
    protective.writeUInt32LE(sectors - 1, 458);
    protective.writeUInt16LE(0xaa55, 510);
    await file.write(protective, 0, SECTOR_BYTES, 0);
    await file.write(header, 0, header.length, SECTOR_BYTES);
    await file.write(entries, 0, entries.length, 2 * SECTOR_BYTES);
  } finally {
    await file.close();
  }
}
