/** What device mapper says of a snapshot and of a thin pool at this moment. */
import { basename } from 'node:path';
import type { PoolUse } from '../../../domain/volume/room.js';
import type { LvmHost } from './host.js';

const SECTOR_BYTES = 512;

export interface StoreStatus {
  readonly sizeBytes: number;
  readonly usedBytes: number;
}

async function statusOf(host: LvmHost, devicePath: string, target: string): Promise<string[]> {
  const text = await host.run('dmsetup', ['status', basename(devicePath)]);
  const [, , is, ...words] = text.trim().split(/\s+/);
  return is === target ? words : ['none'];
}

/** @returns in place of numbers what device mapper says, as `Invalid`: nothing can be read any more. */
export async function thickStatus(host: LvmHost, devicePath: string): Promise<StoreStatus | string> {
  const [word = ''] = await statusOf(host, devicePath, 'snapshot');
  const match = /^(\d+)\/(\d+)$/.exec(word);
  if (match === null) return word;
  return { usedBytes: Number(match[1]) * SECTOR_BYTES, sizeBytes: Number(match[2]) * SECTOR_BYTES };
}

/** Null: it can be read. */
export async function thinTrouble(host: LvmHost, devicePath: string): Promise<string | null> {
  const [word = ''] = await statusOf(host, devicePath, 'thin');
  return /^\d+$/.test(word) ? null : word;
}

export interface PoolStatus extends PoolUse {
  /** Somebody holds a copy of its metadata. */
  readonly isHeld: boolean;
}

/** Of a device mapper name: the pool itself is behind the volume's name, as LVM makes it. */
export const poolDevice = (devicePath: string): string => `${basename(devicePath)}-tpool`;

/** @returns in place of numbers what device mapper says, as `Fail`. */
export async function poolStatus(
  host: LvmHost,
  devicePath: string,
  poolBytes: number,
): Promise<PoolStatus | string> {
  const words = await statusOf(host, poolDevice(devicePath), 'thin-pool');
  const [transaction = '', metadata = '', data = '', held = ''] = words;
  const [usedMetadata = 0, allMetadata = 0] = metadata.split('/').map(Number);
  const [usedData = 0, allData = 0] = data.split('/').map(Number);
  if (!/^\d+$/.test(transaction) || !(allMetadata > 0) || !(allData > 0)) return transaction;
  return {
    dataBytes: poolBytes,
    usedDataBytes: Math.ceil((poolBytes * usedData) / allData),
    metadataPercent: (usedMetadata / allMetadata) * 100,
    isHeld: held !== '-',
  };
}
