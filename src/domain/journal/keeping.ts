/**
 * Which records of journals are still needed. Within the time that is kept nothing goes; before it goes what
 * no state of that time is made of. Pure.
 *
 * | of a journal                                           | goes                                  |
 * |--------------------------------------------------------|---------------------------------------|
 * | a base at or before the time's begin                   | records up to the newest of them      |
 * | no such base                                           | records before the time's begin       |
 * | a newer point of the device at or before the begin     | all of it                             |
 * | no records, and no end within the time                 | all of it                             |
 *
 * The last state of a device stays as long as no newer point takes its place: if its host died, that is what
 * it left. A journal that its agent goes on with is never removed as a whole. While a session of the device
 * is open, its instant may be anywhere in a journal: then only what a base has made needless goes.
 */
import { basesOf, type JournalPoint } from './audits.js';
import { compareStamps, lastStampOfMs, type Stamp, type StoredJournal, sameDevice } from './journal.js';

export interface KeptPoint extends JournalPoint {
  readonly sequence: number;
  /** By the receiver's clock, ISO 8601. */
  readonly committedAt: string;
  /** By its host's. */
  readonly instant: string;
}

interface OfDevice {
  readonly agent: string;
  readonly device: string;
}

export interface KeepingFacts {
  /** Of a clock that is believed. */
  readonly nowMs: number;
  readonly points: readonly KeptPoint[];
  readonly keepMs: (device: OfDevice) => number;
  /** Has an open session. */
  readonly isOpen: (device: OfDevice) => boolean;
  /** Its agent told something of it a moment ago. */
  readonly isHeard: (journal: StoredJournal) => boolean;
}

/** What goes of a journal. */
export type Needless =
  | { readonly what: 'all' }
  /** Records up to this ordinal. */
  | { readonly what: 'records'; readonly throughOrdinal: number }
  /** Records with this stamp or an earlier one. */
  | { readonly what: 'older'; readonly throughStamp: Stamp };

/** Null: nothing goes. */
export function needlessOf(journal: StoredJournal, facts: KeepingFacts): Needless | null {
  const { first, last, end } = journal;
  const cutoffMs = facts.nowMs - facts.keepMs(journal);
  if (!(cutoffMs > 0)) return null;
  const cutoff = lastStampOfMs(cutoffMs);
  const isBefore = (stamp: Stamp) => compareStamps(stamp, cutoff) <= 0;
  const mayGo = !facts.isHeard(journal) && (end !== null || !facts.isOpen(journal));
  if (first === null || last === null) {
    const isOver = end === null || isBefore(end.stamp);
    return isOver && mayGo ? { what: 'all' } : null;
  }
  if (isBefore(last.stamp) && mayGo && isReplaced(journal, facts.points, cutoffMs)) return { what: 'all' };
  const bases = basesOf(journal, facts.points);
  // By both clocks: a host's may be wrong.
  const newest = bases.findLast(
    ({ journal: { stamp }, committedAt }) => isBefore(stamp) && Date.parse(committedAt) <= cutoffMs,
  );
  if (newest !== undefined) {
    const throughOrdinal = newest.journal.ordinal;
    return throughOrdinal >= first.ordinal ? { what: 'records', throughOrdinal } : null;
  }
  // A later base may be what was written down last of a long backup.
  if (!isBefore(first.stamp) || facts.isOpen(journal) || bases.some((base) => isBefore(base.journal.stamp)))
    return null;
  if (!isBefore(last.stamp)) return { what: 'older', throughStamp: cutoff };
  return mayGo ? { what: 'all' } : { what: 'records', throughOrdinal: last.ordinal };
}

/** Whether no state at the cutoff or later is made of it: a newer point comes first. */
function isReplaced(journal: StoredJournal, points: readonly KeptPoint[], cutoffMs: number): boolean {
  const newest = points
    .filter((point) => sameDevice(point, journal) && Date.parse(point.committedAt) <= cutoffMs)
    .reduce<KeptPoint | null>((a, b) => (a !== null && a.sequence > b.sequence ? a : b), null);
  if (newest === null || journal.last === null) return false;
  if (basesOf(journal, points).some(({ sequence }) => sequence >= newest.sequence)) return false;
  // Both are of the host's clock. Where that was set back, the journal stays until it has caught up.
  const instant = newest.journal?.stamp ?? lastStampOfMs(Date.parse(newest.instant));
  return compareStamps(journal.last.stamp, instant) <= 0;
}
