/**
 * Plans of the points of a store, from what it knows at this moment. Devices that share group points are
 * planned together, since a group point stays or goes as one.
 */
import type { GroupPoint } from '../../domain/point/group.js';
import type { Point } from '../../domain/point/point.js';
import { zoneCalendar } from '../../domain/retention/calendar.js';
import type { ClockJudgement } from '../../domain/retention/clock.js';
import { devicesTogether, groupPointByMember, keepGroupsWhole } from '../../domain/retention/groups.js';
import { lockAt } from '../../domain/retention/lock.js';
import { type PlannedPoint, planRetention } from '../../domain/retention/plan.js';
import { policyFor } from '../../domain/retention/policy.js';
import { pinOf } from '../../domain/retention/settings.js';
import type { DeviceKey, Store } from '../../store/port/store.js';

/** Null: any. */
export interface PlanScope {
  readonly agent: string | null;
  readonly device: string | null;
}

export interface Plan {
  /** Of devices in the scope; and points of other devices that go with one of them, as a group point. */
  readonly points: readonly PlannedPoint<Point>[];
  /** By the id of each point. */
  readonly groups: ReadonlyMap<string, GroupPoint>;
  /** Of each device in the scope. */
  readonly hasPolicy: readonly boolean[];
}

/** Devices that must be planned together, where one of them is in the scope. */
export async function devicesInScope(store: Store, scope: PlanScope): Promise<DeviceKey[][]> {
  // Of all agents: a group of the receiver has points of several.
  return devicesTogether(await store.points({})).filter((devices) => devices.some(isIn(scope)));
}

/** @param devices of `devicesInScope` */
export async function planDevices(
  store: Store,
  devices: readonly DeviceKey[],
  scope: PlanScope,
  clock: ClockJudgement,
): Promise<Plan> {
  const alone: PlannedPoint<Point>[] = [];
  for (const key of devices) alone.push(...(await planDevice(store, key, clock)));
  const groups = groupPointByMember(alone.map(({ point }) => point));
  const isInScope = isIn(scope);
  const goesAlong = ({ point, stays }: PlannedPoint<Point>) =>
    !stays && groups.get(point.id)?.points.some(isInScope) === true;
  const { policies } = store.retention.settings;
  return {
    groups,
    points: keepGroupsWhole(alone).filter((planned) => isInScope(planned.point) || goesAlong(planned)),
    hasPolicy: devices.filter(isInScope).map((key) => policyFor(policies, key) !== null),
  };
}

/** What goes is removed in these parts: a group point at once, any other point by itself. */
export function inParts({ points, groups }: Plan): PlannedPoint<Point>[][] {
  const byId = new Map(points.map((planned) => [planned.point.id, planned]));
  return points.flatMap((planned): PlannedPoint<Point>[][] => {
    const group = planned.stays ? undefined : groups.get(planned.point.id);
    if (group === undefined) return [[planned]];
    const members = group.points.flatMap(({ id }) => byId.get(id) ?? []);
    return members[0] === planned ? [members] : [];
  });
}

/** Splits what is to be removed: group points that are in it with all their points, and any other points. */
export async function splitGroups(
  store: Store,
  points: readonly Point[],
): Promise<{ groups: GroupPoint[]; alone: Point[] }> {
  const ids = new Set(points.map(({ id }) => id));
  const byMember = groupPointByMember(await store.points({}));
  const groups = new Set(
    points
      .flatMap(({ id }) => byMember.get(id) ?? [])
      .filter((group) => group.points.every(({ id }) => ids.has(id))),
  );
  const isAlone = ({ id }: Point) => ![...groups].some((group) => byMember.get(id) === group);
  return { groups: [...groups], alone: points.filter(isAlone) };
}

/** Group points that are not whole any more without the points of the device. */
export async function groupsWith(store: Store, { agent, device }: DeviceKey): Promise<GroupPoint[]> {
  const groups = groupPointByMember(await store.points({}));
  return [...new Set(groups.values())].filter(({ points }) =>
    points.some((point) => point.agent === agent && point.device === device),
  );
}

const isIn =
  ({ agent, device }: PlanScope) =>
  (key: DeviceKey): boolean =>
    (agent ?? key.agent) === key.agent && (device ?? key.device) === key.device;

async function planDevice(
  store: Store,
  key: DeviceKey,
  clock: ClockJudgement,
): Promise<PlannedPoint<Point>[]> {
  const { settings } = store.retention;
  const points = await store.points(key);
  const policy = policyFor(settings.policies, key)?.policy ?? null;
  // Where everything is kept, nothing takes the place of anything.
  const isPruned = policy !== null && policy.keepAll !== true;
  const damaged = new Set((isPruned ? await store.pointDamage(key) : []).map(({ point }) => point.id));
  const byId = new Map(points.map((point) => [point.id, point]));
  const pinTimeMs = clock.isBelieved ? clock.nowMs : Number.NEGATIVE_INFINITY;
  return planRetention(points, {
    policy,
    calendar: zoneCalendar(settings.timeZone ?? 'UTC'),
    nowMs: clock.nowMs,
    clockDoubt: clock.isBelieved ? null : clock.reason,
    lockMs: lockAt(settings.lock, clock.nowMs),
    pinOf: (id) => pinOf(settings, id, pinTimeMs),
    useOf: (id) => {
      const point = byId.get(id);
      return point === undefined ? null : store.useOf(point);
    },
    isDamaged: (id) => damaged.has(id),
  });
}
