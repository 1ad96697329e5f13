/** Journals and their points for pure tests: seconds of one hour are their times. */
import type { JournalPosition, StoredJournal } from '../../../src/domain/journal/journal.js';
import type { Point } from '../../../src/domain/point/point.js';
import { makePoint } from '../bytes/points.js';

export const HOUR_MS = Date.parse('2026-03-01T12:00:00.000Z');
export const CLOCK_ID = 'c'.repeat(32);

export const journalIdOf = (number: number): string => String(number).padStart(32, '0');

/** @param second of the hour */
export const stampAt = (second: number): string =>
  String(BigInt(HOUR_MS) * 1_000_000n + BigInt(Math.round(second * 1e9)));

export const isoAt = (second: number): string => new Date(HOUR_MS + second * 1000).toISOString();

export function storedJournal(
  number: number,
  first: readonly [ordinal: number, second: number] | null,
  last: readonly [ordinal: number, second: number] | null,
  overrides: Partial<StoredJournal> = {},
): StoredJournal {
  const mark = (of: readonly [number, number] | null) =>
    of === null ? null : { ordinal: of[0], stamp: stampAt(of[1]) };
  return {
    ...{ agent: 'local', device: 'disk1', journalId: journalIdOf(number), clockId: CLOCK_ID },
    ...{ first: mark(first), last: mark(last), sizeBytes: 1000, end: null, audits: [], ...overrides },
  };
}

export function positionAt(journal: number, ordinal: number, second: number): JournalPosition {
  return { journalId: journalIdOf(journal), clockId: CLOCK_ID, ordinal, stamp: stampAt(second) };
}

/** @param position of its instant in a journal; undefined: it has none */
export function pointAt(
  sequence: number,
  second: number,
  position?: JournalPosition,
  overrides: Partial<Point> = {},
): Point {
  return makePoint({
    ...{ sequence, instant: isoAt(second) },
    ...(position === undefined ? {} : { journal: position }),
    ...overrides,
  });
}
