/** Which seconds of a device can be restored from its journals, without a hole. */
import { compareStamps, type Stamp, type StoredJournal } from '../journal/journal.js';
import type { Point } from '../point/point.js';
import { type HeldJournal, heldJournal } from './held-journal.js';

/** `audited`: later points proved it. `unaudited`: not yet. `faulty`: one showed that it is wrong. */
export type SpanState = 'audited' | 'unaudited' | 'faulty';

export interface Span {
  readonly journal: StoredJournal;
  readonly fromStamp: Stamp;
  readonly throughStamp: Stamp;
  readonly state: SpanState;
  /** Points that its records are written over, by ordinal; one at least. The first may be before it. */
  readonly bases: readonly Point[];
  /** A clause: what is wrong with it, or else why the journal ended with it. Null: neither is. */
  readonly reason: string | null;
}

/** By agent, device and time. @param points of these devices, at least */
export function spansOf(journals: readonly StoredJournal[], points: readonly Point[]): Span[] {
  return journals
    .flatMap((journal) => {
      const held = heldJournal(journal, points);
      return held === null ? [] : partsOf(held);
    })
    .sort(inOrder);
}

function partsOf(held: HeldJournal): Span[] {
  const { journal, bases, last, audited, fault } = held;
  const from = bases[0]?.position.stamp ?? last.stamp;
  const middle = audited === null || compareStamps(audited.stamp, from) < 0 ? from : audited.stamp;
  const span = (fromStamp: Stamp, throughStamp: Stamp, state: SpanState): Span[] => {
    if (compareStamps(fromStamp, throughStamp) >= 0) return [];
    const isLast = throughStamp === last.stamp;
    const reason = state === 'faulty' ? (fault?.text ?? '') : isLast ? (journal.end?.reason ?? null) : null;
    return [
      { journal, fromStamp, throughStamp, state, bases: basesOf(held, fromStamp, throughStamp), reason },
    ];
  };
  return [
    ...span(from, middle, 'audited'),
    ...span(middle, last.stamp, fault === null ? 'unaudited' : 'faulty'),
  ];
}

/** Those within, and the one before it where none is at its beginning. */
function basesOf({ bases }: HeldJournal, fromStamp: Stamp, throughStamp: Stamp): Point[] {
  const before = bases.filter(({ position }) => compareStamps(position.stamp, fromStamp) <= 0).slice(-1);
  const within = bases.filter(
    ({ position: { stamp } }) =>
      compareStamps(stamp, fromStamp) > 0 && compareStamps(stamp, throughStamp) < 0,
  );
  return [...before, ...within].map(({ point }) => point);
}

function inOrder(a: Span, b: Span): number {
  for (const key of ['agent', 'device'] as const)
    if (a.journal[key] !== b.journal[key]) return a.journal[key] < b.journal[key] ? -1 : 1;
  return compareStamps(a.fromStamp, b.fromStamp);
}
