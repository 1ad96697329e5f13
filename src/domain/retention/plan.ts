/**
 * Which points of a device stay and which go, with all reasons. Decided by what the receiver itself knows:
 * its sequence, its clock at each commit (commit-times.ts), its settings. Nothing that an agent says takes
 * part, except that a point which its agent calls torn or unreadable in part counts for less.
 *
 * Rules add up: a point stays if one of them keeps it. A point that is not whole (unreadable ranges, no
 * single instant, or damage that is known) never takes the place of a whole one: each rule is applied to all
 * points, and to the whole ones alone. The last point of a device always stays, and its last whole one.
 */
import { type Point, pointLabel } from '../point/point.js';
import { type CalendarTime, type PeriodKind, periodOf, type RetentionCalendar } from './calendar.js';
import { type CommitTime, commitTimes } from './commit-times.js';
import { formatLongPeriod, type RetentionPolicy } from './policy.js';
import type { Pin } from './settings.js';

export type PlanPoint = Pick<
  Point,
  'id' | 'agent' | 'device' | 'sequence' | 'committedAt' | 'kind' | 'badRanges'
>;

export interface PlanFacts {
  /** Null: everything is kept. */
  readonly policy: RetentionPolicy | null;
  readonly calendar: RetentionCalendar;
  /** That is believed, in ms. */
  readonly nowMs: number;
  /** Why the clock is not believed, a clause: then nothing goes. Null: it is. */
  readonly clockDoubt: string | null;
  /** The minimum age, in ms. */
  readonly lockMs: number;
  /** Those in force. */
  readonly pinOf: (pointId: string) => Pin | null;
  /** Why a point can't be removed at the moment, a clause. */
  readonly useOf: (pointId: string) => string | null;
  /** Parts of it are known to be lost or damaged. */
  readonly isDamaged: (pointId: string) => boolean;
}

export type ReasonRule =
  | 'no-policy'
  | 'keep-all'
  | 'keep-last'
  | 'keep-hourly'
  | 'keep-daily'
  | 'keep-weekly'
  | 'keep-monthly'
  | 'keep-yearly'
  | 'keep-within'
  | 'last-point'
  | 'last-whole-point'
  | 'pin'
  | 'min-age'
  | 'in-use'
  | 'time-in-doubt'
  | 'clock-in-doubt'
  | 'group';

export interface Reason {
  readonly rule: ReasonRule;
  /** A clause for people. */
  readonly text: string;
}

export interface PlannedPoint<P extends PlanPoint = PlanPoint> {
  readonly point: P;
  readonly stays: boolean;
  /** If it stays, all that keep it. If it goes, why each rule of the policy does not. */
  readonly reasons: readonly Reason[];
  /** It is at least so old, in ms; null: nothing says how old it is. */
  readonly ageMs: number | null;
  /** Why it is not whole, a clause; null: it is. */
  readonly flaw: string | null;
}

interface Candidate<P extends PlanPoint> {
  readonly point: P;
  readonly time: CommitTime;
  readonly flaw: string | null;
}

/** By id: what a rule says of each point. */
interface Verdict {
  readonly rule: ReasonRule;
  readonly keeps: ReadonlyMap<string, string>;
  readonly why: (id: string) => string;
}

const PERIOD_RULES = [
  ['keepHourly', 'keep-hourly', 'hour'],
  ['keepDaily', 'keep-daily', 'day'],
  ['keepWeekly', 'keep-weekly', 'week'],
  ['keepMonthly', 'keep-monthly', 'month'],
  ['keepYearly', 'keep-yearly', 'year'],
] as const satisfies readonly (readonly [keyof RetentionPolicy, ReasonRule, PeriodKind])[];

