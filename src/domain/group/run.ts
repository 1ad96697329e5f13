/**
 * One run of a group over several hosts: what the receiver makes of the hosts' reports, and when it goes on.
 * Pure. commands.ts says what a host is told; steps.ts is the contract with the hosts.
 *
 * | phase      | goes on when all that take part | otherwise                                              |
 * |------------|---------------------------------|--------------------------------------------------------|
 * | gathering  | are ready                       | only silence ends it, host by host                     |
 * | resting    | are at rest, in this try        | a limit, or a host that missed: gathering, try + 1     |
 * | closing    | are closed, in this try         | the same                                               |
 * | cutting    | are cut                         | those that missed are out; if all missed, gathering    |
 * | sending    | are transferred                 | silence, host by host                                  |
 * | committing | have sent their commits         | the first failure is that of the run                   |
 * | deciding   | -                               | only the store says how it ends                        |
 * | done, failed: nothing changes them                                                                     |
 *
 * A host that can't go on is out, with all its members. With `fail`, that is the end of the run; and in any
 * case once commits were called for, because each names all the others.
 *
 * Why cuts of one try are one instant: `cut` is not told before all that take part have said, in this try,
 * that they are closed. A host cuts only while it has been closed ever since. So at the moment when the last
 * one said so, all that cut later were closed and uncut. Reports of a former try can't move a host beyond
 * `ready`, and nobody who has missed a try can be `cut` in it.
 */
import type { OrderFailure } from '../order/order.js';
import { type ConsistencyKind, worstKind } from '../point/point.js';
import type { GroupReport, MemberStall } from './steps.js';

export interface RunLimits {
  /** Silence of a host while others prepare, or while it sends. */
  readonly silentMs: number;
  /** For all to come to rest, from when they are told to: hooks and flushing. */
  readonly restMs: number;
  /** For all to close, from when they are told to. */
  readonly closeMs: number;
  /** How long a gate stays closed at most. */
  readonly closedMs: number;
  /** For all to say that they are cut. */
  readonly cutMs: number;
  /** For all to send their commits. */
  readonly commitMs: number;
  readonly triesMax: number;
}

export const RUN_LIMITS: RunLimits = {
  ...{ silentMs: 120_000, restMs: 180_000, closeMs: 20_000, closedMs: 10_000, cutMs: 30_000 },
  ...{ commitMs: 600_000, triesMax: 3 },
};

/** Of `closedMs`, what is left for the command to cut to arrive: nobody is told later. */
const CUT_LEFT_PART = 1 / 5;

export interface RunSettings {
  /** 32 hex digits. */
  readonly id: string;
  readonly name: string;
  readonly hosts: readonly { readonly agent: string; readonly devices: readonly string[] }[];
  readonly missing: 'fail' | 'leave-out';
  readonly limits: RunLimits;
}

/** `awaited`: it has not reported yet. `opening`: it was to close in a try that is over. */
export const HOST_STATES = [
  ...(['awaited', 'preparing', 'ready', 'rested', 'closed', 'opening'] as const),
  ...(['cut', 'missed', 'transferred', 'out'] as const),
] as const;
export type HostState = (typeof HOST_STATES)[number];

export interface RunHost {
  readonly agent: string;
  readonly devices: readonly string[];
  readonly state: HostState;
  /** When it last reported. */
  readonly heardMs: number;
  readonly stalls: readonly MemberStall[];
  readonly sent: { readonly kind: ConsistencyKind; readonly sessionIds: readonly string[] } | null;
  /** Why it missed or is out. */
  readonly failure: OrderFailure | null;
  /** Of one that missed: it may reach another try. */
  readonly isAgain: boolean;
}

export const RUN_PHASES = [
  ...(['gathering', 'resting', 'closing', 'cutting', 'sending'] as const),
  ...(['committing', 'deciding', 'done', 'failed'] as const),
] as const;
export type RunPhase = (typeof RUN_PHASES)[number];

