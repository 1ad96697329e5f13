/**
 * Group points: points of several devices that are of one instant, and are listed together or not at all.
 * Each of them is an ordinary point, which names its group; a group point is all that it names. Where one of
 * its points was removed or lost, the others are points of their own, and there is no group point any more.
 *
 * A group of the receiver has points of several agents. An agent sees its own ones; they are a group point
 * for it, of which the others are somewhere else.
 */
import { StillpointError } from '../base/errors.js';
import { checkName, LOCAL_AGENT } from '../base/names.js';
import type { ConsistencyKind, Point, PointGroup } from './point.js';
import { type PointRef, resolvePoint } from './point-ref.js';

/** How a commit names the group point that it is a part of. */
export interface GroupCommit extends Pick<PointGroup, 'id' | 'name' | 'missing'> {
  /** Of all members, in their order: none of them becomes a point unless all do. */
  readonly sessionIds: readonly string[];
  /**
   * It is a group of the receiver, over several hosts: agents pass on what they were told
   * (src/domain/group/steps.ts). A receiver that has no such run refuses it, because it would not know who is
   * missing.
   */
  readonly isOfReceiver?: boolean;
}

export interface GroupPoint extends Pick<PointGroup, 'id' | 'name' | 'sequence' | 'memberCount'> {
  /** Whose group it is. That of a receiver is of whoever looks at it: of the receiver itself, LOCAL_AGENT. */
  readonly agent: string;
  /** The same of all points. */
  readonly instant: string;
  readonly kind: ConsistencyKind;
  readonly missing: readonly string[];
  /** By agent and device; fewer than `memberCount` of one agent's part. */
  readonly points: readonly Point[];
}

/** What is left of a group point: one or more of its points were removed or lost. */
export interface BrokenGroupPoint extends Pick<GroupPoint, 'id' | 'name' | 'sequence' | 'agent' | 'points'> {
  /** How many points it had. */
  readonly memberCount: number;
}

/** Those that are whole, by agent, name and sequence. @param own who looks at them */
export function groupPoints(points: readonly Point[], own: string | null = null): GroupPoint[] {
  return membersById(points)
    .flatMap((members) => groupPointOf(members, own) ?? [])
    .sort(inOrder);
}

/** Those that are not whole any more, in the same order. @param points all that there are */
export function brokenGroupPoints(points: readonly Point[], own: string | null = null): BrokenGroupPoint[] {
  return membersById(points)
    .flatMap((members) => {
      const [first] = members;
      if (first?.group === undefined || groupPointOf(members, own) !== null) return [];
      const { id, name, sequence, memberCount } = first.group;
      const agent = ownerOf(first, first.group, own);
      return [{ id, name, sequence, memberCount, agent, points: [...members].sort(byDevice) }];
    })
    .sort(inOrder);
}

function membersById(points: readonly Point[]): Point[][] {
  const byId = new Map<string, Point[]>();
  for (const point of points) {
    if (point.group === undefined) continue;
    const known = byId.get(point.group.id);
    if (known === undefined) byId.set(point.group.id, [point]);
    else known.push(point);
  }
  return [...byId.values()];
}

/** Some of its points are of other agents, and not seen here. */
export function isPart({ points, memberCount }: GroupPoint): boolean {
  return points.length < memberCount;
}

/** In words, of a part. */
export function partText({ points, memberCount }: GroupPoint): string {
  return `${points.length} of ${memberCount} points, the others are of other agents`;
}

/** @param members all points of one group id that there are. Null: some are not there any more */
function groupPointOf(members: readonly Point[], own: string | null): GroupPoint | null {
  const [first] = members;
  if (first?.group === undefined) return null;
  const { id, name, sequence, memberCount, ownCount, missing = [] } = first.group;
  const isOwnPart = members.length === ownCount && members.every(({ agent }) => agent === first.agent);
  if (members.length !== memberCount && !isOwnPart) return null;
  const points = [...members].sort(byDevice);
  return {
    id,
    name,
    sequence,
    memberCount,
    missing,
    points,
    agent: ownerOf(first, first.group, own),
    instant: first.instant,
    kind: first.kind,
  };
}

function ownerOf({ agent }: Point, group: PointGroup, own: string | null): string {
  return isOfReceiver(group) ? (own ?? LOCAL_AGENT) : agent;
}

function byDevice(a: Point, b: Point): number {
  if (a.agent !== b.agent) return a.agent < b.agent ? -1 : 1;
  return a.device < b.device ? -1 : 1;
}

type Ordered = Pick<GroupPoint, 'agent' | 'name' | 'sequence'>;

function inOrder(a: Ordered, b: Ordered): number {
  if (a.agent !== b.agent) return a.agent < b.agent ? -1 : 1;
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  return a.sequence - b.sequence;
}

/** Not an agent's own: it may have points of several agents. */
export function isOfReceiver({ ownCount }: Pick<PointGroup, 'ownCount'>): boolean {
  return ownCount !== undefined;
}

/** As the point's agent may see it: not which other agents the receiver's group has. */
export function seenByItsAgent(point: Point): Point {
  if (point.group?.missing === undefined || !isOfReceiver(point.group)) return point;
  const { missing, ...group } = point.group;
  const own = missing.filter((member) => member.startsWith(`${point.agent}/`));
  return { ...point, group: { ...group, ...(own.length === 0 ? {} : { missing: own }) } };
}

/** How a group point is named to users: as a point of a device that has the group's name. */
export function asNamed<G extends Pick<PointGroup, 'name'>>(group: G): G & { readonly device: string } {
  return { ...group, device: group.name };
}

/**
 * The group point that a reference to a point means.
 * @param own as of `resolvePoint`
 * @throws StillpointError as `resolvePoint`
 */
export function resolveGroup(ref: PointRef, groups: readonly GroupPoint[], own: string | null): GroupPoint {
  return resolvePoint(ref, groups.map(asNamed), own);
}

/** @throws StillpointError `bad-name` */
export function checkGroupName(name: string): string {
  return checkName('group name', name);
}

/** @throws StillpointError `usage`: a member has the name, and a reference could mean either */
export function refuseGroupName(name: string, members: Iterable<string>): void {
  for (const device of members) {
    if (device !== name) continue;
    throw new StillpointError('usage', {
      thing: `group ${name}`,
      reason: 'there is a device of that name, with points of its own',
      remedy: 'Choose another name for the group.',
    });
  }
}

/**
 * An agent's own group has another name than the receiver's groups that the agent has points of.
 * @param points all of the agent's
 * @throws StillpointError `bad-name`
 */
export function checkOwnGroupName(points: readonly Pick<Point, 'group'>[], name: string): void {
  if (!points.some(({ group }) => group?.name === name && isOfReceiver(group))) return;
  throw new StillpointError('bad-name', {
    thing: `group ${name}`,
    reason: 'it is the name of a group of the receiver, which has points',
    remedy: 'Choose another name.',
  });
}

/**
 * A reference to a point names a device or a group, never both.
 * @param points all of the agent's
 * @throws StillpointError `bad-name`
 */
export function checkNamesApart(
  points: readonly Pick<Point, 'device' | 'group'>[],
  named: { readonly device?: string; readonly group?: string },
): void {
  const refuse = (thing: string, reason: string) =>
    new StillpointError('bad-name', { thing, reason, remedy: 'Choose another name.' });
  if (points.some(({ group }) => group !== undefined && group.name === named.device))
    throw refuse(`device ${named.device}`, 'it is the name of a group that has points');
  if (points.some(({ device }) => device === named.group))
    throw refuse(`group ${named.group}`, 'it is the name of a device that has points');
}
