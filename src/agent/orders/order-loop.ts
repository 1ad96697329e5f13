/**
 * Asks a receiver for orders, for ever, and runs them. The receiver reaches this machine over the connection
 * that the loop holds open. A receiver that does not answer is asked again with growing pauses.
 *
 * | the receiver      | is asked again          | told to the log                     |
 * |-------------------|-------------------------|-------------------------------------|
 * | answers           | at once                 | when it has not answered before     |
 * | does not, refuses | after 1 s … 60 s        | when the reason is another than before |
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { DeviceSettings } from '../../config/agent-config.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import { Backoff } from '../../domain/base/retry.js';
import {
  type AgentOrder,
  type DevicePlan,
  devicesOf,
  type PlannedRound,
  type RunningOrder,
} from '../../domain/order/order.js';
import type { OrderPort } from '../../protocol/port/order.js';
import type { OpenReceiver } from '../backup/configured.js';
import type { PerformGroup } from './group-order.js';
import { type Perform, runOrder } from './run-order.js';

export interface OrderLoopOptions {
  readonly stateDirectory: string;
  /** Those that receivers may order backups of, now. */
  readonly listDevices: () => Promise<readonly DeviceSettings[]>;
  /** For questions and reports. */
  readonly orders: OrderPort;
  /** For one backup. */
  readonly openReceiver: OpenReceiver;
  readonly perform?: Perform;
  readonly performGroup?: PerformGroup;
  /** What this machine does by itself, for the receiver to show. */
  readonly plans?: () => readonly DevicePlan[];
  /** What the receiver begins by itself, as it last told. */
  readonly onRounds?: (rounds: readonly PlannedRound[]) => void;
  /** Null: it answers; otherwise why it does not. */
  readonly onProblem?: (reason: string | null) => void;
  /** Backups at once. */
  readonly ordersMax: number;
  /** Devices that are being backed up, by name: shared by the loops of all receivers. */
  readonly busy: Set<string>;
  readonly log: Logger;
  /** Aborted: backups are cancelled, and the loop ends. */
  readonly signal: AbortSignal;
  readonly waitMs?: number;
  readonly pauseMs?: number;
}

const WAIT_MS = 30_000;
const ROUNDS_EVERY_MS = 60_000;
const PAUSE_FIRST_MS = 1_000;
const PAUSE_MAX_MS = 60_000;

export async function orderLoop(options: OrderLoopOptions): Promise<void> {
  const { orders, signal, log, ordersMax, listDevices, plans, waitMs = WAIT_MS } = options;
  const firstPauseMs = options.pauseMs ?? PAUSE_FIRST_MS;
  const running = new Map<
    string,
    RunningOrder & { readonly order: AgentOrder; readonly end: Promise<void> }
  >();
  const doubted = new Set<string>();
  let problem: string | null = 'not asked yet';
  let roundsAtMs = Number.NEGATIVE_INFINITY;
  const backoff = new Backoff({ pauseMs: firstPauseMs, pauseMaxMs: PAUSE_MAX_MS }, Math.random);
  const pause = (ms: number) => sleep(ms, undefined, { signal }).catch(() => undefined);

  const begin = (order: AgentOrder, offers: readonly DeviceSettings[]): void => {
    const { orderId, device } = order;
    // Its answer was sent twice.
    if (running.has(orderId)) return;
    // One whose end the receiver has heard of, while the answer to that is still on its way.
    const names = devicesOf(order);
    const isOfThese = (name: string): boolean => names.includes(name);
    const before = [...running.values()].filter((other) => devicesOf(other.order).some(isOfThese));
    const end = Promise.all(before.map((other) => other.end)).then(() => run(order, offers));
    running.set(orderId, { orderId, device, order, end });
  };
  const run = async (order: AgentOrder, offers: readonly DeviceSettings[]): Promise<void> => {
    const names = devicesOf(order);
    const busyDevice = names.find((name) => options.busy.has(name)) ?? null;
    if (busyDevice === null) for (const name of names) options.busy.add(name);
    await runOrder({ ...options, order, offers, busyDevice, doubted });
    running.delete(order.orderId);
    if (busyDevice === null) for (const name of names) options.busy.delete(name);
  };

  while (!signal.aborted) {
    try {
      const offers = await listDevices();
      const startMs = performance.now();
      // The first one is answered at once: until then nobody here knows whether the receiver can be reached.
      const askedMs = problem === null ? waitMs : 0;
      const question = {
        devices: offers.map(({ name }) => name),
        running: [...running.values()].map(({ orderId, device }) => ({ orderId, device })),
        ...{ ordersMax, waitMs: askedMs, canCompare: true, canGroup: true },
        ...(plans === undefined ? {} : { plans: plans() }),
      };
      const order = await orders.awaitOrder(question, signal);
      if (problem !== null)
        log.info({ event: 'receiver-connected' satisfies LogEvent }, 'connected, waiting for orders');
      options.onProblem?.(null);
      if (options.onRounds !== undefined && performance.now() - roundsAtMs > ROUNDS_EVERY_MS) {
        roundsAtMs = performance.now();
        // A receiver of an earlier version does not know the question.
        await orders.rounds().then(options.onRounds, () => undefined);
      }
      problem = null;
      backoff.reset();
      // The receiver does not keep to what it was told: more than wait for their last report
      // to be taken are not begun.
      if (order !== null && running.size >= 2 * ordersMax) {
        log.warn({ device: order.device }, 'an order beyond the limit was not taken');
        await pause(firstPauseMs);
      } else if (order !== null) begin(order, offers);
      // The receiver is closing, or another agent asks under the same name.
      else if (performance.now() - startMs < Math.min(firstPauseMs, askedMs)) await pause(firstPauseMs);
    } catch (error) {
      if (signal.aborted) break;
      const reason = (error as Error).message;
      if (reason !== problem)
        log.warn(
          { event: 'receiver-unreachable' satisfies LogEvent, reason },
          'the receiver does not answer; asking again',
        );
      problem = reason;
      options.onProblem?.(reason);
      await pause(backoff.next());
    }
  }
  await Promise.all([...running.values()].map(({ end }) => end));
}
