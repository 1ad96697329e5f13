/** Carries out a round (src/domain/order/round.ts): devices with orders, groups by their own room. */

import { isStillpointError } from '../../domain/base/errors.js';
import { agentsOf, type ReceiverGroup } from '../../domain/order/receiver-group.js';
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
import type { RoundPlan } from '../../domain/order/round-choice.js';
import { pointLabel } from '../../domain/point/point.js';
import { followOrder } from './order-outcome.js';
import type { OrderBook } from './orders.js';

/** Of a backup of a group, as a part of a round. */
export interface RoundGroupWish {
  /** Who has begun the round. */
  readonly by: 'operator' | 'schedule';
  readonly group: ReceiverGroup;
  /** For agents that are not connected. */
  readonly waitMs: number;
  readonly signal: AbortSignal;
  readonly whyAbsent: (agent: string) => string;
}

/** @throws StillpointError; `unreachable` of the group if an agent is not there */
export type BackUpGroup = (wish: RoundGroupWish) => Promise<ItemOutcome>;

export interface RoundOptions extends Pick<RoundGroupWish, 'by'> {
  readonly orders: OrderBook;
  readonly backUpGroup: BackUpGroup;
  readonly plan: RoundPlan;
  readonly parallel: number;
  /** For agents that are not connected. */
  readonly waitMs: number;
  /** Aborted: what runs is cancelled, and nothing more is begun. */
  readonly signal: AbortSignal;
  /** Each item when it has begun, and when it has ended. */
  readonly onItem: (item: RoundItem) => void;
  readonly whyAbsent: (agent: string) => string;
  readonly nowMs: () => number;
}

const TICK_MS = 200;

export async function runRound(options: RoundOptions): Promise<RoundSummary> {
  const { orders, plan, parallel, waitMs, signal, onItem, whyAbsent, nowMs } = options;
  let round = newRound(plan, { parallel, waitMs, nowMs: nowMs() });
  for (const item of round.items) if (item.state !== 'waiting') onItem(item);
  return new Promise((resolve) => {
    const change = (next: Round): void => {
      const before = round;
      round = next;
      for (const item of next.items) {
        if (item.state !== 'waiting' && !before.items.includes(item)) onItem(item);
      }
    };
    const run = async (item: RoundItem): Promise<void> => {
      const outcome = await backUp(options, item, round.absent);
      change(itemEnded(round, item, outcome));
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
  options: RoundOptions,
  item: RoundItem,
  absent: readonly string[],
): Promise<ItemOutcome> {
  const { plan, nowMs } = options;
  const startMs = nowMs();
  const spent = () => ({ durationMs: Math.max(0, Math.round(nowMs() - startMs)) });
  const group = plan.groups.find(({ name }) => name === item.group);
  const thing = group === undefined ? `agent ${item.agent}` : `group ${group.name}`;
  try {
    const outcome = await (group === undefined
      ? backUpDevice(options, item.agent ?? '', item.device ?? '')
      : backUpGroup(options, group, absent));
    return { ...outcome, ...spent() };
  } catch (error) {
    const isAbsent = isStillpointError(error, 'unreachable') && error.thing === thing;
    const reason = isAbsent ? error.reason : (error as Error).message.replace(/\.$/, '');
    return { state: isAbsent ? 'skipped' : 'failed', reason, ...spent() };
  }
}

async function backUpDevice(
  { orders, waitMs, signal, whyAbsent }: RoundOptions,
  agent: string,
  device: string,
): Promise<ItemOutcome> {
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
  };
}

/** Agents that the round has given up already are not waited for again. */
function backUpGroup(
  { backUpGroup, by, waitMs, signal, whyAbsent }: RoundOptions,
  group: ReceiverGroup,
  absent: readonly string[],
): Promise<ItemOutcome> {
  const isWithout = agentsOf(group).some((agent) => absent.includes(agent));
  return backUpGroup({ group, by, waitMs: isWithout ? 0 : waitMs, signal, whyAbsent });
}
