/**
 * Calendar expressions, a subset of those that systemd.time(7) has: `[WEEKDAYS] [DATE] [TIME] [ZONE]`. Pure.
 *
 *   WEEKDAYS  Mon, Mon..Fri, Sat,Sun
 *   DATE      YEAR-MONTH-DAY or MONTH-DAY; a day ~1 is the last one of its month
 *   TIME      HOUR:MINUTE, or several as 02:00,14:30; without one it is 00:00
 *   ZONE      UTC, Europe/Berlin; without one it is that of this machine
 *
 * A field is `*`, a number, `A..B`, any of these with `/STEP`, or several with commas. Words stand for usual
 * ones: hourly, daily, weekly, monthly, quarterly, yearly.
 *
 * | the wall clock    | an expression with set hours            | with every hour                        |
 * |-------------------|-----------------------------------------|----------------------------------------|
 * | skips its time    | comes as much later as the clock jumps  | the same; that falls on the next hour  |
 * | shows it twice    | comes the first time                    | comes both times: an hour lies between |
 */
import { StillpointError } from '../base/errors.js';
import { instantsOf, wallTime, type Zone, zoneNamed } from './zone.js';

export interface CalendarExpression {
  readonly text: string;
  /** Sunday is 0; null: any. */
  readonly weekdays: ReadonlySet<number> | null;
  readonly years: ReadonlySet<number> | null;
  readonly months: ReadonlySet<number> | null;
  /** From the end of the month where `isFromEnd`: 1 is the last. */
  readonly days: ReadonlySet<number> | null;
  readonly isFromEnd: boolean;
  /** Minutes of the day, ascending. */
  readonly minutes: readonly number[];
  readonly isHourly: boolean;
  readonly zone: Zone;
}

const WORDS: Readonly<Record<string, string>> = {
  hourly: '*:00',
  daily: '*-*-* 00:00',
  weekly: 'Mon 00:00',
  monthly: '*-*-1 00:00',
  quarterly: '*-1,4,7,10-1 00:00',
  yearly: '*-1-1 00:00',
};
const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];
const DAYS_IN_MONTH = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
const TEXT_CHARS_MAX = 200;
const YEARS = [1970, 2199] as const;
const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
/** A 29 February on a given weekday comes within 40 years. */
const DAYS_SEARCHED = 41 * 366;

/** @throws StillpointError `usage` */
export function parseCalendar(text: string): CalendarExpression {
  const refuse = (reason: string): never => {
    throw new StillpointError('usage', {
      thing: `schedule ${JSON.stringify(text.slice(0, 80))}`,
      reason,
      remedy: 'Write for example "daily", "Mon..Fri 02:00", "*-*-1 03:30", "02:00,14:00" or "every 6h".',
    });
  };
  if (text.length > TEXT_CHARS_MAX) refuse(`it has more than ${TEXT_CHARS_MAX} characters`);
  const [first = '', ...rest] = text.trim().split(/\s+/);
  const words = [...(WORDS[first.toLowerCase()] ?? first).split(' '), ...rest];
  const take = (pattern: RegExp): string | null =>
    pattern.test(words[0] ?? '') ? (words.shift() ?? null) : null;
  const weekdays = take(/^[a-z]{3,9}(\.\.|,|$)/i);
  const date = take(/^[\d*,./]+-[\d*,./~-]+$/);
  const time = take(/:/);
  const zone = take(/^(UTC|[A-Za-z_]+(\/[A-Za-z0-9_+-]+)+)$/);
  if (words.length > 0) refuse(`${JSON.stringify(words[0])} is not a part of a schedule in this place`);
  if (weekdays === null && date === null && time === null) refuse('it is empty');
  const parsedDate = date === null ? null : parseDate(date, refuse);
  const parsedTime = parseTime(time ?? '00:00', refuse);
  return {
    text: text.trim().replace(/\s+/g, ' '),
    weekdays: weekdays === null ? null : parseWeekdays(weekdays, refuse),
    years: parsedDate?.years ?? null,
    months: parsedDate?.months ?? null,
    days: parsedDate?.days ?? null,
    isFromEnd: parsedDate?.isFromEnd ?? false,
    ...parsedTime,
    zone: zoneNamed(zone),
  };
}

type Refuse = (reason: string) => never;

/** Null: any. */
function parseField(
  text: string,
  what: string,
  [least, most]: readonly [number, number],
  refuse: Refuse,
): ReadonlySet<number> | null {
  if (text === '*') return null;
  const values = new Set<number>();
  for (const part of text.split(',')) {
    const [, from = '', to, step] = /^(\*|\d{1,4})(?:\.\.(\d{1,4}))?(?:\/(\d{1,3}))?$/.exec(part) ?? [];
    const start = from === '*' ? least : Number(from);
    // A number with a step goes on to the end, as in systemd.
    const end = to !== undefined ? Number(to) : from === '*' || step !== undefined ? most : start;
    const by = Number(step ?? 1);
    if (from === '' || (from === '*' && to !== undefined) || by < 1)
      refuse(`${what} ${JSON.stringify(part)} is not a number, a range A..B or a step A/N`);
    if (start < least || end > most)
      refuse(`${what} ${JSON.stringify(part)} is not within ${least} to ${most}`);
    if (start > end) refuse(`the range ${JSON.stringify(part)} of the ${what} does not rise`);
    for (let value = start; value <= end; value += by) values.add(value);
  }
  return values;
}