/** @param points of one device, by sequence. @returns the same order */
export function planRetention<P extends PlanPoint>(
  points: readonly P[],
  facts: PlanFacts,
): PlannedPoint<P>[] {
  const times = commitTimes(
    points.map(({ committedAt }) => committedAt),
    facts.nowMs,
  );
  const candidates = points.map((point, i): Candidate<P> => {
    const time = times[i] ?? { believedMs: null, doubt: 'nothing is known of its time', youngestMs: null };
    return { point, time, flaw: flawOf(point, facts) };
  });
  const verdicts = verdictsOf(candidates, facts);
  const last = candidates.at(-1);
  const lastWhole = candidates.findLast(({ flaw }) => flaw === null);
  return candidates.map((candidate) => {
    const { point, time, flaw } = candidate;
    const ageMs = time.youngestMs === null ? null : Math.max(0, facts.nowMs - time.youngestMs);
    const kept = verdicts.flatMap(({ rule, keeps }): Reason[] => {
      const text = keeps.get(point.id);
      return text === undefined ? [] : [{ rule, text }];
    });
    const reasons = [
      ...kept,
      ...(candidate === last
        ? [{ rule: 'last-point', text: 'it is the last point of its device' } as const]
        : []),
      ...(candidate === lastWhole && candidate !== last
        ? [{ rule: 'last-whole-point', text: 'it is the last whole point of its device' } as const]
        : []),
      ...protections(point, time, ageMs, facts),
    ];
    const stays = reasons.length > 0;
    const whyNot = verdicts.map(({ rule, why }): Reason => ({ rule, text: why(point.id) }));
    return { point, stays, reasons: stays ? reasons : whyNot, ageMs, flaw };
  });
}

function flawOf({ id, kind, badRanges }: PlanPoint, { isDamaged }: PlanFacts): string | null {
  if (isDamaged(id)) return 'a part of it is damaged in the store';
  if (badRanges.length > 0)
    return `${badRanges.length === 1 ? 'a range' : `${badRanges.length} ranges`} of the device could not be read`;
  return kind === 'fuzzy' ? 'it is no single instant (fuzzy)' : null;
}

/** What keeps a point whatever its policy is. */
function protections(
  { id }: PlanPoint,
  time: CommitTime,
  ageMs: number | null,
  { pinOf, useOf, lockMs, clockDoubt, policy }: PlanFacts,
): Reason[] {
  const reasons: Reason[] = [];
  const pin = pinOf(id);
  if (pin !== null) {
    const until = pin.untilMs === null ? '' : ` until ${new Date(pin.untilMs).toISOString()}`;
    reasons.push({ rule: 'pin', text: `it is pinned${until}: ${pin.reason}` });
  }
  if (lockMs > 0 && (ageMs === null || ageMs < lockMs)) {
    const text =
      ageMs === null
        ? `nothing says that it is older than the minimum age of ${formatLongPeriod(lockMs)}`
        : `it is younger than the minimum age of ${formatLongPeriod(lockMs)}`;
    reasons.push({ rule: 'min-age', text });
  }
  const use = useOf(id);
  if (use !== null) reasons.push({ rule: 'in-use', text: use });
  if (!goesByTime(policy)) return reasons;
  if (time.doubt !== null) reasons.push({ rule: 'time-in-doubt', text: time.doubt });
  if (clockDoubt !== null) {
    reasons.push({ rule: 'clock-in-doubt', text: `the receiver's clock is not believed: ${clockDoubt}` });
  }
  return reasons;
}

/** Some rule looks at times; keep-last counts sequences. */
function goesByTime(policy: RetentionPolicy | null): boolean {
  if (policy === null || policy.keepAll === true) return false;
  return policy.keepWithinMs !== undefined || PERIOD_RULES.some(([key]) => policy[key] !== undefined);
}

function verdictsOf<P extends PlanPoint>(candidates: readonly Candidate<P>[], facts: PlanFacts): Verdict[] {
  const { policy } = facts;
  if (policy === null) return [keepsAll(candidates, 'no-policy', 'no policy is set for it')];
  if (policy.keepAll === true) return [keepsAll(candidates, 'keep-all', 'its policy is to keep all')];
  const newestFirst = [...candidates].reverse();
  const verdicts: Verdict[] = [];
  if (policy.keepLast !== undefined) verdicts.push(lastVerdict(newestFirst, policy.keepLast));
  const local = goesByTime(policy) ? localTimes(candidates, facts.calendar) : new Map();
  for (const [key, rule, kind] of PERIOD_RULES) {
    const count = policy[key];
    if (count !== undefined) verdicts.push(periodVerdict(newestFirst, rule, kind, count, local));
  }
  if (policy.keepWithinMs !== undefined)
    verdicts.push(withinVerdict(newestFirst, policy.keepWithinMs, facts.nowMs));
  return verdicts;
}

