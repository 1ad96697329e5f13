/**
 * How much room a snapshot may take of its volume group or its thin pool. The backup is given up before the
 * room of others is. All sizes are in bytes.
 */
import type { VolumePolicy } from './snapshot-tags.js';

/** Of what is free in the group, this part is never taken: one of so many. */
const RESERVE_PARTS = 10;
/** A snapshot that starts with less of its volume than that would overflow before anybody could act. */
const START_PERCENT_MIN = 2;
/** It grows when so much of it is used. */
const GROW_AT_PERCENT = 60;

export interface GroupRoom {
  readonly freeBytes: number;
  readonly extentBytes: number;
}

export interface ThickRoom {
  readonly startBytes: number;
  /** By policy; less if the group has less. */
  readonly maxBytes: number;
  /** Of the group: never taken. */
  readonly reserveBytes: number;
}

/** @returns a clause in place of it: why there is not enough. */
export function thickRoom(sizeBytes: number, group: GroupRoom, policy: VolumePolicy): ThickRoom | string {
  const { freeBytes, extentBytes } = group;
  const whole = (bytes: number): number => Math.max(1, Math.ceil(bytes / extentBytes)) * extentBytes;
  const reserveBytes = whole(freeBytes / RESERVE_PARTS);
  const wanted = whole((sizeBytes * policy.startPercent) / 100);
  const least = whole((sizeBytes * Math.min(START_PERCENT_MIN, policy.startPercent)) / 100);
  const available = Math.floor((freeBytes - reserveBytes) / extentBytes) * extentBytes;
  if (available < least)
    return `its group has ${freeBytes} bytes free, and a snapshot needs ${least} beside ${reserveBytes} in reserve`;
  return {
    startBytes: Math.min(wanted, available),
    maxBytes: whole((sizeBytes * policy.maxPercent) / 100),
    reserveBytes,
  };
}

/** By how much it grows now; 0: not, or it may not any more. */
export function growthOf(
  store: { readonly sizeBytes: number; readonly usedBytes: number },
  group: GroupRoom,
  room: ThickRoom,
): number {
  const { sizeBytes, usedBytes } = store;
  if (usedBytes * 100 < sizeBytes * GROW_AT_PERCENT) return 0;
  const available = group.freeBytes - room.reserveBytes;
  const bytes = Math.min(room.startBytes, room.maxBytes - sizeBytes, available);
  return Math.max(0, Math.floor(bytes / group.extentBytes) * group.extentBytes);
}

export interface PoolUse {
  readonly dataBytes: number;
  readonly usedDataBytes: number;
  /** 0 to 100. */
  readonly metadataPercent: number;
}

/** No snapshot is taken from there on, and a held one is given up a little later. */
const LIMITS = { taken: { data: 90, metadata: 80 }, held: { data: 95, metadata: 90 } } as const;

/** Why the pool can't carry a snapshot, a clause; null: it can. */
export function poolTrouble(
  { dataBytes, usedDataBytes, metadataPercent }: PoolUse,
  step: keyof typeof LIMITS,
): string | null {
  const limits = LIMITS[step];
  const dataPercent = (usedDataBytes / dataBytes) * 100;
  const over = (what: string, percent: number, limit: number): string =>
    `${what} is ${Math.floor(percent)} % full, and from ${limit} % on no snapshot is ${step}`;
  if (dataPercent >= limits.data) return over('its pool', dataPercent, limits.data);
  if (metadataPercent >= limits.metadata)
    return over('the metadata of its pool', metadataPercent, limits.metadata);
  return null;
}

/** Even if all of the volume is overwritten until the next backup, the pool has room for it. */
export function poolCarries({ dataBytes, usedDataBytes }: PoolUse, mappedBytes: number): boolean {
  return (dataBytes * LIMITS.taken.data) / 100 - usedDataBytes >= mappedBytes;
}
