/** What commands show of groups over several hosts. */

import type { ReceiverGroup } from '../../domain/order/receiver-group.js';
import { groupPoints, isOfReceiver } from '../../domain/point/group.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { type GroupRunEnd, readGroupRuns } from '../orders/last-group-run.js';
import type { Presence } from '../orders/orders.js';
import type { RunningGroup } from './witness.js';

export interface GroupMemberView {
  readonly agent: string;
  readonly device: string;
  readonly state: 'connected' | 'not connected' | 'not enrolled' | 'revoked' | 'unknown';
  /** As the agent last told; null: it is not connected. */
  readonly isOffered: boolean | null;
  readonly canGroup: boolean | null;
}

export interface RunningHostView {
  readonly agent: string;
  readonly devices: readonly string[];
  /** As src/domain/group/run.ts names it; so is the phase. */
  readonly state: string;
  readonly since: string;
  /** Why it is out, or missed. */
  readonly reason: string | null;
}

export interface RunningGroupView {
  readonly startedAt: string;
  readonly phase: string;
  readonly phaseSince: string;
  readonly try: number;
  readonly hosts: readonly RunningHostView[];
}

export interface GroupView {
  readonly group: ReceiverGroup;
  /** Null: no backup of it runs, or no receiver does. */
  readonly running: RunningGroupView | null;
  /** One began then, has not ended, and does not run. */
  readonly cutOffAt: string | null;
  readonly lastRun: GroupRunEnd | null;
  readonly lastPoint: { readonly point: string; readonly committedAt: string } | null;
  readonly members: readonly GroupMemberView[];
}

/** Whether an agent may connect; null: none of the name was ever let in. */
export type AccessOf = (agent: string) => 'enrolled' | 'revoked' | null;

export interface GroupViewSource {
  readonly dir: string;
  readonly points: readonly Point[];
  readonly access: AccessOf;
  /** Null: no receiver runs, so nobody knows what goes on and who is there. */
  readonly served: {
    readonly running: (group: string) => RunningGroup | null;
    readonly presence: (agent: string) => Presence;
  } | null;
}

export function groupViews(groups: readonly ReceiverGroup[], source: GroupViewSource): Promise<GroupView[]> {
  return Promise.all(groups.map((group) => viewOf(group, source)));
}

async function viewOf(group: ReceiverGroup, source: GroupViewSource): Promise<GroupView> {
  const { dir, points, served } = source;
  const { begunAt, last } = await readGroupRuns(dir, group.name);
  const running = served?.running(group.name) ?? null;
  return {
    group,
    running: running === null ? null : runningView(running),
    cutOffAt: running === null ? begunAt : null,
    lastRun: last,
    lastPoint: lastGroupPoint(points, group.name),
    members: group.members.map((member) => ({ ...member, ...presenceOf(member, source) })),
  };
}

/** Of the receiver's group, as long as it is whole. @param points all that there are */
export function lastGroupPoint(points: readonly Point[], name: string): GroupView['lastPoint'] {
  const own = points.filter(({ group }) => group?.name === name && isOfReceiver(group));
  const last = groupPoints(own).reduce<ReturnType<typeof groupPoints>[number] | null>(
    (latest, each) => (latest !== null && latest.sequence >= each.sequence ? latest : each),
    null,
  );
  if (last === null) return null;
  const committedAt =
    last.points
      .map((point) => point.committedAt)
      .sort()
      .at(-1) ?? last.instant;
  return { point: pointLabel({ device: name, sequence: last.sequence }), committedAt };
}

function runningView({ startedMs, run, sinceMs }: RunningGroup): RunningGroupView {
  const at = (ms: number) => new Date(ms).toISOString();
  const startedAt = at(startedMs);
  if (run === null) return { startedAt, phase: 'beginning', phaseSince: startedAt, try: 1, hosts: [] };
  return {
    ...{ startedAt, phase: run.phase, phaseSince: at(run.sinceMs), try: run.try },
    hosts: run.hosts.map(({ agent, devices, state, failure }) => ({
      ...{ agent, devices, state, since: at(sinceMs.get(agent) ?? startedMs) },
      reason: failure === null ? null : `${failure.thing}: ${failure.reason}`,
    })),
  };
}

function presenceOf(
  { agent, device }: ReceiverGroup['members'][number],
  { access: accessOf, served }: GroupViewSource,
): Pick<GroupMemberView, 'state' | 'isOffered' | 'canGroup'> {
  const nothing = { isOffered: null, canGroup: null };
  const access = accessOf(agent);
  if (access !== 'enrolled') return { state: access ?? 'not enrolled', ...nothing };
  if (served === null) return { state: 'unknown', ...nothing };
  const { isConnected, devices, canGroup } = served.presence(agent);
  if (!isConnected) return { state: 'not connected', ...nothing };
  return { state: 'connected', isOffered: devices.includes(device), canGroup };
}
