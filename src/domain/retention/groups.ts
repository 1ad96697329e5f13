/**
 * Group points stay or go as one. The plan of each device says what keeps each of its points (plan.ts). If
 * one point of a group point stays, all of them do; otherwise all go. A point is in one group point at most,
 * so one look at all plans is enough. Points of a group point that is not whole any more are as any other.
 */
import { type GroupPoint, groupPoints } from '../point/group.js';
import { type Point, pointLabel } from '../point/point.js';
import { pointName } from '../point/point-ref.js';
import type { PlannedPoint, Reason } from './plan.js';

type Device = Pick<Point, 'agent' | 'device'>;

/** By the id of each point: the group point of several points that it is in. */
export function groupPointByMember(points: readonly Point[]): Map<string, GroupPoint> {
  const several = groupPoints(points).filter((group) => group.points.length > 1);
  return new Map(several.flatMap((group) => group.points.map(({ id }) => [id, group] as const)));
}

/** @param plans of all devices that share group points. @returns the same order */
export function keepGroupsWhole(plans: readonly PlannedPoint<Point>[]): PlannedPoint<Point>[] {
  const groups = groupPointByMember(plans.map(({ point }) => point));
  const byId = new Map(plans.map((plan) => [plan.point.id, plan]));
  return plans.map((plan) => {
    const group = groups.get(plan.point.id);
    const reason = plan.stays || group === undefined ? null : reasonFor(group, byId);
    return reason === null ? plan : { ...plan, stays: true, reasons: [reason] };
  });
}

/** Null: none of its points stays. */
function reasonFor(group: GroupPoint, byId: ReadonlyMap<string, PlannedPoint<Point>>): Reason | null {
  for (const { id } of group.points) {
    const other = byId.get(id);
    if (other?.stays !== true) continue;
    const name = pointLabel({ device: group.name, sequence: group.sequence });
    const why = other.reasons[0]?.text ?? 'a rule keeps it';
    const named = pointName(other.point, group.agent);
    return { rule: 'group', text: `group point ${name} needs it: ${named} stays: ${why}` };
  }
  return null;
}

/** Devices that share group points, directly or by way of others, are planned together. */
export function devicesTogether(points: readonly Point[]): Device[][] {
  const groups = groupPointByMember(points);
  const setByKey = new Map<string, Map<string, Device>>();
  const keyOf = ({ agent, device }: Device) => `${agent}/${device}`;
  const setOf = ({ agent, device }: Device): Map<string, Device> => {
    const key = keyOf({ agent, device });
    const set = setByKey.get(key) ?? new Map([[key, { agent, device }]]);
    setByKey.set(key, set);
    return set;
  };
  for (const point of points) {
    const set = setOf(point);
    for (const member of groups.get(point.id)?.points ?? []) {
      for (const [key, device] of setOf(member)) {
        set.set(key, device);
        setByKey.set(key, set);
      }
    }
  }
  const byName = (a: Device, b: Device) => (keyOf(a) < keyOf(b) ? -1 : 1);
  return [...new Set(setByKey.values())].map((set) => [...set.values()].sort(byName));
}
