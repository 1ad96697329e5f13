/**
 * What `DEVICE@TIME` means where there are journals (docs/journal.md, "Restoring a second"): a point, or the
 * state of a moment, which is a point and what was written after it.
 *
 * The time of a base is its stamp, and that of another point its instant. They differ if the clock was set
 * back: stamps went on then, and it is the order of stamps that is true. A point whose instant lies within a
 * second that is named means that point anyway, since that is how points are listed.
 *
 * | there is                                                      | it means                             |
 * |---------------------------------------------------------------|--------------------------------------|
 * | points of an instant within TIME, which is to the second      | that point; several: it is refused   |
 * | else the latest of these up to the end of TIME, by their time |                                      |
 * | - a point                                                     | that point                           |
 * | - a journal's record behind a base                            | the state with that record           |
 * | - one that an audit refuses                                   | nothing: it is refused               |
 * | two journals, of two clocks, that both have the time          | the one whose base came later        |
 */
import { StillpointError } from '../base/errors.js';
import { compareStamps, lastStampOfMs, type Stamp, type StoredJournal, stampMs } from '../journal/journal.js';
import type { Point } from '../point/point.js';
import {
  ambiguousTime,
  describePoint,
  type PointRef,
  pointName,
  pointsOf,
  resolvePoint,
} from '../point/point-ref.js';
import type { TimeSpan } from '../point/point-time.js';
import { auditedOrdinal, baseAt, type HeldJournal, heldJournal } from './held-journal.js';

export interface Moment {
  readonly base: Point;
  readonly journalId: string;
  /** Of the base's instant: its state is base and records behind it. */
  readonly afterOrdinal: number;
  /** None with a later stamp. */
  readonly throughStamp: Stamp;
  /** The last record that the receiver has, if it is wanted. Null: later ones than are wanted are there. */
  readonly lastOrdinal: number | null;
  /** Later points proved the records up to it. */
  readonly auditedOrdinal: number;
  /** Nothing later than this can be had: the end of TIME, or what is known of the journal. */
  readonly reachStamp: Stamp;
  /** Of the journal that the receiver has: records are no more than that. */
  readonly sizeBytes: number;
  /** A clause: why the journal has no later records. Null: it has, or it goes on. */
  readonly endReason: string | null;
}

export type AtTime =
  | { readonly kind: 'point'; readonly point: Point }
  | { readonly kind: 'moment'; readonly moment: Moment };

type TimeRef = Extract<PointRef, { by: 'time' }>;

type Found = AtTime | { readonly kind: 'refused'; readonly held: HeldJournal };

interface Candidate {
  readonly found: Found;
  readonly stamp: Stamp;
  readonly sequence: number;
}

/**
 * @param points those of the device, at least
 * @param own as of `resolvePoint`
 * @throws StillpointError as `resolvePoint`; `journal-faulty`
 */
export function resolveTime(
  ref: TimeRef,
  points: readonly Point[],
  journals: readonly StoredJournal[],
  own: string | null,
): AtTime {
  const ofDevice = pointsOf(ref, points, own);
  const [some] = ofDevice;
  const held = journals
    .filter(({ agent, device }) => agent === some?.agent && device === some.device)
    .flatMap((journal) => heldJournal(journal, ofDevice) ?? []);
  if (held.length === 0) return { kind: 'point', point: resolvePoint(ref, points, own) };
  const { spans, isExact } = ref.time;
  const all = spans.flatMap((span) =>
    foundIn(span, isExact, ofDevice, held).map((found) => ({ found, name: nameOf(found, span, ref, own) })),
  );
  const different = [...new Map(all.map((each) => [keyOf(each.found), each])).values()];
  const [one, ...others] = different;
  // With the error of a time before the first point.
  if (one === undefined) return { kind: 'point', point: resolvePoint(ref, points, own) };
  if (others.length > 0) {
    const names = different.map(({ name }) => name);
    throw ambiguousTime(ref, names, names.length);
  }
  if (one.found.kind === 'refused') throw faulty(ref, one.found.held, own);
  return one.found;
}