export interface Run {
  readonly settings: RunSettings;
  readonly phase: RunPhase;
  /** From 1. */
  readonly try: number;
  /** When the phase began. */
  readonly sinceMs: number;
  /** When the first one said that it is closed, in this try. */
  readonly firstClosedMs: number | null;
  /** Of the cut, ISO 8601. */
  readonly instant: string | null;
  readonly hosts: readonly RunHost[];
  readonly failure: OrderFailure | null;
}

export type RunEvent =
  | { readonly type: 'report'; readonly agent: string; readonly report: GroupReport; readonly nowMs: number }
  /** It was not reached, or its order has ended without a point. */
  | {
      readonly type: 'gone';
      readonly agent: string;
      readonly failure: OrderFailure;
      readonly nowMs: number;
    }
  | { readonly type: 'tick'; readonly nowMs: number }
  /** All commits have come, and the store is asked. */
  | { readonly type: 'deciding' }
  | { readonly type: 'committed' }
  /** The commits failed, or the run was stopped. */
  | { readonly type: 'failed'; readonly failure: OrderFailure };

const BEFORE_CUT: ReadonlySet<RunPhase> = new Set(['gathering', 'resting', 'closing']);
/** In the phases between gathering and sending. */
const CAN_MISS: ReadonlySet<HostState> = new Set(['ready', 'rested', 'closed']);

export function newRun(settings: RunSettings, nowMs: number): Run {
  const hosts = settings.hosts.map(
    ({ agent, devices }): RunHost => ({
      ...{ agent, devices, state: 'awaited', heardMs: nowMs, stalls: [], sent: null },
      ...{ failure: null, isAgain: false },
    }),
  );
  return {
    ...{ settings, phase: 'gathering', try: 1, sinceMs: nowMs, firstClosedMs: null, instant: null, hosts },
    failure: null,
  };
}

export function isOver({ phase }: Run): boolean {
  return phase === 'done' || phase === 'failed';
}

/** Those that are not out. */
export function takingPart(run: Run): readonly RunHost[] {
  return run.hosts.filter(({ state }) => state !== 'out');
}

/** Members that are left out, as `AGENT/DEVICE`. */
export function leftOut(run: Run): string[] {
  const out = run.hosts.filter(({ state }) => state === 'out');
  return out.flatMap(({ agent, devices }) => devices.map((device) => `${agent}/${device}`));
}

/** All sessions that become points, in the order of the hosts and their devices. */
export function sessionsOf(run: Run): { readonly agent: string; readonly sessionId: string }[] {
  return takingPart(run).flatMap(({ agent, sent }) =>
    (sent?.sessionIds ?? []).map((sessionId) => ({ agent, sessionId })),
  );
}

export function kindOf(run: Run): ConsistencyKind {
  return worstKind(takingPart(run).flatMap(({ sent }) => sent?.kind ?? []));
}

/** The run after the event; the same object if nothing changes. */
export function advanceRun(run: Run, event: RunEvent): Run {
  if (isOver(run)) return run;
  if (event.type === 'committed') return { ...run, phase: 'done' };
  if (event.type === 'failed') return { ...run, phase: 'failed', failure: event.failure };
  if (run.phase === 'deciding') return run;
  switch (event.type) {
    case 'deciding':
      return run.phase === 'committing' ? { ...run, phase: 'deciding' } : run;
    case 'gone':
      return settle(drop(run, event.agent, event.failure), event.nowMs);
    case 'tick':
      return settle(dropSilent(run, event.nowMs), event.nowMs);
    case 'report': {
      const { agent, report, nowMs } = event;
      const host = takingPart(run).find((each) => each.agent === agent);
      if (host === undefined) return run;
      return settle(heed(withHost(run, { ...host, heardMs: nowMs }), agent, report, nowMs), nowMs);
    }
  }
}

