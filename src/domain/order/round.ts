/**
 * A round: the devices of many agents and groups of the receiver, in turn or several at once. What comes
 * next, what is given up, and what is reported at the end. Pure.
 *
 * The devices that an agent offers are known once it is connected. All agents have the same time to connect,
 * from the start of the round. Those that are connected are backed up meanwhile, and only the end of the
 * round waits for the others.
 *
 * | agent    | is seen                    | time is up             | an item is unreachable              |
 * |----------|----------------------------|------------------------|-------------------------------------|
 * | waiting  | expanded: an item a device | skipped, with a reason | -                                   |
 * | expanded | -                          | -                      | its other waiting items are skipped |
 *
 * | group   | all its agents are seen | time is up, some were not seen                      |
 * |---------|-------------------------|-----------------------------------------------------|
 * | waiting | ready                   | skipped, with a reason; ready if it leaves them out |
 *
 * A ready group begins as soon as the round has nothing running on its agents. Until it has ended, nothing
 * else of them is begun.
 * Otherwise an agent that is busy with a device would keep all the others of its group waiting for it.
 */
import { ROUND_ITEMS_KEPT } from '../base/limits.js';
import { agentsOf, memberName } from './receiver-group.js';
import { agentsOfPlan, type RoundLeft, type RoundPlan } from './round-choice.js';

export type ItemState = 'waiting' | 'running' | 'done' | 'failed' | 'skipped';

export interface RoundItem {
  /** Null: of a group. */
  readonly agent: string | null;
  /** Null: of a group; or of an agent that was not reached, all that it may offer. */
  readonly device: string | null;
  /** Null: of an agent. */
  readonly group: string | null;
  readonly state: ItemState;
  /** The point, as `DEVICE@SEQUENCE`; of a group, as `GROUP@SEQUENCE`. */
  readonly point: string | null;
  readonly warningCount: number;
  readonly wireBytes: number;
  readonly durationMs: number;
  /** Of what failed or was skipped, as a clause. */
  readonly reason: string | null;
}

export interface Round {
  readonly startMs: number;
  /** Agents are waited for until then. */
  readonly waitUntilMs: number;
  /** A group counts as one. */
  readonly parallel: number;
  readonly plan: RoundPlan;
  /** Not seen yet. */
  readonly unseen: readonly string[];
  /** Not seen in time. */
  readonly absent: readonly string[];
  /** Groups come first. */
  readonly items: readonly RoundItem[];
}

export interface ItemOutcome {
  readonly state: 'done' | 'failed' | 'skipped';
  readonly point?: string;
  readonly warningCount?: number;
  readonly wireBytes?: number;
  readonly durationMs?: number;
  readonly reason?: string;
}

export interface RoundSummary {
  readonly done: number;
  readonly failed: number;
  readonly skipped: number;
  /** Of those done, the ones with warnings. */
  readonly withWarnings: number;
  readonly wireBytes: number;
  readonly durationMs: number;
  /** What failed, then what was skipped, then the others; at most ROUND_ITEMS_KEPT. */
  readonly items: readonly RoundItem[];
}

/** What an item is about. */
export type ItemSubject = Pick<RoundItem, 'agent' | 'device' | 'group'>;

/** To users. */
export function itemName({ agent, device, group }: ItemSubject): string {
  if (group !== null) return `group ${group}`;
  return device === null ? `${agent}` : `${agent} ${device}`;
}

export function newRound(
  plan: RoundPlan,
  options: { readonly parallel: number; readonly waitMs: number; readonly nowMs: number },
): Round {
  const { parallel, waitMs, nowMs } = options;
  const items = [
    ...plan.groups.map(({ name }) => item(ofGroup(name), 'waiting', null)),
    ...plan.unknown.map((name) => item(ofGroup(name), 'skipped', 'the receiver has no group of this name')),
  ];
  const unseen = agentsOfPlan(plan);
  return { startMs: nowMs, waitUntilMs: nowMs + waitMs, parallel, plan, unseen, absent: [], items };
}