function foundIn(
  span: TimeSpan,
  isExact: boolean,
  points: readonly Point[],
  journals: readonly HeldJournal[],
): Found[] {
  const within = points.filter(({ instant }) => {
    const timeMs = Date.parse(instant);
    return span.fromMs <= timeMs && timeMs < span.endMs;
  });
  if (isExact && within.length > 0) return within.map((point) => ({ kind: 'point', point }));
  const throughStamp = lastStampOfMs(span.endMs - 1);
  const candidates = [
    ...points.map((point) => ofPoint(point, journals)),
    ...journals.flatMap((held) => ofJournal(held, throughStamp)),
  ].filter(({ stamp }) => compareStamps(stamp, throughStamp) <= 0);
  const last = candidates.reduce<Candidate | undefined>(
    (best, each) => (best === undefined || isLater(each, best) ? each : best),
    undefined,
  );
  return last === undefined ? [] : [last.found];
}

function ofPoint(point: Point, journals: readonly HeldJournal[]): Candidate {
  const { journal: position, instant, sequence } = point;
  const isHeld = journals.some(({ journal }) => journal.journalId === position?.journalId);
  const stamp = isHeld && position !== undefined ? position.stamp : firstStampOf(instant);
  return { found: { kind: 'point', point }, stamp, sequence };
}

/** What it gives beyond its last base up to there. */
function ofJournal(held: HeldJournal, throughStamp: Stamp): Candidate[] {
  const base = baseAt(held, throughStamp);
  if (base === undefined) return [];
  const { journal, last, audited, fault } = held;
  const isWhole = compareStamps(last.stamp, throughStamp) <= 0;
  const reachStamp = isWhole ? last.stamp : throughStamp;
  if (compareStamps(reachStamp, base.position.stamp) <= 0) return [];
  const rank = { stamp: reachStamp, sequence: base.point.sequence };
  if (fault !== null && (audited === null || compareStamps(audited.stamp, reachStamp) < 0))
    return [{ ...rank, found: { kind: 'refused', held } }];
  const moment: Moment = {
    ...{ base: base.point, journalId: journal.journalId, afterOrdinal: base.position.ordinal },
    ...{ throughStamp, reachStamp, auditedOrdinal: auditedOrdinal(journal) },
    sizeBytes: journal.sizeBytes,
    lastOrdinal: isWhole ? last.ordinal : null,
    endReason: isWhole ? (journal.end?.reason ?? null) : null,
  };
  return [{ ...rank, found: { kind: 'moment', moment } }];
}

/** Of the same time, a point comes before what a journal says, and what came later before the former. */
function isLater(a: Candidate, b: Candidate): boolean {
  const order = compareStamps(a.stamp, b.stamp);
  if (order !== 0) return order > 0;
  if ((a.found.kind === 'point') !== (b.found.kind === 'point')) return a.found.kind === 'point';
  return a.sequence > b.sequence;
}

function firstStampOf(instant: string): Stamp {
  return String(BigInt(lastStampOfMs(Date.parse(instant) - 1)) + 1n);
}

/** Two times that mean the same have the same. */
function keyOf(found: Found): string {
  if (found.kind === 'point') return found.point.id;
  if (found.kind === 'refused') return found.held.journal.journalId;
  return `${found.moment.journalId} ${found.moment.reachStamp}`;
}

function nameOf(found: Found, { endMs }: TimeSpan, ref: TimeRef, own: string | null): string {
  if (found.kind === 'point') return describePoint(found.point, own);
  const name = ref.agent === undefined ? ref.device : `${ref.agent}/${ref.device}`;
  return `${name}@${new Date(endMs - 1).toISOString()}`;
}

function faulty(ref: TimeRef, held: HeldJournal, own: string | null): StillpointError {
  const { audited, bases, fault } = held;
  const name = ref.agent === undefined ? ref.device : `${ref.agent}/${ref.device}`;
  const before = bases.at(-1)?.point;
  const others = [before, fault?.point ?? undefined].filter((point) => point !== undefined);
  const good = audited === null ? '' : `, or a time up to ${new Date(stampMs(audited.stamp)).toISOString()}`;
  const shown = fault?.point == null ? 'a later point' : `the later point ${pointName(fault.point, own)}`;
  return new StillpointError('journal-faulty', {
    thing: `${name}@${ref.text}`,
    reason: `the journal of that time is wrong: ${fault?.text}, as ${shown} showed`,
    remedy: `Restore ${others.map((point) => describePoint(point, own)).join(' or ')}${good}.`,
  });
}
