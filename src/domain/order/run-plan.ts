/**
 * When a device's next run begins, from what is remembered of those before. Pure.
 *
 * | state    | leaves by                                    | to                                      |
 * |----------|----------------------------------------------|-----------------------------------------|
 * | waiting  | its due time, or that of a retry             | running                                 |
 * | running  | success                                      | waiting; nothing failed any more        |
 * |          | failure, with retries left                   | waiting for a retry                     |
 * |          | failure, without                             | waiting for its schedule                |
 * | absent   | the device is there again                    | waiting: what was missed is due at once |
 * | paused   | its time is over, or `resume`                | waiting: the same                       |
 *
 * The clock may be set. Set forward over due times, one run makes up for them. Set back by little (an hour at
 * most), no run is repeated: the next one is that after the last. Set back by more, the future in which the
 * last run seems to lie is forgotten: one run may come early, and none is lost.
 */
import { dueAfter, type Schedule } from './schedule.js';

export interface RunRecord {
  /**
   * When the last run began, or the schedule was first seen. Nothing before is due. For an interval: where
   * its grid was last, without the device's delay.
   */
  readonly anchorMs: number;
  /** In a row. */
  readonly failures: number;
  /** Of the present due time. */
  readonly retries: number;
  readonly retryAtMs: number | null;
  readonly pause: Pause | null;
  /** When all was last read; null: never. */
  readonly fullAtMs: number | null;
}

export interface Pause {
  readonly fromMs: number;
  /** Null: until it is resumed. */
  readonly untilMs: number | null;
}

export interface RunSettings {
  /** Null: only on demand. */
  readonly schedule: Schedule | null;
  /** What is added to each due time: `delayOf`. */
  readonly delayMs: number;
  /** After a failure, before the schedule's next time. */
  readonly retriesMax: number;
  readonly fullEveryMs: number | null;
}

export type RunDecision =
  | { readonly kind: 'run'; readonly why: 'due' | 'retry'; readonly full: boolean }
  /** @property untilMs null: for something other than time. */
  | {
      readonly kind: 'wait';
      readonly why: 'paused' | 'running' | 'absent' | 'retry' | 'due' | 'on-demand' | 'never';
      readonly untilMs: number | null;
    };

export interface RunFacts {
  readonly nowMs: number;
  readonly isRunning: boolean;
  readonly isThere: boolean;
  /** Of everything, beside the device's own. */
  readonly pause: Pause | null;
}

const RETRY_FIRST_MS = 5 * 60_000;
const RETRY_MAX_MS = 60 * 60_000;
/** Chance changes a pause by up to a quarter. */
const RETRY_SPREAD = 0.25;
export const SET_BACK_MS = 60 * 60_000;
/** A first backup by hand takes hours. */
const BUSY_MS_MAX = 12 * 60 * 60_000;

export function newRecord(nowMs: number): RunRecord {
  return { anchorMs: nowMs, failures: 0, retries: 0, retryAtMs: null, pause: null, fullAtMs: null };
}

export function isPaused(pause: Pause | null, nowMs: number): boolean {
  if (pause === null) return false;
  // The clock was set back past its beginning: how long it has lasted is not known.
  if (pause.untilMs !== null && nowMs < pause.fromMs - SET_BACK_MS) return false;
  return pause.untilMs === null || nowMs < pause.untilMs;
}

/** The record as it is to be read now that the clock may have been set. */
export function afterClock(record: RunRecord, { schedule }: RunSettings, nowMs: number): RunRecord {
  const { anchorMs, retryAtMs } = record;
  const backMs = anchorMs - nowMs;
  const dueMs = schedule === null ? null : dueAfter(schedule, anchorMs);
  const gapMs = dueMs === null ? SET_BACK_MS : dueMs - anchorMs;
  const isForgotten = backMs > Math.min(SET_BACK_MS, gapMs / 2);
  const isTooFar = retryAtMs !== null && retryAtMs - nowMs > RETRY_MAX_MS * (1 + RETRY_SPREAD);
  if (!isForgotten && !isTooFar) return record;
  return {
    ...record,
    anchorMs: isForgotten ? nowMs : anchorMs,
    retryAtMs: isTooFar ? nowMs + RETRY_FIRST_MS : retryAtMs,
  };
}

/** Null: no run is due, ever. The device's delay is in it; it never reaches the next due time. */
export function nextDue({ schedule, delayMs }: RunSettings, anchorMs: number): number | null {
  if (schedule === null) return null;
  const dueMs = dueAfter(schedule, anchorMs);
  if (dueMs === null || delayMs === 0) return dueMs;
  const nextMs = dueAfter(schedule, dueMs) ?? Number.POSITIVE_INFINITY;
  return dueMs + Math.min(delayMs, Math.floor((nextMs - dueMs) / 2));
}

