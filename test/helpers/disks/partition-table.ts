/** Partition tables, and loop devices with partitions, made without a partitioning tool. */
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

/**
 * Writes an MBR to an image and attaches it. The partitions are `<loop>p1`, ...; their
 * UUIDs `<diskId>-01`, ...
 */
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

const GPT_ENTRIES_BYTES = 128 * 128;
const GPT_ENTRIES_SECTORS = GPT_ENTRIES_BYTES / SECTOR_BYTES;
/** Linux file system data. */
const GPT_TYPE = Buffer.from('af3dc60f838472478e793d69d8477de4', 'hex');

/** Both tables of a GPT, with a protective MBR. */
export async function writeGpt(
  path: string,
  diskId: number,
  partitions: readonly MbrPartition[],
): Promise<void> {
  const file = await open(path, 'r+');
  const sectors = (await file.stat()).size / SECTOR_BYTES;
  const entries = Buffer.alloc(GPT_ENTRIES_BYTES);
  for (const [index, { start, length }] of partitions.entries()) {
    const at = 128 * index;
    GPT_TYPE.copy(entries, at);
    entries.writeUInt32LE(diskId + index + 1, at + 16);
    entries.writeBigUInt64LE(BigInt(start), at + 32);
    entries.writeBigUInt64LE(BigInt(start + length - 1), at + 40);
  }
  const last = sectors - 1;
  const header = (own: number, other: number, entriesAt: number): Buffer => {
    const sector = Buffer.alloc(SECTOR_BYTES);
    sector.write('EFI PART', 'latin1');
    sector.writeUInt32LE(0x1_0000, 8);
    sector.writeUInt32LE(92, 12);
    const numbers = [own, other, 2 + GPT_ENTRIES_SECTORS, last - GPT_ENTRIES_SECTORS - 1];
    for (const [index, number] of numbers.entries()) sector.writeBigUInt64LE(BigInt(number), 24 + 8 * index);
    sector.writeUInt32LE(diskId, 56);
    sector.writeBigUInt64LE(BigInt(entriesAt), 72);
    sector.writeUInt32LE(128, 80);
    sector.writeUInt32LE(128, 84);
    sector.writeUInt32LE(crc32(entries), 88);
    sector.writeUInt32LE(crc32(sector.subarray(0, 92)), 16);
    return sector;
  };
  const writeAt = (sector: number, bytes: Buffer) =>
    file.write(bytes, 0, bytes.length, sector * SECTOR_BYTES);
  const mbr = Buffer.alloc(SECTOR_BYTES);
  mbr.writeUInt8(0xee, 450);
  mbr.writeUInt32LE(1, 454);
  mbr.writeUInt32LE(last, 458);
  mbr.writeUInt16LE(0xaa55, 510);
  await writeAt(0, mbr);
  await writeAt(1, header(1, last, 2));
  await writeAt(2, entries);
  await writeAt(last - GPT_ENTRIES_SECTORS, entries);
  await writeAt(last, header(last, 1, last - GPT_ENTRIES_SECTORS));
  await file.close();
}
