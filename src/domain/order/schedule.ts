/**
 * When rounds begin: at times of the day, or every so often. Pure: clock and calendar come from outside.
 *
 * Missed rounds (the receiver was down, the round before took too long) are made up for by one round, however
 * many they were. A time that the clock skips in spring comes as late as the clock jumps; one that it shows
 * twice in autumn counts once.
 */
import { StillpointError } from '../base/errors.js';

export const MINUTES_PER_DAY = 24 * 60;
const EVERY_MS_MIN = 60_000;
const EVERY_MS_MAX = 31 * 24 * 60 * 60_000;
const TIMES_MAX = 48;

export type Timing =
  /** Minutes of the local day, ascending. */
  | { readonly kind: 'at'; readonly minutes: readonly number[] }
  | { readonly kind: 'every'; readonly everyMs: number };

/** The local calendar. */
export interface Calendar {
  /** Of the day that the instant lies in: its number, and those before and after it differ by one. */
  dayOf(instantMs: number): number;
  /**
   * The instant of a minute of a day; where the clock skips it, as much later; where
   * it comes twice, the first.
   */
  instantOf(day: number, minute: number): number;
}

/**
 * The first instant after `afterMs` at which a round is due.
 * @param afterMs when the last one began, or the schedule was made.
 */
export function dueAfter(timing: Timing, afterMs: number, calendar: Calendar): number {
  if (timing.kind === 'every') return afterMs + timing.everyMs;
  const today = calendar.dayOf(afterMs);
  // The day before: its last minutes may lie after midnight where the clock was set back over it.
  for (let day = today - 1; ; day += 1) {
    const due = timing.minutes
      .map((minute) => calendar.instantOf(day, minute))
      .filter((instantMs) => instantMs > afterMs);
    if (due.length > 0) return Math.min(...due);
  }
}

/** `02:00,14:30`. @throws StillpointError `usage` */
export function parseTimes(text: string): Timing {
  const minutes = text.split(',').map((part) => {
    const [, hour, minute] = /^\s*(\d{1,2}):(\d\d)\s*$/.exec(part) ?? [];
    const value = Number(hour) * 60 + Number(minute);
    return Number(minute) < 60 && value < MINUTES_PER_DAY ? value : Number.NaN;
  });
  if (minutes.some(Number.isNaN) || minutes.length > TIMES_MAX) {
    throw new StillpointError('usage', {
      thing: `times ${JSON.stringify(text.slice(0, 80))}`,
      reason: `it is not a list of up to ${TIMES_MAX} times of day`,
      remedy: 'Write for example 02:00 or 02:00,14:30.',
    });
  }
  return { kind: 'at', minutes: [...new Set(minutes)].sort((a, b) => a - b) };
}

const UNIT_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `30m`, `6h`, `1d`. @throws StillpointError `usage` */
export function parseEvery(text: string): Timing {
  const [, digits, unit = ''] = /^\s*(\d{1,5})\s*([mhd])\s*$/.exec(text) ?? [];
  const everyMs = Number(digits) * (UNIT_MS[unit] ?? Number.NaN);
  if (everyMs >= EVERY_MS_MIN && everyMs <= EVERY_MS_MAX) return { kind: 'every', everyMs };
  throw new StillpointError('usage', {
    thing: `interval ${JSON.stringify(text.slice(0, 80))}`,
    reason: 'it is not a time from 1m to 31d',
    remedy: 'Write for example 30m, 6h or 1d.',
  });
}

export function describeTiming(timing: Timing): string {
  if (timing.kind === 'at') {
    const pad = (value: number) => String(value).padStart(2, '0');
    return `at ${timing.minutes.map((m) => `${pad(Math.floor(m / 60))}:${pad(m % 60)}`).join(', ')}`;
  }
  const { everyMs } = timing;
  const unit = Object.entries(UNIT_MS)
    .reverse()
    .find(([, ms]) => everyMs % ms === 0) ?? ['m', 60_000];
  return `every ${everyMs / unit[1]}${unit[0]}`;
}