const ofGroup = (group: string): ItemSubject => ({ agent: null, device: null, group });
const ofAgent = (agent: string, device: string | null): ItemSubject => ({ agent, device, group: null });

function item(subject: ItemSubject, state: ItemState, reason: string | null): RoundItem {
  return { ...subject, state, point: null, warningCount: 0, wireBytes: 0, durationMs: 0, reason };
}

/** An agent is connected, and offers these. */
export function agentSeen(round: Round, agent: string, offered: readonly string[]): Round {
  if (!round.unseen.includes(agent)) return round;
  return {
    ...round,
    unseen: round.unseen.filter((other) => other !== agent),
    items: [...round.items, ...itemsOf(round.plan, agent, offered)],
  };
}

function itemsOf({ agents, members }: RoundPlan, agent: string, offered: readonly string[]): RoundItem[] {
  const chosen = agents.get(agent);
  // It is awaited for its groups alone.
  if (chosen === undefined) return [];
  const devices = [...(chosen ?? offered)];
  if (devices.length === 0) return [item(ofAgent(agent, null), 'skipped', 'it offers no device')];
  return devices
    .filter((device) => !members.has(memberName({ agent, device })))
    .sort()
    .map((device) => item(ofAgent(agent, device), 'waiting', null));
}

/** Gives up agents that were not seen in time. @param reasonOf as a clause. */
export function giveUpUnseen(round: Round, nowMs: number, reasonOf: (agent: string) => string): Round {
  const { unseen, plan, items } = round;
  if (nowMs < round.waitUntilMs || unseen.length === 0) return round;
  const kept = items.map((waiting) => {
    if (waiting.group === null || waiting.state !== 'waiting') return waiting;
    const missing = agentsInGroup(plan, waiting.group).filter((agent) => unseen.includes(agent));
    if (canBeginWithout(plan, waiting.group, missing)) return waiting;
    const reason = missing.map((agent) => `agent ${agent}: ${reasonOf(agent)}`).join('; ');
    return { ...waiting, state: 'skipped' as const, reason };
  });
  const skipped = unseen
    .filter((agent) => plan.agents.has(agent))
    .map((agent) => item(ofAgent(agent, null), 'skipped', reasonOf(agent)));
  return { ...round, unseen: [], absent: unseen, items: [...kept, ...skipped] };
}

function canBeginWithout(plan: RoundPlan, name: string, missing: readonly string[]): boolean {
  if (missing.length === 0) return true;
  const group = plan.groups.find((each) => each.name === name);
  return group?.missing === 'leave-out' && missing.length < agentsOf(group).length;
}

function agentsInGroup({ groups }: RoundPlan, name: string): string[] {
  const group = groups.find((each) => each.name === name);
  return group === undefined ? [] : agentsOf(group);
}

/** Begins as many items as may run. @returns the round, and what to begin. */
export function beginNext(round: Round): { readonly round: Round; readonly begun: readonly RoundItem[] } {
  const agentsOfItem = ({ agent, group }: RoundItem): readonly string[] =>
    group === null ? [agent ?? ''] : agentsInGroup(round.plan, group);
  const running = round.items.filter(({ state }) => state === 'running');
  const busy = new Set(running.flatMap(agentsOfItem));
  /** Of groups that run, or wait for their agents. */
  const held = new Set(running.filter(({ group }) => group !== null).flatMap(agentsOfItem));
  let free = round.parallel - running.length;
  const begun: RoundItem[] = [];
  const items = round.items.map((waiting) => {
    if (waiting.state !== 'waiting' || free <= 0) return waiting;
    const agents = agentsOfItem(waiting);
    const isGroup = waiting.group !== null;
    if (isGroup && agents.some((agent) => round.unseen.includes(agent))) return waiting;
    const canBegin = !agents.some((agent) => held.has(agent) || (isGroup && busy.has(agent)));
    if (isGroup) for (const agent of agents) held.add(agent);
    if (!canBegin) return waiting;
    free -= 1;
    const now: RoundItem = { ...waiting, state: 'running' };
    begun.push(now);
    return now;
  });
  return { round: begun.length === 0 ? round : { ...round, items }, begun };
}

