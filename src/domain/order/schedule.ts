/**
 * When backups and rounds begin, for agents and receivers alike: calendar expressions (calendar.ts), or every
 * so often. Pure: the clock comes from outside.
 *
 * What was missed (nobody was there, the run before took too long) is made up for by one run, however many
 * it was: `dueAfter` is asked from the beginning of the last one.
 */
import { StillpointError } from '../base/errors.js';
import { type CalendarExpression, nextInstant, parseCalendar } from './calendar.js';

const EVERY_MS_MIN = 60_000;
const EVERY_MS_MAX = 31 * 24 * 60 * 60_000;
const EXPRESSIONS_MAX = 16;

export type Schedule =
  /** Whichever comes first. */
  | { readonly kind: 'calendar'; readonly text: string; readonly expressions: readonly CalendarExpression[] }
  /** From the beginning of one to that of the next. */
  | { readonly kind: 'every'; readonly text: string; readonly everyMs: number };

const UNIT_MS: Readonly<Record<string, number>> = {
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

/**
 * `every 6h`, or calendar expressions separated by semicolons.
 * @throws StillpointError `usage`
 */
export function parseSchedule(text: string): Schedule {
  const [, interval] = /^\s*every\s+(.*)$/i.exec(text) ?? [];
  if (interval !== undefined) return parseEvery(interval);
  const parts = text.split(';').map((part) => part.trim());
  if (parts.length > EXPRESSIONS_MAX) {
    throw new StillpointError('usage', {
      thing: `schedule ${JSON.stringify(text.slice(0, 80))}`,
      reason: `it has ${parts.length} expressions, and ${EXPRESSIONS_MAX} is the limit`,
    });
  }
  const expressions = parts.map(parseCalendar);
  return { kind: 'calendar', text: expressions.map((each) => each.text).join('; '), expressions };
}

/** `30m`, `6h`, `1d`, `1w`. @throws StillpointError `usage` */
export function parseEvery(text: string): Schedule {
  const [, digits, unit = ''] = /^\s*(\d{1,5})\s*([mhdw])\s*$/.exec(text) ?? [];
  const everyMs = Number(digits) * (UNIT_MS[unit] ?? Number.NaN);
  if (everyMs >= EVERY_MS_MIN && everyMs <= EVERY_MS_MAX)
    return { kind: 'every', text: `every ${Number(digits)}${unit}`, everyMs };
  throw new StillpointError('usage', {
    thing: `interval ${JSON.stringify(text.slice(0, 80))}`,
    reason: 'it is not a time from 1m to 31d',
    remedy: 'Write for example 30m, 6h or 1d.',
  });
}

/**
 * The first instant after `afterMs` at which a run is due; null: never again.
 * @param afterMs when the last one began, or the schedule was made.
 */
export function dueAfter(schedule: Schedule, afterMs: number): number | null {
  if (schedule.kind === 'every') return afterMs + schedule.everyMs;
  const dues = schedule.expressions.flatMap((expression) => nextInstant(expression, afterMs) ?? []);
  return dues.length === 0 ? null : Math.min(...dues);
}

/** As a clause that follows "begin". */
export function describeSchedule(schedule: Schedule): string {
  return schedule.kind === 'every' || /^[a-z]+$/.test(schedule.text) ? schedule.text : `at ${schedule.text}`;
}
