/**
 * A journal that a receiver has, with the points that its records can be written over (docs/journal.md, "What
 * a journal is worth").
 *
 * | part of it                                      | is                                                 |
 * |-------------------------------------------------|----------------------------------------------------|
 * | before the first base                           | of no use: records were removed, or the point was  |
 * | from there up to the last good audit            | audited                                            |
 * | from the last good audit up to one with a fault | refused                                            |
 * | behind the audit with the fault                 | not used: the journal has ended at that point      |
 * | from the last good audit to the end, without it | not audited yet                                    |
 *
 * An audit is known by the ordinal of its point. If that point was removed, its stamp is not known; then the
 * last point before it counts: less passes for audited than is, and more is refused than must be.
 */
import {
  compareStamps,
  type JournalMark,
  type JournalPosition,
  type Stamp,
  type StoredJournal,
} from '../journal/journal.js';
import type { Point } from '../point/point.js';

/** A point that the records behind it follow without a hole. */
export interface Base {
  readonly point: Point;
  readonly position: JournalPosition;
}

export interface HeldJournal {
  readonly journal: StoredJournal;
  /** By ordinal. */
  readonly bases: readonly Base[];
  /** The last record, or the point of the audit with the fault. */
  readonly last: JournalMark;
  /** Points proved all records up to it; null: no record that is known of. */
  readonly audited: JournalMark | null;
  readonly fault: JournalFault | null;
}

export interface JournalFault {
  /** A clause. */
  readonly text: string;
  /** That showed it; null: it was removed since. */
  readonly point: Point | null;
}

/** @param points of its device, at least. Null: nothing of it can be restored */
export function heldJournal(journal: StoredJournal, points: readonly Point[]): HeldJournal | null {
  const { first, last, audits } = journal;
  if (first === null || last === null) return null;
  const faulty = audits.find(({ fault }) => fault !== null) ?? null;
  const end = faulty?.ordinal ?? Number.POSITIVE_INFINITY;
  const all = basesOf(journal, points);
  const bases = all.filter(
    ({ position: { ordinal } }) => ordinal + 1 >= first.ordinal && ordinal <= last.ordinal && ordinal < end,
  );
  if (bases.length === 0) return null;
  const shown = all.find(({ point }) => point.id === faulty?.pointId);
  return {
    ...{ journal, bases },
    last: shown === undefined ? last : earlier(last, shown.position),
    audited:
      all.filter(({ position }) => position.ordinal <= auditedOrdinal(journal)).at(-1)?.position ?? null,
    fault: faulty === null ? null : { text: faulty.fault ?? '', point: shown?.point ?? null },
  };
}

/** The ordinal up to which points proved the records; 0: none. Of an audit whose point was removed, too. */
export function auditedOrdinal({ audits }: Pick<StoredJournal, 'audits'>): number {
  return Math.max(0, ...audits.filter(({ fault }) => fault === null).map(({ ordinal }) => ordinal));
}

/** The last base whose instant is at or before the stamp. */
export function baseAt({ bases }: HeldJournal, stamp: Stamp): Base | undefined {
  return bases.filter(({ position }) => compareStamps(position.stamp, stamp) <= 0).at(-1);
}

function basesOf(journal: StoredJournal, points: readonly Point[]): Base[] {
  return points
    .flatMap((point): Base[] => {
      const { journal: position, agent, device } = point;
      const isOf =
        position?.journalId === journal.journalId &&
        position.clockId === journal.clockId &&
        agent === journal.agent &&
        device === journal.device;
      return isOf ? [{ point, position }] : [];
    })
    .sort((a, b) => a.position.ordinal - b.position.ordinal);
}

function earlier(a: JournalMark, b: JournalMark): JournalMark {
  return a.ordinal <= b.ordinal ? a : b;
}
