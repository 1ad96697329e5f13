/**
 * How a user names a point: `DEVICE@latest`, `DEVICE@SEQUENCE`, `DEVICE@TIME`, or the point's id or an
 * unambiguous beginning of it of at least 8 hex digits. In a receiver's own directory, which shows the points
 * of several agents, `AGENT/DEVICE@...` says whose.
 *
 * TIME names the last point up to its end (point-time.ts): a date means up to the end of that day. So a time
 * copied from a list of points names the point that it was copied from. A time that may mean several points,
 * because they are within the same second or clocks were set back, is refused with the candidates.
 */
import { StillpointError } from '../base/errors.js';
import { checkName } from '../base/names.js';
import type { Point } from './point.js';
import { type PointTime, parsePointTime, type TimeSpan } from './point-time.js';

export type PointRef =
  | (DeviceRef & { readonly by: 'latest' })
  | (DeviceRef & { readonly by: 'sequence'; readonly sequence: number })
  | (DeviceRef & { readonly by: 'time'; readonly text: string; readonly time: PointTime })
  | { readonly by: 'id'; readonly idPrefix: string };

/** What a reference is resolved by. */
type Referred = Pick<Point, 'id' | 'agent' | 'device' | 'sequence' | 'instant'>;

export interface DeviceRef {
  /** Undefined: not said. */
  readonly agent?: string;
  readonly device: string;
}

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
  const name = parseDeviceRef(text.slice(0, at));
  const which = text.slice(at + 1);
  if (which === 'latest') return { by: 'latest', ...name };
  if (SEQUENCE.test(which)) return { by: 'sequence', ...name, sequence: Number(which) };
  const time = parsePointTime(which);
  if (time !== null) return { by: 'time', ...name, text: which, time };
  throw badName(text, `"${which}" is neither "latest", nor a sequence number, nor an ISO 8601 time`);
}

/** `DEVICE` or `AGENT/DEVICE`. @throws StillpointError `bad-name` */
export function parseDeviceRef(text: string): DeviceRef {
  const slash = text.indexOf('/');
  const device = checkName('device', text.slice(slash + 1));
  return slash < 0 ? { device } : { agent: checkName('agent', text.slice(0, slash)), device };
}

/** How a point is named to users. @param own the agent whose points need no agent's name; null: all */
export function pointName(
  point: { readonly agent: string; readonly device: string; readonly sequence: number },
  own: string | null,
): string {
  return `${deviceName(point, own)}@${point.sequence}`;
}