/**
 * The anchor once a run has begun. An interval keeps its grid, so that neither the delay nor a late beginning
 * adds to the time from run to run. A run that is late by more than half an interval begins a new grid.
 */
function anchorOf({ schedule, delayMs }: RunSettings, anchorMs: number, nowMs: number): number {
  if (schedule === null || schedule.kind === 'calendar') return nowMs;
  const { everyMs } = schedule;
  const atMs = nowMs - Math.min(delayMs, Math.floor(everyMs / 2));
  const lateMs = (atMs - anchorMs) % everyMs;
  if (atMs < anchorMs) return anchorMs;
  return lateMs > everyMs / 2 ? atMs : atMs - lateMs;
}

/** @param read the record after `afterClock` */
export function decide(read: RunRecord, settings: RunSettings, facts: RunFacts): RunDecision {
  const { nowMs, isRunning, isThere } = facts;
  const pause = [read.pause, facts.pause].find((each) => isPaused(each, nowMs));
  if (isRunning) return { kind: 'wait', why: 'running', untilMs: null };
  if (pause != null) return { kind: 'wait', why: 'paused', untilMs: pause.untilMs };
  const dueMs = nextDue(settings, read.anchorMs);
  // What is not to run by itself has nothing to repeat.
  const retryAtMs = settings.schedule === null ? null : read.retryAtMs;
  const isRetry = retryAtMs !== null && (dueMs === null || retryAtMs < dueMs);
  const atMs = isRetry ? retryAtMs : dueMs;
  if (atMs === null)
    return { kind: 'wait', why: settings.schedule === null ? 'on-demand' : 'never', untilMs: null };
  if (nowMs < atMs) return { kind: 'wait', why: isRetry ? 'retry' : 'due', untilMs: atMs };
  if (!isThere) return { kind: 'wait', why: 'absent', untilMs: null };
  return { kind: 'run', why: isRetry ? 'retry' : 'due', full: isFullDue(read, settings, nowMs) };
}

export function isFullDue({ fullAtMs }: RunRecord, { fullEveryMs }: RunSettings, nowMs: number): boolean {
  if (fullEveryMs === null) return false;
  return fullAtMs === null || nowMs - fullAtMs >= fullEveryMs || fullAtMs - nowMs > SET_BACK_MS;
}

/**
 * Of a scheduled run; one on demand changes nothing before it ends. It is on disk before the run begins: a
 * daemon that dies in it does not begin it again and again.
 */
export function began(
  record: RunRecord,
  settings: RunSettings,
  why: 'due' | 'retry',
  nowMs: number,
): RunRecord {
  const anchorMs = anchorOf(settings, record.anchorMs, nowMs);
  return { ...record, anchorMs, retryAtMs: null, retries: why === 'due' ? 0 : record.retries };
}

export function succeeded(record: RunRecord, wasFull: boolean, nowMs: number): RunRecord {
  const fullAtMs = wasFull ? nowMs : record.fullAtMs;
  return { ...record, failures: 0, retries: 0, retryAtMs: null, fullAtMs };
}

/** @param random from 0 up to 1 */
export function failed(
  record: RunRecord,
  { retriesMax }: RunSettings,
  nowMs: number,
  random: () => number,
): RunRecord {
  const { failures, retries } = record;
  if (retries >= retriesMax) return { ...record, failures: failures + 1, retryAtMs: null };
  const pauseMs = Math.min(RETRY_FIRST_MS * 2 ** retries, RETRY_MAX_MS);
  const spread = 1 + RETRY_SPREAD * (2 * random() - 1);
  const retryAtMs = nowMs + Math.round(pauseMs * spread);
  return { ...record, failures: failures + 1, retries: retries + 1, retryAtMs };
}

/** A run that somebody asked for: the schedule neither repeats it nor loses a retry by it. */
export function failedOnDemand(record: RunRecord): RunRecord {
  return { ...record, failures: record.failures + 1 };
}

/** Whether another command has worked on a device for so long that somebody has to know. */
export function isBusyTooLong(sinceMs: number, nowMs: number): boolean {
  return nowMs - sinceMs >= BUSY_MS_MAX;
}

/** Another command works on the device: that is not a failure, and is looked at again soon. */
export function deferred(record: RunRecord, nowMs: number): RunRecord {
  return { ...record, retryAtMs: nowMs + 60_000 };
}

/**
 * What a device's runs are delayed by, from 0 up to `mostMs`: it spreads the load of many machines. It is the
 * same for a device at all times, so that the time from run to run stays that of the schedule.
 */
export function delayOf(seed: string, mostMs: number): number {
  // FNV-1a, then a mix of its bits: seeds that differ in their last character lie far apart.
  let hash = 0x811c9dc5;
  for (let at = 0; at < seed.length; at += 1) hash = Math.imul(hash ^ seed.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return Math.floor((((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32) * mostMs);
}
