/**
 * `--limit-rate`: how many bytes a second may go over the link, by time of day if desired. Pure: the time
 * comes from outside.
 *
 *   500K    10M    56kbit    10Mbit                     always
 *   08:00-18:00=56kbit,18:00-22:00=2M,10M               by local time; the entry without a
 *                                                       window is the rest of the day
 *
 * Without such an entry the rest of the day has no limit. Windows may wrap over midnight. The first one that
 * fits counts.
 */
import { StillpointError } from '../base/errors.js';
import { RATE_BYTES_PER_SECOND_MIN, RATE_WINDOWS_MAX } from '../base/limits.js';

export interface RateWindow {
  /** Minutes since midnight, local time: [from, to), over midnight where `to` is not after `from`. */
  readonly fromMinute: number;
  readonly toMinute: number;
  readonly bytesPerSecond: number;
}

export interface RateSchedule {
  readonly windows: readonly RateWindow[];
  /** Outside of all windows; null: no limit. */
  readonly otherwise: number | null;
}

/** @throws StillpointError `usage` */
export function parseRateLimit(text: string): RateSchedule {
  const entries = text.split(',').map((entry) => entry.trim());
  if (entries.length > RATE_WINDOWS_MAX) {
    throw usage(text, `it has ${entries.length} entries, and ${RATE_WINDOWS_MAX} is the limit`);
  }
  const windows: RateWindow[] = [];
  let otherwise: number | null = null;
  for (const [at, entry] of entries.entries()) {
    const [window, rate, ...more] = entry.split('=');
    if (more.length > 0) throw usage(entry, 'it is not WINDOW=RATE');
    if (rate !== undefined) windows.push({ ...parseWindow(window ?? ''), bytesPerSecond: parseRate(rate) });
    else if (at === entries.length - 1) otherwise = parseRate(entry);
    else throw usage(entry, 'only the last entry may be without a window: it is the rest of the day');
  }
  return { windows, otherwise };
}

/** The text that gives this schedule. */
export function formatRateLimit({ windows, otherwise }: RateSchedule): string {
  const time = (minute: number): string =>
    `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
  const entries = windows.map(
    ({ fromMinute, toMinute, bytesPerSecond }) => `${time(fromMinute)}-${time(toMinute)}=${bytesPerSecond}`,
  );
  return [...entries, ...(otherwise === null ? [] : [String(otherwise)])].join(',');
}

/** @param atMs since 1970. @returns bytes a second, null for no limit. */
export function rateAt({ windows, otherwise }: RateSchedule, atMs: number): number | null {
  const local = new Date(atMs);
  const minute = local.getHours() * 60 + local.getMinutes();
  const window = windows.find(({ fromMinute, toMinute }) =>
    fromMinute < toMinute
      ? fromMinute <= minute && minute < toMinute
      : fromMinute <= minute || minute < toMinute,
  );
  return window === undefined ? otherwise : window.bytesPerSecond;
}

const WINDOW = /^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)$/;
const MINUTES_PER_DAY = 24 * 60;

function parseWindow(text: string): Pick<RateWindow, 'fromMinute' | 'toMinute'> {
  const match = WINDOW.exec(text.trim());
  const [fromHour = 0, fromRest = 0, toHour = 0, toRest = 0] = match?.slice(1).map(Number) ?? [];
  const fromMinute = fromHour * 60 + fromRest;
  const toMinute = toHour * 60 + toRest;
  if (match === null || toMinute > MINUTES_PER_DAY) throw usage(text, 'it is not a window HH:MM-HH:MM');
  if (fromMinute === toMinute) throw usage(text, 'its window is empty');
  return { fromMinute, toMinute };
}

/** 10Mb would be bits to one and bytes to another, eight times as much: not taken. */
const RATE = /^(\d{1,12}(?:\.\d{1,6})?)\s*(?:([kKmMgG]?)bit|([kKmMgG])?(?:i?B)?)$/;
const BYTE_FACTOR: Readonly<Record<string, number>> = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 };
const BIT_FACTOR: Readonly<Record<string, number>> = { '': 1, K: 1e3, M: 1e6, G: 1e9 };

/** 500K is 500 * 1024 bytes a second; 56kbit is 56,000 bits, 7,000 bytes, as links are sold. */
function parseRate(text: string): number {
  const match = RATE.exec(text.trim());
  if (match === null) throw usage(text, 'it is not a rate');
  const [, number = '', bits, bytes = ''] = match;
  const bytesPerSecond =
    bits === undefined
      ? Number(number) * (BYTE_FACTOR[bytes.toUpperCase()] ?? 1)
      : (Number(number) * (BIT_FACTOR[bits.toUpperCase()] ?? 1)) / 8;
  if (bytesPerSecond >= RATE_BYTES_PER_SECOND_MIN) return Math.floor(bytesPerSecond);
  throw usage(
    text,
    `it is below 32kbit (${RATE_BYTES_PER_SECOND_MIN} bytes a second), at which a receiver gives up`,
  );
}

function usage(text: string, reason: string): StillpointError {
  return new StillpointError('usage', {
    thing: `rate limit ${JSON.stringify(text.slice(0, 80))}`,
    reason,
    remedy: 'Write for example 500K or 500KB for bytes, 10Mbit for bits a second, or 08:00-18:00=56kbit,10M.',
  });
}

/** What goes at once after a pause, in seconds of the rate. */
const BURST_SECONDS = 0.1;
/** A wait is never longer, so that a window that begins meanwhile is seen. */
const WAIT_MS_MAX = 1000;

/**
 * A token bucket that may go into debt: what is asked for is given whole as soon as nothing is owed, so that
 * pieces need not fit the burst. Debt is in bytes: a rate that changes takes effect at once.
 */
export class TokenBucket {
  #tokens = 0;
  #atMs: number;
  /** Since then. */
  #bytesPerSecond: number | null = null;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** @returns 0: the bytes may go now, and are counted. Else ask again after so many ms. */
  take(bytes: number, nowMs: number, bytesPerSecond: number | null): number {
    const elapsedMs = Math.max(0, nowMs - this.#atMs);
    this.#atMs = nowMs;
    const before = this.#bytesPerSecond ?? bytesPerSecond ?? 0;
    this.#bytesPerSecond = bytesPerSecond;
    if (bytesPerSecond === null) {
      this.#tokens = 0;
      return 0;
    }
    const burst = bytesPerSecond * BURST_SECONDS;
    this.#tokens = Math.min(burst, this.#tokens + (elapsedMs / 1000) * before);
    if (this.#tokens < 0) return Math.min(WAIT_MS_MAX, Math.ceil((-this.#tokens / bytesPerSecond) * 1000));
    this.#tokens -= bytes;
    return 0;
  }
}