/** As `pointName`, of a device. */
export function deviceName(
  { agent, device }: { readonly agent: string; readonly device: string },
  own: string | null,
): string {
  return own === null || agent === own ? device : `${agent}/${device}`;
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
 * @param own the agent whose points are meant where no agent is said; null: all are of one agent.
 * @throws StillpointError `device-unknown`, `point-unknown`, `bad-point-name` (ambiguous), each with the
 * candidates.
 */
export function resolvePoint<P extends Referred>(
  ref: PointRef,
  points: readonly P[],
  ownAgent: string | null = null,
): P {
  const unknown = unknownFor(ownAgent);
  if (ref.by === 'id') return byId(ref.idPrefix, points, ownAgent);
  const name = ref.agent === undefined ? ref.device : `${ref.agent}/${ref.device}`;
  const own = pointsOf(ref, points, ownAgent).sort((a, b) => a.sequence - b.sequence);
  const newest = own.at(-1);
  if (newest === undefined) {
    throw new StillpointError('device-unknown', {
      thing: `device ${name}`,
      reason: 'the store has no point of it',
      remedy: hint('Devices with points', [...new Set(points.map((point) => deviceName(point, ownAgent)))]),
    });
  }
  if (ref.by === 'latest') return newest;
  if (ref.by === 'sequence') {
    const found = own.find((point) => point.sequence === ref.sequence);
    if (found !== undefined) return found;
    throw unknown(`point ${name}@${ref.sequence}`, 'there is no point of that number', own);
  }
  return byTime(ref, name, own, ownAgent);
}

/** @param own the device's points, by sequence */
function byTime<P extends Referred>(
  ref: PointRef & { by: 'time' },
  name: string,
  own: readonly P[],
  ownAgent: string | null,
): P {
  const { text, time } = ref;
  const named = `point ${name}@${text}`;
  const candidates = new Set(time.spans.flatMap((span) => lastIn(span, time.isExact, own)));
  const [first, ...others] = candidates;
  if (first === undefined) {
    throw unknownFor(ownAgent)(named, 'all points of the device are later', own.slice(0, CANDIDATES_MAX));
  }
  if (others.length === 0) return first;
  const names = [...candidates].map((point) => describePoint(point, ownAgent));
  throw ambiguousTime(ref, names, candidates.size);
}

/** @param names of what it may mean */
export function ambiguousTime(
  { agent, device, text, time }: DeviceRef & { readonly text: string; readonly time: PointTime },
  names: readonly string[],
  count: number,
): StillpointError {
  const reason =
    time.spans.length > 1
      ? 'clocks showed that time twice, and it means something different each time'
      : `${count} points were taken within that time`;
  return new StillpointError('bad-point-name', {
    thing: `point ${agent === undefined ? device : `${agent}/${device}`}@${text}`,
    reason,
    remedy: hint('Name one of them', names),
  });
}

/**
 * The last point up to the end of the span; where the span is as exact as a list of points, all
 * that were taken within it.
 */
function lastIn<P extends Referred>({ fromMs, endMs }: TimeSpan, isExact: boolean, own: readonly P[]): P[] {
  const before = own.filter((point) => Date.parse(point.instant) < endMs);
  const within = before.filter((point) => Date.parse(point.instant) >= fromMs);
  if (isExact && within.length > 0) return within;
  let last: P | undefined;
  for (const point of before) {
    if (last === undefined || Date.parse(point.instant) >= Date.parse(last.instant)) last = point;
  }
  return last === undefined ? [] : [last];
}

/** Those of the device; where several agents have one of that name and none is said, the own one's. */
export function pointsOf<P extends Referred>(ref: DeviceRef, points: readonly P[], own: string | null): P[] {
  const found = points.filter(
    (point) => point.device === ref.device && (ref.agent === undefined || point.agent === ref.agent),
  );
  const agents = [...new Set(found.map((point) => point.agent))].sort();
  if (agents.length < 2) return found;
  if (own !== null && agents.includes(own)) return found.filter((point) => point.agent === own);
  const [first = ''] = agents;
  throw new StillpointError('bad-point-name', {
    thing: `device ${ref.device}`,
    reason: `${agents.length} agents have a device of this name: ${agents.slice(0, CANDIDATES_MAX).join(', ')}${agents.length > CANDIDATES_MAX ? ', …' : ''}`,
    remedy: `Say whose, like ${first}/${ref.device}@latest, or with --agent ${first}.`,
  });
}

function byId<P extends Referred>(idPrefix: string, points: readonly P[], own: string | null): P {
  const found = points.filter((point) => point.id.startsWith(idPrefix));
  const [first] = found;
  if (first === undefined)
    throw unknownFor(own)(`point ${idPrefix}`, 'no point has an id that starts like this', points);
  if (found.length === 1) return first;
  throw new StillpointError('bad-point-name', {
    thing: `point ${idPrefix}`,
    reason: `${found.length} points have an id that starts like this`,
    remedy: hint(
      'Use more digits',
      found.map((point) => describePoint(point, own)),
    ),
  });
}

function unknownFor(own: string | null) {
  return (thing: string, reason: string, candidates: readonly Referred[]): StillpointError =>
    new StillpointError('point-unknown', {
      thing,
      reason,
      remedy: hint(
        'There are',
        candidates.slice(-CANDIDATES_MAX).map((point) => describePoint(point, own)),
      ),
    });
}

export function describePoint(point: Referred, own: string | null): string {
  return `${pointName(point, own)} (${point.instant}, ${point.id.slice(0, 12)})`;
}

function hint(lead: string, candidates: readonly string[]): string {
  if (candidates.length === 0) return 'The store has no points yet.';
  return `${lead}: ${candidates.slice(0, CANDIDATES_MAX).join(', ')}.`;
}
