/**
 * What is remembered with the marks of a tracked device, in the kernel's memory, and lost with them at the
 * next boot: JSON of at most 4,000 bytes. `points` are those that the marks are good for: the last one, and
 * sessions that may have become one without this machine hearing of it. Each block that differs from any of
 * them has a mark.
 */
import { z } from 'zod';
import { whyMarksMiss } from '../domain/live/trust.js';
import type { Tracker } from '../native/index.js';
import type { TrackPlace } from './place.js';

const VERSION = 1;
/** Older ones are forgotten first, but for the last point: the session then reads everything. */
export const POINTS_MAX = 16;

const count = z.int().nonnegative();

const recordSchema = z.strictObject({
  version: z.literal(VERSION),
  path: z.string().max(1024),
  diskSequence: z.string().max(64),
  since: z.iso.datetime(),
  points: z.array(z.string().regex(/^[0-9a-f]{32}$/)).max(POINTS_MAX),
  /** Of the counters, when `points` were good. */
  facts: z.strictObject({ passedThrough: count, notNoted: count, queueMisses: count }),
});

export type TrackRecord = z.infer<typeof recordSchema>;

/** Null: torn, or of another release. */
export function readRecord(tracker: Tracker): TrackRecord | null {
  const bytes = tracker.record();
  if (bytes === null) return null;
  try {
    return recordSchema.parse(JSON.parse(bytes.toString('utf8')));
  } catch {
    return null;
  }
}

export function writeRecord(tracker: Tracker, record: TrackRecord): void {
  tracker.writeRecord(Buffer.from(JSON.stringify(record)));
}

export function newRecord(place: TrackPlace, tracker: Tracker, now: Date): TrackRecord {
  const { path, diskSequence } = place;
  return {
    version: VERSION,
    path,
    diskSequence,
    since: now.toISOString(),
    points: [],
    facts: factsOf(tracker),
  };
}

export function factsOf(tracker: Tracker): TrackRecord['facts'] {
  const { passedThrough, notNoted, queueMisses } = tracker.counters();
  return { passedThrough, notNoted, queueMisses };
}

/** @returns why the tracker is not of this device as it is now, a clause; null: it is. */
export function whyOther(record: TrackRecord, tracker: Tracker, place: TrackPlace): string | null {
  const { target } = tracker;
  const is = place.target;
  if (record.diskSequence !== place.diskSequence || target.hasRequestQueue !== is.hasRequestQueue)
    return 'another disk has its number now';
  if (target.diskMajor !== is.diskMajor || target.diskMinor !== is.diskMinor)
    return 'another disk has its number now';
  if (target.startSector !== is.startSector || target.sectorCount !== is.sectorCount)
    return 'it was moved or resized';
  return null;
}

/** @returns why a write may have no mark, a clause; null: each has one. */
export function whyDoubtful(record: TrackRecord, tracker: Tracker): string | null {
  return whyMarksMiss(record.facts, factsOf(tracker));
}
