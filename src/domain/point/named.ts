/**
 * What a user means by the name of a point: a point, or a group point. A name is that of a device first; the
 * receiver gives no group the name of one. Ids are looked for among both.
 */
import { StillpointError } from '../base/errors.js';
import {
  asNamed,
  type BrokenGroupPoint,
  brokenGroupPoints,
  type GroupPoint,
  groupPoints,
  resolveGroup,
} from './group.js';
import type { Point } from './point.js';
import { type DeviceRef, deviceName, type PointRef, pointName, resolvePoint } from './point-ref.js';

export type Named =
  | { readonly kind: 'point'; readonly point: Point }
  | { readonly kind: 'group'; readonly group: GroupPoint };

const NAMES_MAX = 10;

/** Some of these are of the device. */
export function hasDevice(ref: PointRef, points: readonly Point[]): boolean {
  return ref.by !== 'id' && points.some(isOf(ref));
}

/**
 * @param points those of the device, if there are any; otherwise all
 * @param own as of `resolvePoint`
 * @throws StillpointError as `resolvePoint`
 */
export function resolveNamed(ref: PointRef, points: readonly Point[], own: string | null): Named {
  if (hasDevice(ref, points)) return { kind: 'point', point: resolvePoint(ref, points, own) };
  const groups = groupPoints(points, own);
  if (ref.by === 'id') {
    const found = resolvePoint(ref, [...points, ...groups.map(asNamed)], own);
    return 'points' in found ? { kind: 'group', group: found } : { kind: 'point', point: found };
  }
  const ofName = isOf(ref);
  const broken = brokenGroupPoints(points, own).filter((group) => ofName(asNamed(group)));
  if (!groups.map(asNamed).some(ofName) && broken.length === 0) throw unknownName(ref, points, own);
  for (const group of broken) {
    if (ref.by === 'sequence' && group.sequence === ref.sequence) throw notWhole(group, own);
  }
  const [last] = broken.slice(-1);
  if (last !== undefined && !groups.map(asNamed).some(ofName)) throw notWhole(last, own);
  return { kind: 'group', group: resolveGroup(ref, groups, own) };
}

/** @throws StillpointError `bad-point-name`: a command takes one point, and is given a group's */
export function refuseGroup(group: GroupPoint, own: string | null): never {
  throw new StillpointError('bad-point-name', {
    thing: `group point ${pointName(asNamed(group), own)}`,
    reason: `it is ${group.points.length} points, and one is needed`,
    remedy: nameOne(group.points, own),
  });
}

const isOf =
  (ref: DeviceRef) =>
  ({ agent, device }: Pick<Point, 'agent' | 'device'>): boolean =>
    device === ref.device && (ref.agent === undefined || agent === ref.agent);

function notWhole(group: BrokenGroupPoint, own: string | null): StillpointError {
  const { memberCount, points } = group;
  return new StillpointError('point-unknown', {
    thing: `group point ${pointName(asNamed(group), own)}`,
    reason: `it is not whole any more: ${points.length} of its ${memberCount} points ${points.length === 1 ? 'is' : 'are'} left`,
    remedy: nameOne(points, own),
  });
}

function nameOne(points: readonly Point[], own: string | null): string {
  return `Name one of its points: ${points.map((point) => pointName(point, own)).join(', ')}.`;
}

/** Where there are groups, they are named beside the devices. */
function unknownName(ref: DeviceRef, points: readonly Point[], own: string | null): StillpointError {
  const devices = namesOf(points, own);
  const groups = namesOf([...groupPoints(points, own), ...brokenGroupPoints(points, own)].map(asNamed), own);
  const name = ref.agent === undefined ? ref.device : `${ref.agent}/${ref.device}`;
  return new StillpointError('device-unknown', {
    thing: `device ${name}`,
    reason:
      groups === '' ? 'the store has no point of it' : 'the store has no point of it, nor of such a group',
    remedy:
      devices === ''
        ? 'The store has no points yet.'
        : `Devices with points: ${devices}.${groups === '' ? '' : ` Groups: ${groups}.`}`,
  });
}

function namesOf(of: readonly Pick<Point, 'agent' | 'device'>[], own: string | null): string {
  const names = [...new Set(of.map((entry) => deviceName(entry, own)))];
  return names.slice(0, NAMES_MAX).join(', ') + (names.length > NAMES_MAX ? ', …' : '');
}