function parseWeekdays(text: string, refuse: Refuse): ReadonlySet<number> {
  const dayOf = (name: string): number => {
    const at = WEEKDAYS.findIndex(
      (short) => name.toLowerCase().startsWith(short) && LONG.test(name.toLowerCase()),
    );
    return at >= 0 ? at : refuse(`${JSON.stringify(name)} is not a day of the week, as Mon or Monday`);
  };
  const days = new Set<number>();
  for (const part of text.split(',')) {
    const [from = '', to, ...more] = part.split('..');
    if (more.length > 0) refuse(`${JSON.stringify(part)} is not a range of days, as Mon..Fri`);
    const end = dayOf(to ?? from);
    for (let day = dayOf(from); ; day = (day + 1) % 7) {
      days.add(day);
      if (day === end) break;
    }
  }
  return days;
}

const LONG = /^(mon|tue|wed|thu|fri|sat|sun|monday|tuesday|wednesday|thursday|friday|saturday|sunday)$/;

type DateFields = Pick<CalendarExpression, 'years' | 'months' | 'days' | 'isFromEnd'>;

function parseDate(text: string, refuse: Refuse): DateFields {
  const isFromEnd = text.includes('~');
  const parts = text.replace('~', '-').split('-');
  if (parts.length === 2) parts.unshift('*');
  const [year = '', month = '', day = '', ...more] = parts;
  if (more.length > 0 || day === '') refuse(`${JSON.stringify(text)} is not a date, as *-*-1 or 2027-12-31`);
  const years = parseField(year, 'year', YEARS, refuse);
  const months = parseField(month, 'month', [1, 12], refuse);
  const days = parseField(day, 'day', [1, 31], refuse);
  const longest = Math.max(...(months === null ? [31] : [...months].map((m) => DAYS_IN_MONTH[m - 1] ?? 0)));
  if (days !== null && Math.min(...days) > longest) refuse('there is no such day in any of its months');
  return { years, months, days, isFromEnd };
}

function parseTime(text: string, refuse: Refuse): Pick<CalendarExpression, 'minutes' | 'isHourly'> {
  const times = /^\d{1,2}:\d\d(,\d{1,2}:\d\d)+$/.test(text) ? text.split(',') : [text];
  const minutes = new Set<number>();
  let isHourly = false;
  for (const time of times) {
    const [hour = '', minute = '', second = '00', ...more] = time.split(':');
    if (more.length > 0 || second !== '00')
      refuse(`${JSON.stringify(time)} is not a time, as 02:00 or *:0/15`);
    const hours =
      parseField(hour, 'hour', [0, 23], refuse) ?? new Set(Array.from({ length: 24 }, (_, h) => h));
    isHourly ||= hours.size === 24;
    for (const m of parseField(minute, 'minute', [0, 59], refuse) ?? Array.from({ length: 60 }, (_, n) => n))
      for (const h of hours) minutes.add(h * 60 + m);
  }
  return { minutes: [...minutes].sort((a, b) => a - b), isHourly };
}

/** The first instant after `afterMs`; null: it never comes again. */
export function nextInstant(expression: CalendarExpression, afterMs: number): number | null {
  const { zone } = expression;
  // The day before: its last minutes may come after midnight where the clock was set.
  const firstDay = Math.floor(wallTime(zone, afterMs) / DAY_MS) - 1;
  const later = (day: number): number[] =>
    isOnDay(expression, day) ? instantsOn(expression, day).filter((instantMs) => instantMs > afterMs) : [];
  for (let day = firstDay; day < firstDay + DAYS_SEARCHED; day += 1) {
    const found = later(day);
    if (found.length > 0) return Math.min(...found, ...later(day + 1));
  }
  return null;
}

/** @param day of the wall clock, counted from 1970 */
function isOnDay({ weekdays, years, months, days, isFromEnd }: CalendarExpression, day: number): boolean {
  const date = new Date(day * DAY_MS);
  if (weekdays?.has(date.getUTCDay()) === false) return false;
  if (years?.has(date.getUTCFullYear()) === false) return false;
  if (months?.has(date.getUTCMonth() + 1) === false) return false;
  if (days === null) return true;
  const length = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  return days.has(isFromEnd ? length - date.getUTCDate() + 1 : date.getUTCDate());
}

function instantsOn({ minutes, isHourly, zone }: CalendarExpression, day: number): number[] {
  const startMs = day * DAY_MS;
  const offsets = [-1, 0, 1, 2].map((days) => zone.offsetMs(startMs + days * DAY_MS));
  const [offset = 0] = offsets;
  // Most days: the clock is not set.
  if (offsets.every((other) => other === offset))
    return minutes.map((minute) => startMs + minute * MINUTE_MS - offset);
  return minutes.flatMap((minute) => {
    const instants = instantsOf(zone, startMs + minute * MINUTE_MS);
    return isHourly ? instants : instants.slice(0, 1);
  });
}
