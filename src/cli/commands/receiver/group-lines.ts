/** Groups over several hosts in words. Pure. */

import { memberName, type ReceiverGroup } from '../../../domain/order/receiver-group.js';
import type { GroupMemberView, GroupView, RunningGroupView } from '../../../receiver/groups/views.js';
import type { GroupRunEnd } from '../../../receiver/orders/last-group-run.js';
import { formatCount, formatDuration, formatInstant, formatTable } from '../../output/format.js';

export function namesOf({ members }: Pick<ReceiverGroup, 'members'>): string {
  return members.map(memberName).join(', ');
}

export function policyText({ missing }: Pick<ReceiverGroup, 'missing'>): string {
  return missing === 'fail'
    ? 'if an agent can not take part, there is no group point'
    : 'an agent that can not take part is left out';
}

/** A table of all. */
export function groupRows(views: readonly GroupView[], nowMs: number): string[] {
  const columns = ['GROUP', 'LAST POINT', 'AGE', 'STATE', 'IF MISSING', 'MEMBERS'].map((title) => ({
    title,
  }));
  const rows = views.map((view) => [
    view.group.name,
    view.lastPoint?.point ?? '-',
    view.lastPoint === null ? '-' : ageOf(view.lastPoint.committedAt, nowMs),
    stateOf(view),
    view.group.missing,
    namesOf(view.group),
  ]);
  return formatTable(columns, rows);
}

function stateOf({ running, cutOffAt, lastRun }: GroupView): string {
  if (running !== null) return `${running.phase}, try ${running.try}`;
  if (cutOffAt !== null || (lastRun !== null && lastRun.failure !== null)) return 'failed';
  if (lastRun === null) return '-';
  return lastRun.hosts.some(({ isOut }) => isOut) ? 'done, some left out' : 'done';
}

/** All that is known of one. */
export function groupLines(view: GroupView, nowMs: number): string[] {
  const { members, running, cutOffAt, lastRun, lastPoint } = view;
  const columns = ['  MEMBER', 'AGENT', 'DEVICE'].map((title) => ({ title }));
  const rows = members.map((member) => [
    `  ${memberName(member)}`,
    agentText(member),
    member.isOffered === null ? '-' : member.isOffered ? 'offered' : 'not offered now',
  ]);
  return [
    ...formatTable(columns, rows),
    lastPoint === null
      ? '  last point: none'
      : `  last point: ${lastPoint.point}, ${formatInstant(lastPoint.committedAt)}, ${ageOf(lastPoint.committedAt, nowMs)} ago`,
    ...(running === null ? [] : runningLines(running, nowMs)),
    ...(cutOffAt === null
      ? []
      : [
          `  the backup that began at ${formatInstant(cutOffAt)} has not ended: the receiver was stopped meanwhile`,
        ]),
    ...(lastRun === null ? ['  last backup: none has ended yet'] : endLines(lastRun)),
  ];
}

function agentText({ state, canGroup }: GroupMemberView): string {
  return canGroup === false ? `${state}, too old for this` : state;
}

function runningLines(
  { startedAt, phase, phaseSince, try: of, hosts }: RunningGroupView,
  nowMs: number,
): string[] {
  return [
    `  a backup runs since ${formatInstant(startedAt)}: ${phase} for ${ageOf(phaseSince, nowMs)}, try ${of}`,
    ...hosts.map(
      ({ agent, state, since, reason }) =>
        `    ${agent}: ${state} for ${ageOf(since, nowMs)}${reason === null ? '' : `: ${reason}`}`,
    ),
  ];
}

function endLines({ endedAt, by, point, failure, tries, missed, hosts, phases }: GroupRunEnd): string[] {
  const tried = tries > 1 || missed > 0 ? `, ${formatCount(tries, 'attempt')} at the instant` : '';
  const spent = phases.map(({ phase, durationMs }) => `${phase} ${formatDuration(durationMs)}`).join(', ');
  const out = hosts.filter(({ isOut }) => isOut);
  return [
    `  last backup, by ${by}: ${formatInstant(endedAt)}: ${failure === null ? point : `failed: ${failure}`}${tried}`,
    ...(spent === '' ? [] : [`    ${spent}`]),
    ...out.map(({ agent, devices, reason }) => `    ${memberNames(agent, devices)} out: ${reason}`),
    ...hosts.flatMap(({ agent, stalls }) =>
      stalls.map(
        ({ device, stallMs }) => `    ${agent}/${device}: writes waited for ${Math.round(stallMs)} ms`,
      ),
    ),
  ];
}

function memberNames(agent: string, devices: readonly string[]): string {
  return devices.map((device) => `${agent}/${device}`).join(', ');
}

function ageOf(at: string, nowMs: number): string {
  return formatDuration(Math.max(0, nowMs - Date.parse(at)));
}