/**
 * A running item has ended. One of a device that was skipped takes those of its agent along that have not
 * begun: it is gone.
 */
export function itemEnded(round: Round, subject: ItemSubject, outcome: ItemOutcome): Round {
  const { agent, device, group } = subject;
  const isOne = (other: RoundItem) =>
    other.agent === agent && other.device === device && other.group === group;
  const items = round.items.map((other) => {
    if (isOne(other) && other.state === 'running') return { ...other, ...outcome };
    const isGone = outcome.state === 'skipped' && agent !== null && other.agent === agent;
    if (isGone && other.state === 'waiting')
      return { ...other, state: 'skipped' as const, reason: outcome.reason ?? null };
    return other;
  });
  return { ...round, items };
}

/** Nothing more is begun. */
export function stopRound(round: Round, reason: string): Round {
  return {
    ...round,
    unseen: [],
    items: [
      ...round.items.map((other) =>
        other.state === 'waiting' ? { ...other, state: 'skipped' as const, reason } : other,
      ),
      ...round.unseen
        .filter((agent) => round.plan.agents.has(agent))
        .map((agent) => item(ofAgent(agent, null), 'skipped', reason)),
    ],
  };
}

export function isOver({ unseen, items }: Round): boolean {
  return unseen.length === 0 && items.every(({ state }) => state !== 'waiting' && state !== 'running');
}

const ORDER: Readonly<Record<ItemState, number>> = { failed: 0, skipped: 1, running: 2, waiting: 2, done: 3 };

export function summarize({ startMs, items }: Round, nowMs: number): RoundSummary {
  const count = (state: ItemState) => items.filter((each) => each.state === state).length;
  return {
    done: count('done'),
    failed: count('failed'),
    skipped: count('skipped'),
    withWarnings: items.filter(({ state, warningCount }) => state === 'done' && warningCount > 0).length,
    wireBytes: items.reduce((sum, { wireBytes }) => sum + wireBytes, 0),
    durationMs: nowMs - startMs,
    items: [...items].sort((a, b) => ORDER[a.state] - ORDER[b.state]).slice(0, ROUND_ITEMS_KEPT),
  };
}

/** What a round goes back to: devices and groups that failed, and whole agents that were not reached. */
export function toRetry({ items }: Pick<RoundSummary, 'items'>): RoundLeft {
  const agents = new Map<string, Set<string> | null>();
  const groups = new Set<string>();
  for (const { agent, device, group, state } of items) {
    if (state !== 'failed' && state !== 'skipped') continue;
    if (group !== null) groups.add(group);
    if (agent === null) continue;
    const devices = agents.get(agent);
    if (device === null) agents.set(agent, null);
    else if (devices === undefined) agents.set(agent, new Set([device]));
    else devices?.add(device);
  }
  return { agents, groups };
}

/** A round with what came of going back to a part of it. */
export function withRetried(first: RoundSummary, again: RoundSummary): RoundSummary {
  // All that has an item was gone back to.
  const items = [
    ...again.items,
    ...first.items.filter(({ state }) => state !== 'failed' && state !== 'skipped'),
  ].sort((a, b) => ORDER[a.state] - ORDER[b.state]);
  // What has no item of its own was not gone back to: it is as it was.
  const unkept = (state: 'failed' | 'skipped') =>
    first[state] - first.items.filter((each) => each.state === state).length;
  return {
    done: first.done + again.done,
    failed: unkept('failed') + again.failed,
    skipped: unkept('skipped') + again.skipped,
    withWarnings: first.withWarnings + again.withWarnings,
    wireBytes: first.wireBytes + again.wireBytes,
    durationMs: first.durationMs + again.durationMs,
    items: items.slice(0, ROUND_ITEMS_KEPT),
  };
}