function withHost(run: Run, host: RunHost): Run {
  return { ...run, hosts: run.hosts.map((each) => (each.agent === host.agent ? host : each)) };
}

function heed(run: Run, agent: string, report: GroupReport, nowMs: number): Run {
  const host = takingPart(run).find((each) => each.agent === agent);
  if (host === undefined) return run;
  const to = (changes: Partial<RunHost>): Run => withHost(run, { ...host, ...changes });
  const isThisTry = 'try' in report && report.try === run.try;
  switch (report.state) {
    case 'preparing':
      return run.phase === 'gathering' ? to({ state: 'preparing' }) : run;
    case 'ready':
      return run.phase === 'gathering' ? to({ state: 'ready' }) : run;
    case 'rested':
      return run.phase === 'resting' && isThisTry && host.state === 'ready' ? to({ state: 'rested' }) : run;
    case 'closed': {
      if (run.phase !== 'closing' || !isThisTry || host.state !== 'rested') return run;
      return { ...to({ state: 'closed' }), firstClosedMs: run.firstClosedMs ?? nowMs };
    }
    case 'cut': {
      if (!isThisTry) return run;
      if (BEFORE_CUT.has(run.phase))
        return drop(run, agent, wrong(agent, 'it has cut before it was told to'));
      const { stalls } = report;
      return host.state === 'closed' ? to({ state: 'cut', stalls }) : run;
    }
    case 'missed':
      return missed(run, host, report);
    case 'transferred': {
      // A report of the cut that was lost is not sent again when all is there.
      const hasCut = host.state === 'cut' || (run.phase === 'cutting' && host.state === 'closed');
      if (!hasCut) return run;
      const { kind, sessionIds } = report;
      if (sessionIds.length !== host.devices.length)
        return drop(run, agent, wrong(agent, 'it does not have a session for each of its members'));
      return to({ state: 'transferred', sent: { kind, sessionIds } });
    }
    case 'failed':
      return drop(run, agent, report.error);
  }
}

function missed(run: Run, host: RunHost, report: Extract<GroupReport, { state: 'missed' }>): Run {
  const { again: isAgain, error: failure } = report;
  if (run.phase === 'gathering')
    return isAgain ? withHost(run, { ...host, state: 'ready' }) : drop(run, host.agent, failure);
  if (report.try !== run.try || !CAN_MISS.has(host.state)) return run;
  return withHost(run, { ...host, state: 'missed', isAgain, failure });
}

/** A host is out, with all its members. */
function drop(run: Run, agent: string, failure: OrderFailure): Run {
  const host = takingPart(run).find((each) => each.agent === agent);
  if (host === undefined) return run;
  const next = withHost(run, { ...host, state: 'out', sent: null, failure });
  const isTheEnd = run.settings.missing === 'fail' || run.phase === 'committing';
  return isTheEnd || takingPart(next).length === 0 ? { ...next, phase: 'failed', failure } : next;
}

function dropSilent(run: Run, nowMs: number): Run {
  if (run.phase !== 'gathering' && run.phase !== 'sending') return run;
  const { silentMs } = run.settings.limits;
  return takingPart(run)
    .filter(({ state, heardMs }) => state !== 'awaited' && nowMs - heardMs >= silentMs)
    .reduce((next, { agent }) => drop(next, agent, silent(agent, 'it has not reported for too long')), run);
}

/** Goes on as far as it can. */
function settle(run: Run, nowMs: number): Run {
  if (isOver(run)) return run;
  const next = settleOnce(run, nowMs);
  return next.phase === run.phase ? next : settle(next, nowMs);
}

