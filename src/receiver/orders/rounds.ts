/** Carries out a round (src/domain/order/round.ts) with orders. */

import { isStillpointError } from '../../domain/base/errors.js';
import {
  agentSeen,
  beginNext,
  giveUpUnseen,
  type ItemOutcome,
  isOver,
  itemEnded,
  newRound,
  type Round,
  type RoundItem,
  type RoundSummary,
  stopRound,
  summarize,
} from '../../domain/order/round.js';
import { pointLabel } from '../../domain/point/point.js';
import { followOrder } from './order-outcome.js';
import type { OrderBook } from './orders.js';

export interface RoundOptions {
  readonly orders: OrderBook;
  readonly agents: readonly string[];
  readonly parallel: number;
  /** For agents that are not connected. */
  readonly waitMs: number;
  /** Only these devices of an agent; null: all that it offers. */
  readonly only?: Round['only'];
  /** Aborted: what runs is cancelled, and nothing more is begun. */
  readonly signal: AbortSignal;
  /** Each item when it has begun, and when it has ended. */
  readonly onItem: (item: RoundItem) => void;
  readonly whyAbsent: (agent: string) => string;
  readonly nowMs: () => number;
}

const TICK_MS = 200;

export async function runRound(options: RoundOptions): Promise<RoundSummary> {
  const { orders, agents, parallel, waitMs, signal, onItem, whyAbsent, nowMs, only = null } = options;
  let round = newRound(agents, { parallel, waitMs, only, nowMs: nowMs() });
  return new Promise((resolve) => {
    const change = (next: Round): void => {
      const before = round;
      round = next;
      for (const item of next.items) {
        if (item.state !== 'waiting' && !before.items.includes(item)) onItem(item);
      }
    };
    const run = async ({ agent, device }: RoundItem): Promise<void> => {
      const outcome = await backUp(options, agent, device ?? '');
      change(itemEnded(round, agent, device ?? '', outcome));
      step();
    };
    const step = (): void => {
      for (const agent of round.unseen) {
        const { isConnected, devices } = orders.presence(agent);
        if (isConnected) change(agentSeen(round, agent, devices));
      }
      change(giveUpUnseen(round, nowMs(), whyAbsent));
      if (signal.aborted) change(stopRound(round, 'the round was stopped'));
      const { round: next, begun } = beginNext(round);
      change(next);
      for (const item of begun) void run(item);
      if (!isOver(round)) return;
      clearInterval(timer);
      endPresence();
      signal.removeEventListener('abort', step);
      resolve(summarize(round, nowMs()));
    };
    const timer = setInterval(step, TICK_MS);
    const endPresence = orders.onPresence(step);
    signal.addEventListener('abort', step);
    step();
  });
}

async function backUp(
  { orders, waitMs, signal, whyAbsent, nowMs }: RoundOptions,
  agent: string,
  device: string,
): Promise<ItemOutcome> {
  const startMs = nowMs();
  const spent = () => ({ durationMs: Math.max(0, Math.round(nowMs() - startMs)) });
  try {
    const { point, warnings } = await followOrder(
      orders,
      { agent, device, full: false },
      { waitMs, signal, whyAbsent, onChange: () => undefined },
    );
    return {
      state: 'done',
      point: pointLabel(point),
      warningCount: warnings.length,
      wireBytes: point.statistics.wireBytes,
      ...spent(),
    };
  } catch (error) {
    const isAbsent = isStillpointError(error, 'unreachable') && error.thing === `agent ${agent}`;
    const reason = isAbsent ? error.reason : (error as Error).message.replace(/\.$/, '');
    return { state: isAbsent ? 'skipped' : 'failed', reason, ...spent() };
  }
}
