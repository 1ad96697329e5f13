/**
 * A round: the devices of many agents, in turn or several at once. Which device comes next, what is given up,
 * and what is reported at the end. Pure.
 *
 * The devices that an agent offers are known once it is connected. All agents have the same time to connect,
 * from the start of the round. Those that are connected are backed up meanwhile, and only the end of the
 * round waits for the others.
 *
 * | agent    | is seen                    | time is up             | an item is unreachable              |
 * |----------|----------------------------|------------------------|-------------------------------------|
 * | waiting  | expanded: an item a device | skipped, with a reason | -                                   |
 * | expanded | -                          | -                      | its other waiting items are skipped |
 */
import { ROUND_ITEMS_KEPT } from '../base/limits.js';

export type ItemState = 'waiting' | 'running' | 'done' | 'failed' | 'skipped';

export interface RoundItem {
  readonly agent: string;
  /** Null: of an agent that was not reached, all that it may offer. */
  readonly device: string | null;
  readonly state: ItemState;
  /** The point, as `DEVICE@SEQUENCE`. */
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
  readonly parallel: number;
  /** Null: all that an agent offers. */
  readonly only: ReadonlyMap<string, ReadonlySet<string> | null> | null;
  /** Not seen yet. */
  readonly unseen: readonly string[];
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

export function newRound(
  agents: readonly string[],
  options: {
    readonly parallel: number;
    readonly waitMs: number;
    readonly nowMs: number;
    readonly only?: Round['only'];
  },
): Round {
  const { parallel, waitMs, nowMs, only = null } = options;
  const unseen = [...new Set(agents)].sort();
  return { startMs: nowMs, waitUntilMs: nowMs + waitMs, parallel, only, unseen, items: [] };
}

function item(agent: string, device: string | null, state: ItemState, reason: string | null): RoundItem {
  return {
    agent,
    device,
    state,
    point: null,
    warningCount: 0,
    wireBytes: 0,
    durationMs: 0,
    reason,
  };
}

/** An agent is connected, and offers these. */
export function agentSeen(round: Round, agent: string, offered: readonly string[]): Round {
  if (!round.unseen.includes(agent)) return round;
  const only = round.only?.get(agent) ?? null;
  const devices = only === null ? offered : [...only];
  const items =
    devices.length === 0
      ? [item(agent, null, 'skipped', 'it offers no device')]
      : [...devices].sort().map((device) => item(agent, device, 'waiting', null));
  return {
    ...round,
    unseen: round.unseen.filter((other) => other !== agent),
    items: [...round.items, ...items],
  };
}

/** Gives up agents that were not seen in time. @param reasonOf as a clause. */
export function giveUpUnseen(round: Round, nowMs: number, reasonOf: (agent: string) => string): Round {
  if (nowMs < round.waitUntilMs || round.unseen.length === 0) return round;
  const items = round.unseen.map((agent) => item(agent, null, 'skipped', reasonOf(agent)));
  return { ...round, unseen: [], items: [...round.items, ...items] };
}

/** Begins as many items as may run. @returns the round, and what to begin. */
export function beginNext(round: Round): { readonly round: Round; readonly begun: readonly RoundItem[] } {
  let free = round.parallel - round.items.filter(({ state }) => state === 'running').length;
  const begun: RoundItem[] = [];
  const items = round.items.map((waiting) => {
    if (waiting.state !== 'waiting' || free <= 0) return waiting;
    free -= 1;
    const running: RoundItem = { ...waiting, state: 'running' };
    begun.push(running);
    return running;
  });
  return { round: begun.length === 0 ? round : { ...round, items }, begun };
}

/**
 * A running item has ended. One that was skipped takes those of its agent along that
 * have not begun: it is gone.
 */
export function itemEnded(round: Round, agent: string, device: string, outcome: ItemOutcome): Round {
  const items = round.items.map((other) => {
    if (other.agent !== agent) return other;
    if (other.device === device && other.state === 'running') return { ...other, ...outcome };
    if (outcome.state === 'skipped' && other.state === 'waiting')
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
      ...round.unseen.map((agent) => item(agent, null, 'skipped', reason)),
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

/** What a round goes back to: devices that failed, and whole agents that were not reached. */
export function toRetry({ items }: RoundSummary): ReadonlyMap<string, ReadonlySet<string> | null> {
  const left = new Map<string, Set<string> | null>();
  for (const { agent, device, state } of items) {
    if (state !== 'failed' && state !== 'skipped') continue;
    const devices = left.get(agent);
    if (device === null) left.set(agent, null);
    else if (devices === undefined) left.set(agent, new Set([device]));
    else devices?.add(device);
  }
  return left;
}

/** A round with what came of going back to a part of it. */
export function withRetried(first: RoundSummary, again: RoundSummary): RoundSummary {
  const left = toRetry(first);
  const items = [
    ...again.items,
    ...first.items.filter(({ agent, device, state }) => {
      if (state !== 'failed' && state !== 'skipped') return true;
      const devices = left.get(agent);
      return !(devices === null || (device !== null && devices?.has(device)));
    }),
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
