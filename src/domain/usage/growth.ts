/**
 * How a store grows, from its points alone, and how long a disk lasts at that rate. Pure.
 *
 * A point's `storedBytes` are what its session added to what its device had in the store. Points that were
 * removed since are not counted: neither what they added, nor what their removal freed. The first point of a
 * device is not growth: it comes once.
 */
import type { Point } from '../point/point.js';

export const DAY_MS = 24 * 60 * 60 * 1000;
/** An estimate looks back so far. */
const RATE_DAYS = 28;
/** With less history than this there is none. */
const RATE_DAYS_MIN = 7;
const RATE_POINTS_MIN = 3;
/** A longer time than this means nothing. */
const DAYS_LEFT_MAX = 3650;

type GrowingPoint = Pick<Point, 'agent' | 'device' | 'sequence' | 'committedAt' | 'storedBytes'>;

export interface GrowthPeriod {
  /** ISO 8601; the period ends where the next one starts, the last one at the present. */
  readonly startAt: string;
  readonly pointCount: number;
  /** By points that are not the first of their device. */
  readonly addedBytes: number;
  /** By first points. */
  readonly firstBytes: number;
}

/**
 * Periods of `days` days up to now, from the one of the oldest point on; of several, the last `periodsMax`.
 */
export function growthBy(
  points: readonly GrowingPoint[],
  nowMs: number,
  days: number,
  periodsMax: number,
): GrowthPeriod[] {
  const firsts = firstPoints(points);
  const lengthMs = days * DAY_MS;
  const ages = points.map(({ committedAt }) => Math.max(0, nowMs - Date.parse(committedAt)));
  const oldest = ages.reduce((most, age) => Math.max(most, age), 0);
  const count = points.length === 0 ? 0 : Math.min(periodsMax, Math.floor(oldest / lengthMs) + 1);
  const periods = Array.from({ length: count }, (_, i) => ({
    startAt: new Date(nowMs - (count - i) * lengthMs).toISOString(),
    ...{ pointCount: 0, addedBytes: 0, firstBytes: 0 },
  }));
  for (const [i, point] of points.entries()) {
    const period = periods[count - 1 - Math.floor((ages[i] ?? 0) / lengthMs)];
    if (period === undefined) continue;
    period.pointCount += 1;
    if (firsts.has(point)) period.firstBytes += point.storedBytes;
    else period.addedBytes += point.storedBytes;
  }
  return periods;
}

export interface GrowthRate {
  readonly bytesPerDay: number;
  /** That the rate is of. */
  readonly days: number;
  readonly pointCount: number;
}

/** Of the last four weeks, or of all time if that is less; null: too little history to say one. */
export function growthRate(points: readonly GrowingPoint[], nowMs: number): GrowthRate | null {
  const firsts = firstPoints(points);
  const times = points.map(({ committedAt }) => Date.parse(committedAt));
  const oldestMs = times.reduce((least, time) => Math.min(least, time), nowMs);
  const days = Math.min(RATE_DAYS, (nowMs - oldestMs) / DAY_MS);
  const later = points.filter(
    (point, i) => !firsts.has(point) && (times[i] ?? 0) > nowMs - days * DAY_MS && (times[i] ?? 0) <= nowMs,
  );
  if (days < RATE_DAYS_MIN || later.length < RATE_POINTS_MIN) return null;
  const addedBytes = later.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  return { bytesPerDay: Math.round(addedBytes / days), days: Math.floor(days), pointCount: later.length };
}

/** Null if nothing grows, or if it lasts for more than ten years. */
export function daysLeft(rate: GrowthRate, usableBytes: number): number | null {
  if (rate.bytesPerDay <= 0) return null;
  const days = Math.floor(Math.max(0, usableBytes) / rate.bytesPerDay);
  return days > DAYS_LEFT_MAX ? null : days;
}

function firstPoints(points: readonly GrowingPoint[]): ReadonlySet<GrowingPoint> {
  // The first one may have been removed: then each that is there came later.
  return new Set(points.filter(({ sequence }) => sequence === 1));
}
