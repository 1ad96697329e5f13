/**
 * The mark of a target that is being restored in place (docs/format.md section 8): it replaces the first
 * sector before anything else on the target changes, and the sector's true content replaces it when
 * everything else is written and flushed. So a target with the mark is neither what it was nor what it will
 * be; a target without it is one of the two.
 */

import { stat } from 'node:fs/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { type Device, native } from '../../native/index.js';
import { readBlockFamily } from '../system/block-sysfs.js';
import { deviceNumber } from '../system/in-use.js';

/** A sector of the smallest size: what disks write whole. */
export const MARK_BYTES = 512;
const MAGIC = 'SPHALF1\0';
const VERSION = 1;
const TEXT = 'Half restored by Stillpoint: not usable. Run the restore again.\n';

const VERSION_OFFSET = 8;
const POINT_ID_OFFSET = 16;
const ROOT_OFFSET = 32;
const SEQUENCE_OFFSET = 64;
const SIZE_OFFSET = 72;
const TIME_OFFSET = 80;
const NAME_LENGTHS_OFFSET = 88;
const AGENT_OFFSET = 96;
const DEVICE_OFFSET = 160;
const TEXT_OFFSET = 224;
/** Behind it zeros: where a boot sector has its signature. */
const CHECKSUM_OFFSET = 384;
const CHECKSUM_BYTES = 32;

/** The point that was being restored. */
export interface MarkedPoint {
  /** 32 hex digits. */
  readonly id: string;
  /** 64 hex digits. */
  readonly root: string;
  readonly agent: string;
  readonly device: string;
  readonly sequence: number;
  readonly sizeBytes: number;
}

export interface HalfRestored {
  /** Null: the mark is damaged, or a later version's. */
  readonly point: MarkedPoint | null;
  /** When the restore began to write, ISO 8601. */
  readonly startedAt: string | null;
}

export function encodeMark({ id, root, agent, device, sequence, geometry }: Point, startedAt: Date): Buffer {
  const bytes = Buffer.alloc(MARK_BYTES);
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(VERSION, VERSION_OFFSET);
  bytes.write(id, POINT_ID_OFFSET, 'hex');
  bytes.write(root, ROOT_OFFSET, 'hex');
  bytes.writeBigUInt64LE(BigInt(sequence), SEQUENCE_OFFSET);
  bytes.writeBigUInt64LE(BigInt(geometry.sizeBytes), SIZE_OFFSET);
  bytes.writeBigUInt64LE(BigInt(startedAt.getTime()), TIME_OFFSET);
  bytes.writeUInt8(bytes.write(agent, AGENT_OFFSET, DEVICE_OFFSET - AGENT_OFFSET), NAME_LENGTHS_OFFSET);
  bytes.writeUInt8(bytes.write(device, DEVICE_OFFSET, TEXT_OFFSET - DEVICE_OFFSET), NAME_LENGTHS_OFFSET + 1);
  bytes.write(TEXT, TEXT_OFFSET, 'latin1');
  native.checksum(bytes.subarray(0, CHECKSUM_OFFSET)).copy(bytes, CHECKSUM_OFFSET);
  return bytes;
}

/**
 * @returns null where there is no mark. Whatever else follows its magic number, nothing that begins so is a
 * whole device.
 */
export function decodeMark(bytes: Buffer): HalfRestored | null {
  if (bytes.length < MARK_BYTES || bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) return null;
  const checksum = bytes.subarray(CHECKSUM_OFFSET, CHECKSUM_OFFSET + CHECKSUM_BYTES);
  const isWhole = native.checksum(bytes.subarray(0, CHECKSUM_OFFSET)).equals(checksum);
  if (!isWhole || bytes.readUInt32LE(VERSION_OFFSET) !== VERSION) return { point: null, startedAt: null };
  const text = (offset: number, byteLength: number) => bytes.toString('utf8', offset, offset + byteLength);
  return {
    point: {
      id: bytes.toString('hex', POINT_ID_OFFSET, ROOT_OFFSET),
      root: bytes.toString('hex', ROOT_OFFSET, SEQUENCE_OFFSET),
      agent: text(AGENT_OFFSET, bytes.readUInt8(NAME_LENGTHS_OFFSET)),
      device: text(DEVICE_OFFSET, bytes.readUInt8(NAME_LENGTHS_OFFSET + 1)),
      sequence: Number(bytes.readBigUInt64LE(SEQUENCE_OFFSET)),
      sizeBytes: Number(bytes.readBigUInt64LE(SIZE_OFFSET)),
    },
    startedAt: new Date(Number(bytes.readBigUInt64LE(TIME_OFFSET))).toISOString(),
  };
}

/**
 * Of a device that is open. @returns null also where its first sector can't be read: then no mark was seen.
 */
export async function readMark(device: Pick<Device, 'sizeBytes' | 'read'>): Promise<HalfRestored | null> {
  if (device.sizeBytes < MARK_BYTES) return null;
  const bytes = await device.read(0, MARK_BYTES).catch(() => null);
  return bytes === null ? null : decodeMark(bytes);
}

/** Where the path is a partition: of its whole disk, whose restore may have been about the partition too. */
export async function readMarkOfDisk(path: string): Promise<HalfRestored | null> {
  const status = await stat(path, { bigint: true }).catch(() => null);
  if (status?.isBlockDevice() !== true) return null;
  const disk = (await readBlockFamily(deviceNumber(status.rdev)))?.disk ?? null;
  if (disk === null) return null;
  const device = await native.openDevice(`/dev/${disk.name}`).catch(() => null);
  try {
    return device === null ? null : await readMark(device);
  } finally {
    await device?.close();
  }
}

/** A clause about the device. */
export function describeHalfRestored({ point, startedAt }: HalfRestored): string {
  if (point === null) return 'it is half restored, and its mark does not tell from which point';
  const id = point.id.slice(0, 8);
  return `it is half restored: to point ${pointLabel(point)} (${id}), begun ${startedAt} and not finished`;
}

export function halfRestoredError(path: string, mark: HalfRestored): StillpointError {
  return new StillpointError('half-restored', {
    thing: path,
    reason: describeHalfRestored(mark),
    remedy:
      'Run the restore again: it continues where it stopped. To back up what is there, use --accept-half-restored.',
  });
}