function settleOnce(run: Run, nowMs: number): Run {
  const hosts = takingPart(run);
  const areAll = (...states: readonly HostState[]) => hosts.every(({ state }) => states.includes(state));
  switch (run.phase) {
    case 'gathering':
      return areAll('ready') ? { ...run, phase: 'resting', sinceMs: nowMs } : run;
    case 'resting':
    case 'closing':
      return settleTry(run, run.phase, nowMs);
    case 'cutting':
      return settleCutting(run, nowMs);
    case 'sending':
      return areAll('transferred') ? { ...run, phase: 'committing', sinceMs: nowMs } : run;
    case 'committing':
      if (nowMs - run.sinceMs < run.settings.limits.commitMs) return run;
      return { ...run, phase: 'failed', failure: LATE_COMMITS };
    default:
      return run;
  }
}

/** Before the cut: one that is late, or has missed, ends the try for all. */
function settleTry(run: Run, phase: 'resting' | 'closing', nowMs: number): Run {
  const { limits } = run.settings;
  const hosts = takingPart(run);
  const isLast = run.try >= limits.triesMax;
  const goal = phase === 'resting' ? 'rested' : 'closed';
  const isLate = nowMs >= (phase === 'resting' ? run.sinceMs + limits.restMs : closedBy(run));
  // Those that can't reach any other try are out; the others may still reach this one.
  const isOut = ({ state, isAgain }: RunHost) =>
    (state === 'missed' && (isLast || !isAgain)) || (isLast && isLate && state !== goal);
  const out = hosts.find(isOut);
  if (out !== undefined) {
    const late = phase === 'resting' ? 'it was not at rest in time' : 'it did not close in time';
    const dropped = drop(run, out.agent, out.failure ?? silent(out.agent, late));
    return isOver(dropped) ? dropped : settleTry(dropped, phase, nowMs);
  }
  if (!isLast && (isLate || hosts.some(({ state }) => state === 'missed'))) return nextTry(run, nowMs);
  if (hosts.some(({ state }) => state !== goal)) return run;
  if (phase === 'resting') return { ...run, phase: 'closing', sinceMs: nowMs, firstClosedMs: null };
  return { ...run, phase: 'cutting', sinceMs: nowMs, instant: new Date(nowMs).toISOString() };
}

function closedBy({ settings, sinceMs, firstClosedMs }: Run): number {
  const { closeMs, closedMs } = settings.limits;
  return Math.min(sinceMs + closeMs, (firstClosedMs ?? Infinity) + closedMs * (1 - CUT_LEFT_PART));
}

function settleCutting(run: Run, nowMs: number): Run {
  const { limits } = run.settings;
  const hosts = takingPart(run);
  if (nowMs - run.sinceMs < limits.cutMs && hosts.some(({ state }) => state === 'closed')) return run;
  const late = hosts.filter(({ state }) => state === 'closed' || state === 'missed');
  const canAll = hosts.every(({ state, isAgain }) => state === 'missed' && isAgain);
  if (canAll && run.try < limits.triesMax) return nextTry(run, nowMs);
  const left = late.reduce(
    (next, { agent, failure }) => drop(next, agent, failure ?? silent(agent, 'it did not cut in time')),
    run,
  );
  return isOver(left) ? left : { ...left, phase: 'sending', sinceMs: nowMs };
}

/** What hosts say from now on counts. One that has missed waits for the next try already. */
function nextTry(run: Run, nowMs: number): Run {
  const hosts = run.hosts.map((host): RunHost => {
    if (host.state === 'out') return host;
    return { ...host, state: host.state === 'missed' ? 'ready' : 'opening', failure: null };
  });
  return { ...run, hosts, phase: 'gathering', try: run.try + 1, sinceMs: nowMs, instant: null };
}

const LATE_COMMITS: OrderFailure = {
  code: 'group-failed',
  thing: 'the commits',
  reason: 'not all hosts have sent theirs in time',
  permanent: false,
};

function wrong(agent: string, reason: string): OrderFailure {
  return { code: 'bad-message', thing: `agent ${agent}`, reason, permanent: true };
}

function silent(agent: string, reason: string): OrderFailure {
  return { code: 'connection-lost', thing: `agent ${agent}`, reason, permanent: false };
}
