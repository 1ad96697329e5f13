/**
 * TIME in `DEVICE@TIME`: ISO 8601, local time unless it names its zone. A time is as long as its last digit
 * says: `12:00` is a minute, `12:00:05` a second, a date a day. So a time that was printed to the second
 * names the point that was taken within that second.
 *
 * If clocks are set back, a local time comes twice: then it has two spans.
 */

export interface TimeSpan {
  readonly fromMs: number;
  /** Not in it any more. */
  readonly endMs: number;
}

export interface PointTime {
  /** One, or two in the order of time. */
  readonly spans: readonly TimeSpan[];
  /**
   * It is given to the second or closer, as points are listed: it means one point, not the
   * last one of a longer time.
   */
  readonly isExact: boolean;
}

const DATE = /^(\d{4}-\d\d-\d\d)$/;
const DATE_TIME = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(\.\d{1,9})? ?(Z|[+-]\d\d:?\d\d)?$/;

const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;
const DAY_MS = 24 * 60 * MINUTE_MS;

/** @returns null if it is not such a time. */
export function parsePointTime(text: string): PointTime | null {
  const [, date = '', clock, seconds, fraction, zone] = DATE_TIME.exec(text) ?? DATE.exec(text) ?? [];
  if (!isDate(date) || (fraction !== undefined && seconds === undefined)) return null;
  if (clock === undefined) return dayOf(date);
  // More digits than the clock has milliseconds only tell the same one.
  const local = `${date}T${clock}${seconds ?? ':00'}${(fraction ?? '').slice(0, 4)}`;
  const starts = zone === undefined ? localTimes(local) : [Date.parse(`${local}${zone}`)];
  if (starts.some(Number.isNaN)) return null;
  const lengthMs =
    seconds === undefined
      ? MINUTE_MS
      : fraction === undefined
        ? SECOND_MS
        : Math.max(1, SECOND_MS / 10 ** (fraction.length - 1));
  return {
    spans: starts.map((fromMs) => ({ fromMs, endMs: fromMs + lengthMs })),
    isExact: seconds !== undefined,
  };
}

/** Date.parse takes 30 February for 2 March. */
function isDate(date: string): boolean {
  const [year = 0, month = 0, day = 0] = date.split('-').map(Number);
  return new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day;
}

/** Days that begin or end a daylight-saving time are 23 or 25 hours long. */
function dayOf(date: string): PointTime {
  const [year = 0, month = 0, day = 0] = date.split('-').map(Number);
  const fromMs = new Date(year, month - 1, day).getTime();
  const endMs = new Date(year, month - 1, day + 1).getTime();
  return { spans: [{ fromMs, endMs }], isExact: false };
}

/**
 * When clocks here show that time: once, or twice; one that clocks leave out is read on as if they
 * had not been set forward.
 */
function localTimes(local: string): number[] {
  const asUtcMs = Date.parse(`${local}Z`);
  const offsetsMs = [-DAY_MS, DAY_MS].map(
    (distanceMs) => new Date(asUtcMs + distanceMs).getTimezoneOffset() * MINUTE_MS,
  );
  const shown = [...new Set(offsetsMs)]
    .map((offsetMs) => asUtcMs + offsetMs)
    .filter((timeMs) => timeMs - new Date(timeMs).getTimezoneOffset() * MINUTE_MS === asUtcMs)
    .sort((a, b) => a - b);
  return shown.length > 0 ? shown : [Date.parse(local)];
}
