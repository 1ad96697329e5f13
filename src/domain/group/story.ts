/** What an operator is told of a run: what a change of it means, and what is kept when it has ended. Pure. */
import type { OrderFailure } from '../order/order.js';
import type { HostState, Run, RunEvent, RunHost, RunPhase } from './run.js';

export interface NamedStall {
  /** `AGENT/DEVICE` */
  readonly member: string;
  readonly stallMs: number;
}

export type Happening =
  | {
      readonly type: 'host-out';
      readonly agent: string;
      readonly members: readonly string[];
      readonly failure: OrderFailure;
    }
  | {
      readonly type: 'missed';
      readonly agent: string;
      readonly try: number;
      readonly failure: OrderFailure;
    }
  | {
      readonly type: 'instant';
      readonly try: number;
      readonly instant: string;
      readonly stalls: readonly NamedStall[];
    };

const AFTER_INSTANT: ReadonlySet<RunPhase> = new Set(['sending', 'committing', 'deciding', 'done']);

/** What hosts say in these phases when they have done what the phase is for. */
const GOALS: Partial<Record<RunPhase, HostState>> = { resting: 'rested', closing: 'closed' };

/** In the order in which they happened. @param after what `event` made of `before` */
export function happeningsOf(before: Run, event: RunEvent, after: Run): Happening[] {
  const happenings: Happening[] = missesOf(before, event, after);
  for (const host of after.hosts) {
    const was = before.hosts.find(({ agent }) => agent === host.agent);
    if (host.state !== 'out' || was?.state === 'out' || host.failure === null) continue;
    const { agent, failure } = host;
    happenings.push({ type: 'host-out', agent, members: membersOf(host), failure });
  }
  const isReached = AFTER_INSTANT.has(after.phase) && !AFTER_INSTANT.has(before.phase);
  if (isReached && after.instant !== null)
    happenings.push({ type: 'instant', try: after.try, instant: after.instant, stalls: stallsOf(after) });
  return happenings;
}

function missesOf(before: Run, event: RunEvent, after: Run): Happening[] {
  const missed = (agent: string, failure: OrderFailure): Happening => ({
    ...{ type: 'missed', agent, try: before.try, failure },
  });
  if (event.type === 'report' && event.report.state === 'missed') {
    const { agent, report } = event;
    const stateIn = ({ hosts }: Run) => hosts.find((host) => host.agent === agent)?.state;
    const [was, is] = [stateIn(before), stateIn(after)];
    // Said again, or of a try that was over already, it changes nothing.
    const hasMissed = after.try > before.try || (was !== is && (is === 'missed' || is === 'out'));
    return hasMissed ? [missed(agent, report.error)] : [];
  }
  const goal = GOALS[before.phase];
  if (event.type !== 'tick' || goal === undefined || after.try === before.try) return [];
  return before.hosts
    .filter(({ state }) => state !== 'out' && state !== 'missed' && state !== goal)
    .map(({ agent }) => missed(agent, { ...LATE, thing: `agent ${agent}` }));
}

const LATE = { code: 'connection-lost', reason: 'it did not get ready in time', permanent: false } as const;

/** As `AGENT/DEVICE`. */
export function membersOf({ agent, devices }: Pick<RunHost, 'agent' | 'devices'>): string[] {
  return devices.map((device) => `${agent}/${device}`);
}

/** Of those that are of the instant. */
function stallsOf({ hosts }: Pick<Run, 'hosts'>): NamedStall[] {
  return hosts.flatMap(({ agent, state, stalls }) =>
    state === 'out' ? [] : stalls.map(({ device, stallMs }) => ({ member: `${agent}/${device}`, stallMs })),
  );
}
