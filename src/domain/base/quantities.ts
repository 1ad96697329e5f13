/** Sizes and periods as people write them. Pure. */
import { StillpointError } from './errors.js';

const PERIOD = /^(\d{1,5})\s*([mhdw])$/i;
const PERIOD_MS: Readonly<Record<string, number>> = {
  m: 60_000,
  h: 3_600_000,
  d: 24 * 3_600_000,
  w: 7 * 24 * 3_600_000,
};

/** 90m, 12h, 7d, 4w; in ms. @throws StillpointError `usage` */
export function parsePeriod(what: string, text: string, leastMs: number): number {
  const match = PERIOD.exec(text.trim());
  const periodMs =
    match === null ? Number.NaN : Number(match[1]) * (PERIOD_MS[(match[2] ?? '').toLowerCase()] ?? 0);
  if (periodMs >= leastMs) return periodMs;
  throw new StillpointError('usage', {
    thing: `${what} ${JSON.stringify(text)}`,
    reason: Number.isNaN(periodMs) ? 'it is not a period' : `it is less than ${describePeriod(leastMs)}`,
    remedy: 'Write for example 90m, 12h, 7d or 4w.',
  });
}

const SIZE = /^(\d{1,15})\s*(?:([KMGT])(?:i?B)?|B)?$/i;
const SIZE_FACTOR: Readonly<Record<string, number>> = { K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 };

/** 65536, 64K, 64KiB, 1M. @throws StillpointError `usage` */
export function parseSize(what: string, text: string): number {
  const match = SIZE.exec(text.trim());
  const bytes =
    match === null ? Number.NaN : Number(match[1]) * (SIZE_FACTOR[(match[2] ?? '').toUpperCase()] ?? 1);
  if (!Number.isSafeInteger(bytes)) {
    throw new StillpointError('usage', {
      thing: `${what} ${JSON.stringify(text)}`,
      reason: 'it is not a size',
      remedy: 'Write for example 65536, 64K or 1M.',
    });
  }
  return bytes;
}

/** As `parsePeriod` reads it: 90m, 12h, 7d, 4w; in the largest unit that gives a whole number. */
export function describePeriod(periodMs: number): string {
  const [unit = 'm', unitMs = 60_000] =
    Object.entries(PERIOD_MS).findLast(([, ms]) => periodMs % ms === 0) ?? [];
  return `${Math.round(periodMs / unitMs)}${unit}`;
}
