/**
 * Which records are to be proven next: those between two points of a journal, by the later point. All of it
 * is found in points and journals, so nothing is lost over a restart. Pure.
 */
import { type JournalPosition, type StoredJournal, sameDevice } from './journal.js';

/** What is asked of a point here. */
export interface JournalPoint {
  readonly id: string;
  readonly agent: string;
  readonly device: string;
  readonly geometry: { readonly sizeBytes: number; readonly blockSize: number };
  readonly journal?: JournalPosition;
}

export interface DueAudit<P extends JournalPoint> {
  readonly journal: StoredJournal;
  readonly base: P & { readonly journal: JournalPosition };
  readonly point: P & { readonly journal: JournalPosition };
}

/** Points whose instants are in the journal, by ordinal. */
export function basesOf<P extends JournalPoint>(
  journal: StoredJournal,
  points: readonly P[],
): (P & { readonly journal: JournalPosition })[] {
  const isBase = (point: P): point is P & { readonly journal: JournalPosition } =>
    point.journal?.journalId === journal.journalId &&
    point.journal.clockId === journal.clockId &&
    sameDevice(point, journal);
  return points.filter(isBase).sort((a, b) => a.journal.ordinal - b.journal.ordinal);
}

/**
 * Of each journal the earliest that can be made. All up to the last good audit counts as proven, so one that
 * fails for now holds up those after it. Where records were removed, nothing can be said or restored, and
 * what follows is not held up by it.
 */
export function dueAudits<P extends JournalPoint>(
  journals: readonly StoredJournal[],
  points: readonly P[],
): DueAudit<P>[] {
  return journals.flatMap((journal) => {
    const { first, last, audits } = journal;
    if (first === null || last === null || audits.some(({ fault }) => fault !== null)) return [];
    const bases = basesOf(journal, points);
    const due = bases.slice(1).flatMap((point, i): DueAudit<P>[] => {
      const base = bases[i];
      if (base === undefined || audits.some(({ pointId }) => pointId === point.id)) return [];
      const isThere = first.ordinal <= base.journal.ordinal + 1 && last.ordinal >= point.journal.ordinal;
      const isLater = base.journal.ordinal < point.journal.ordinal;
      const isSameSize =
        base.geometry.sizeBytes === point.geometry.sizeBytes &&
        base.geometry.blockSize === point.geometry.blockSize;
      return isThere && isLater && isSameSize ? [{ journal, base, point }] : [];
    });
    return due.slice(0, 1);
  });
}
