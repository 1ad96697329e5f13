/**
 * Calendar periods of one time zone. A zone is named in the settings, so that the same point is in the same
 * day whoever asks, and whichever zone a program happens to run in.
 *
 * When clocks are set back, an hour comes twice: these are two hours, since their distance from UTC differs.
 * Days of 23 and 25 hours are days. Weeks are those of ISO 8601: they begin on Monday, and a week belongs to
 * the year of its Thursday.
 */
import { StillpointError } from '../base/errors.js';

const DAY_MS = 86_400_000;

export interface CalendarTime {
  readonly year: number;
  /** From 1. */
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  /** East of UTC. */
  readonly offsetMinutes: number;
}

export interface RetentionCalendar {
  readonly timeZone: string;
  at(instantMs: number): CalendarTime;
}

/**
 * The distance from UTC is looked up at the ends of each UTC day, and inside of those days only in which it
 * changes: a look takes long, and a store may have very many points.
 * @throws StillpointError `config` for a zone that is not known
 */
export function zoneCalendar(timeZone: string): RetentionCalendar {
  const format = formatOf(timeZone);
  const atStartOfDay = new Map<number, number>();
  const startOffset = (utcDay: number): number => {
    const offsetMinutes = atStartOfDay.get(utcDay) ?? offsetAt(format, utcDay * DAY_MS);
    atStartOfDay.set(utcDay, offsetMinutes);
    return offsetMinutes;
  };
  return {
    timeZone,
    at(instantMs) {
      const utcDay = Math.floor(instantMs / DAY_MS);
      const atStart = startOffset(utcDay);
      const offsetMinutes = startOffset(utcDay + 1) === atStart ? atStart : offsetAt(format, instantMs);
      const local = new Date(instantMs + offsetMinutes * 60_000);
      const [year, month, day] = [local.getUTCFullYear(), local.getUTCMonth() + 1, local.getUTCDate()];
      return { year, month, day, hour: local.getUTCHours(), offsetMinutes };
    },
  };
}

function offsetAt(format: Intl.DateTimeFormat, instantMs: number): number {
  const parts = new Map(format.formatToParts(instantMs).map(({ type, value }) => [type, Number(value)]));
  const [year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0] = (
    ['year', 'month', 'day', 'hour', 'minute', 'second'] as const
  ).map((name) => parts.get(name));
  const localMs = Date.UTC(year, month - 1, day, hour, minute, second);
  return Math.round((localMs - Math.floor(instantMs / 1000) * 1000) / 60_000);
}

function formatOf(timeZone: string): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat('en-US-u-ca-iso8601-nu-latn', {
      ...{ timeZone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric' },
      ...{ hour: 'numeric', minute: 'numeric', second: 'numeric' },
    });
  } catch (cause) {
    throw new StillpointError('config', {
      thing: `time zone ${JSON.stringify(timeZone.slice(0, 80))}`,
      reason: 'it is not known',
      remedy: 'Name one of the IANA database, such as Europe/Berlin, or UTC.',
      cause,
    });
  }
}

export type PeriodKind = 'hour' | 'day' | 'week' | 'month' | 'year';

/** The period that the time is in: the same text for each time in it, and fit to be shown. */
export function periodOf(kind: PeriodKind, time: CalendarTime): string {
  const { year, month, day } = time;
  switch (kind) {
    case 'hour':
      return `${dayText(time)} ${two(time.hour)}:00${offsetText(time.offsetMinutes)}`;
    case 'day':
      return dayText(time);
    case 'week':
      return weekText(year, month, day);
    case 'month':
      return `${four(year)}-${two(month)}`;
    case 'year':
      return four(year);
  }
}

function weekText(year: number, month: number, day: number): string {
  const dayMs = Date.UTC(year, month - 1, day);
  const weekday = (new Date(dayMs).getUTCDay() + 6) % 7;
  const thursday = new Date(dayMs + (3 - weekday) * DAY_MS);
  const week =
    Math.floor((thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / (7 * DAY_MS)) + 1;
  return `${four(thursday.getUTCFullYear())}-W${two(week)}`;
}

function dayText({ year, month, day }: CalendarTime): string {
  return `${four(year)}-${two(month)}-${two(day)}`;
}

function offsetText(offsetMinutes: number): string {
  if (offsetMinutes === 0) return 'Z';
  const minutes = Math.abs(offsetMinutes);
  return `${offsetMinutes > 0 ? '+' : '-'}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}

const two = (value: number): string => String(value).padStart(2, '0');
const four = (value: number): string => String(value).padStart(4, '0');
