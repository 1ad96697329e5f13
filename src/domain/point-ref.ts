/**
 * How a user names a point: `DEVICE@latest`, `DEVICE@SEQUENCE`, `DEVICE@TIME`, or the point's id or an unambiguous beginning of it of at
 * least 8 hex digits.
 *
 * TIME names the last point up to its end (point-time.ts): a date means up to the end of that day. So a time copied from a list of points
 * names the point that it was copied from. One that may mean several points, for being within the same second or for clocks having been
 * set back, is refused with the candidates.
 */
import { StillpointError } from './errors.js';
import { checkName } from './names.js';
import type { Point } from './point.js';
import { type PointTime, parsePointTime, type TimeSpan } from './point-time.js';

export type PointRef =
  | { readonly by: 'latest'; readonly device: string }
  | { readonly by: 'sequence'; readonly device: string; readonly sequence: number }
  | { readonly by: 'time'; readonly device: string; readonly text: string; readonly time: PointTime }
  | { readonly by: 'id'; readonly idPrefix: string };

const ID_PREFIX = /^[0-9a-f]{8,32}$/;
const SEQUENCE = /^[1-9][0-9]{0,14}$/;
const CANDIDATES_MAX = 5;

/** @throws StillpointError `bad-point-name`, or `bad-name` for the device's part. */
export function parsePointRef(text: string): PointRef {
  const at = text.lastIndexOf('@');
  if (at < 0) {
    const idPrefix = text.toLowerCase();
    if (ID_PREFIX.test(idPrefix)) return { by: 'id', idPrefix };
    throw badName(text, 'it is neither DEVICE@WHICH nor a point id');
  }
  const device = checkName('device', text.slice(0, at));
  const which = text.slice(at + 1);
  if (which === 'latest') return { by: 'latest', device };
  if (SEQUENCE.test(which)) return { by: 'sequence', device, sequence: Number(which) };
  const time = parsePointTime(which);
  if (time !== null) return { by: 'time', device, text: which, time };
  throw badName(text, `"${which}" is neither "latest", nor a sequence number, nor an ISO 8601 time`);
}

function badName(text: string, reason: string): StillpointError {
  return new StillpointError('bad-point-name', {
    thing: `point ${JSON.stringify(text.slice(0, 200))}`,
    reason,
    remedy:
      'Name it like disk1@latest, disk1@3, disk1@2026-07-01 or by 8 or more hex digits of its id; "stillpoint points" lists them.',
  });
}

/** The device whose points are needed to resolve the reference; undefined: those of all devices. */
export function deviceOf(ref: PointRef): string | undefined {
  return ref.by === 'id' ? undefined : ref.device;
}

/**
 * @param points those of the device, or of all devices.
 * @throws StillpointError `device-unknown`, `point-unknown`, `bad-point-name` (ambiguous), each with the candidates.
 */
export function resolvePoint(ref: PointRef, points: readonly Point[]): Point {
  if (ref.by === 'id') return byId(ref.idPrefix, points);
  const own = points.filter((point) => point.device === ref.device).sort((a, b) => a.sequence - b.sequence);
  const newest = own.at(-1);
  if (newest === undefined) {
    throw new StillpointError('device-unknown', {
      thing: `device ${ref.device}`,
      reason: 'the store has no point of it',
      remedy: hint('Devices with points', [...new Set(points.map((point) => point.device))]),
    });
  }
  if (ref.by === 'latest') return newest;
  if (ref.by === 'sequence') {
    const found = own.find((point) => point.sequence === ref.sequence);
    if (found !== undefined) return found;
    throw unknown(`point ${ref.device}@${ref.sequence}`, 'there is no point of that number', own);
  }
  return byTime(ref, own);
}

/** @param own the device's points, by sequence */
function byTime({ text, time }: PointRef & { by: 'time' }, own: readonly Point[]): Point {
  const [{ device } = { device: '' }] = own;
  const named = `point ${device}@${text}`;
  const candidates = new Set(time.spans.flatMap((span) => lastIn(span, time.isExact, own)));
  const [first, ...others] = candidates;
  if (first === undefined) {
    throw unknown(named, 'all points of the device are later', own.slice(0, CANDIDATES_MAX));
  }
  if (others.length === 0) return first;
  const reason =
    time.spans.length > 1
      ? 'clocks showed that time twice, and it means another point each time'
      : `${candidates.size} points were taken within that time`;
  throw new StillpointError('bad-point-name', {
    thing: named,
    reason,
    remedy: hint('Name one of them', [...candidates].map(describe)),
  });
}

/** The last point up to the end of the span; where the span is as exact as a list of points, all that were taken within it. */
function lastIn({ fromMs, endMs }: TimeSpan, isExact: boolean, own: readonly Point[]): Point[] {
  const before = own.filter((point) => Date.parse(point.instant) < endMs);
  const within = before.filter((point) => Date.parse(point.instant) >= fromMs);
  if (isExact && within.length > 0) return within;
  let last: Point | undefined;
  for (const point of before) {
    if (last === undefined || Date.parse(point.instant) >= Date.parse(last.instant)) last = point;
  }
  return last === undefined ? [] : [last];
}

function byId(idPrefix: string, points: readonly Point[]): Point {
  const found = points.filter((point) => point.id.startsWith(idPrefix));
  const [first] = found;
  if (first === undefined) throw unknown(`point ${idPrefix}`, 'no point has an id that starts so', points);
  if (found.length === 1) return first;
  throw new StillpointError('bad-point-name', {
    thing: `point ${idPrefix}`,
    reason: `${found.length} points have an id that starts so`,
    remedy: hint('Use more digits', found.map(describe)),
  });
}

function unknown(thing: string, reason: string, candidates: readonly Point[]): StillpointError {
  return new StillpointError('point-unknown', {
    thing,
    reason,
    remedy: hint('There are', candidates.slice(-CANDIDATES_MAX).map(describe)),
  });
}

function describe(point: Point): string {
  return `${point.device}@${point.sequence} (${point.instant}, ${point.id.slice(0, 12)})`;
}

function hint(lead: string, candidates: readonly string[]): string {
  if (candidates.length === 0) return 'The store has no points yet.';
  return `${lead}: ${candidates.slice(0, CANDIDATES_MAX).join(', ')}.`;
}