/** By id, of those whose time is believed. */
function localTimes<P extends PlanPoint>(
  candidates: readonly Candidate<P>[],
  calendar: RetentionCalendar,
): Map<string, CalendarTime> {
  return new Map(
    candidates.flatMap(({ point, time: { believedMs } }) =>
      believedMs === null ? [] : [[point.id, calendar.at(believedMs)] as const],
    ),
  );
}

function keepsAll<P extends PlanPoint>(
  candidates: readonly Candidate<P>[],
  rule: ReasonRule,
  text: string,
): Verdict {
  return { rule, keeps: new Map(candidates.map(({ point }) => [point.id, text])), why: () => text };
}

function lastVerdict<P extends PlanPoint>(newestFirst: readonly Candidate<P>[], count: number): Verdict {
  const rule = 'keep-last';
  const keeps = new Map<string, string>();
  const whole = newestFirst.filter(({ flaw }) => flaw === null);
  for (const [i, { point }] of whole.slice(0, count).entries())
    keeps.set(point.id, `${rule} ${count}: number ${i + 1} of the last whole ones`);
  for (const [i, { point }] of newestFirst.slice(0, count).entries())
    keeps.set(point.id, `${rule} ${count}: number ${i + 1} of the last ones`);
  return { rule, keeps, why: () => `${rule} ${count}: there are ${count} later ones` };
}

/** The last point of each period, for a number of periods that have points. Those in doubt have no period. */
function periodVerdict<P extends PlanPoint>(
  newestFirst: readonly Candidate<P>[],
  rule: ReasonRule,
  kind: PeriodKind,
  count: number,
  local: ReadonlyMap<string, CalendarTime>,
): Verdict {
  const keeps = new Map<string, string>();
  const periodById = new Map<string, string>();
  for (const { point } of newestFirst) {
    const time = local.get(point.id);
    if (time !== undefined) periodById.set(point.id, periodOf(kind, time));
  }
  const standsFor = new Map<string, P>();
  const whole = newestFirst.filter(({ flaw }) => flaw === null);
  for (const { point } of [...whole, ...newestFirst]) {
    const period = periodById.get(point.id);
    if (period !== undefined && !standsFor.has(period)) standsFor.set(period, point);
  }
  for (const among of [whole, newestFirst]) {
    const periods = new Set(among.flatMap(({ point }) => periodById.get(point.id) ?? []));
    for (const period of [...periods].slice(0, count)) {
      const point = standsFor.get(period);
      if (point !== undefined) keeps.set(point.id, `${rule} ${count}: the last one of ${period}`);
    }
  }
  const why = (id: string): string => {
    const period = periodById.get(id) ?? '';
    const other = standsFor.get(period);
    return other !== undefined && other.id !== id && keeps.has(other.id)
      ? `${rule} ${count}: ${pointLabel(other)} stands for ${period}`
      : `${rule} ${count}: ${period} is before the ${count === 1 ? `last ${kind}` : `last ${count} ${kind}s`} with points`;
  };
  return { rule, keeps, why };
}

function withinVerdict<P extends PlanPoint>(
  newestFirst: readonly Candidate<P>[],
  periodMs: number,
  nowMs: number,
): Verdict {
  const rule = 'keep-within';
  const name = `${rule} ${formatLongPeriod(periodMs)}`;
  const keeps = new Map<string, string>();
  for (const { point, time } of newestFirst) {
    if (time.youngestMs === null) keeps.set(point.id, `${name}: nothing says that it is older`);
    else if (time.youngestMs > nowMs - periodMs) keeps.set(point.id, `${name}: it is not that old`);
  }
  return { rule, keeps, why: () => `${name}: it is older` };
}
