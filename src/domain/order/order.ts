/**
 * An order: a receiver's wish that an agent back up, or compare, one of the devices that the agent offers.
 * The receiver never commands; the agent asks for orders, and runs them as it would run the command. Pure.
 *
 * | state   | take  | running | done, failed | cancel    | tick, agent silent for too long | agent has    |
 * |         |       | report  | report       |           |                                 | forgotten it |
 * |---------|-------|---------|--------------|-----------|---------------------------------|--------------|
 * | queued  | taken | -       | -            | cancelled | expired, unless it is connected | -            |
 * | taken   | taken | running | done, failed | asked for | expired                         | -            |
 * | running | -     | running | done, failed | asked for | lost                            | lost         |
 * | the others are ends: nothing changes them                                                             |
 *
 * All times are the receiver's. `taken` means only that an answer was written: an agent that asks again gets
 * the order again, and the order counts from the moment when the agent says that it runs. If the agent may
 * have an order, the order can only be asked to end: the agent hears of that with its next report, and the
 * order is `cancelled` when the agent reports that it failed because of that, or reports nothing more.
 */
import type { ErrorCode } from '../base/errors.js';
import { ORDER_LEASE_MS, ORDER_QUEUED_MS, ORDER_STALLED_MS, ORDER_START_MS } from '../base/limits.js';
import type { Point } from '../point/point.js';
import type { CompareWish, Comparison } from './comparison.js';

export const ORDER_PHASES = ['snapshot', 'base', 'check', 'compare', 'fetch-tree', 'scan', 'commit'] as const;
export type OrderPhase = (typeof ORDER_PHASES)[number];

/** What an order says of the group that it is for: its device is the first of these. */
export interface GroupOrder {
  /** 32 hex digits; the id of the group point that may come of it. */
  readonly runId: string;
  readonly name: string;
  /** All members of the agent, by their names there. */
  readonly devices: readonly string[];
}

/** What the agent is handed: a name that it offers, and nothing that says what is read how. */
export interface AgentOrder {
  /** 32 hex digits. */
  readonly orderId: string;
  readonly device: string;
  /** Read everything, although the agent may know what changed. */
  readonly full: boolean;
  /** Compare it instead. Only for agents that say that they can. */
  readonly compare?: CompareWish;
  /**
   * Back up these together, as a part of a group over several hosts (src/domain/group/steps.ts). Only for
   * agents that say that they can.
   */
  readonly group?: GroupOrder;
}

export interface RunningOrder {
  readonly orderId: string;
  readonly device: string;
}

/** What an agent does with a device by itself, for the receiver to show. */
export interface DevicePlan {
  readonly device: string;
  /** As it is written; null: only on demand. */
  readonly schedule: string | null;
  /** ISO 8601, by the agent's clock; null: not by itself. */
  readonly nextAt: string | null;
  /** In a row. */
  readonly failures: number;
  readonly isPaused: boolean;
}

/** A round that the receiver begins by itself and that an agent is a part of, for the agent to show. */
export interface PlannedRound {
  readonly name: string;
  readonly schedule: string;
  /** ISO 8601, by the receiver's clock; null: never again. */
  readonly nextAt: string | null;
}

export interface AwaitOrderRequest {
  /** Names of the devices that the agent offers. */
  readonly devices: readonly string[];
  /** What it is doing for this receiver. */
  readonly running: readonly RunningOrder[];
  /** Of an agent that has schedules of its own. */
  readonly plans?: readonly DevicePlan[];
  /** How many it runs at once. */
  readonly ordersMax: number;
  /** It can compare by order; missing: it is of a version that can't. */
  readonly canCompare?: boolean;
  /** It can take part in a group over several hosts; missing: it is of a version that can't. */
  readonly canGroup?: boolean;
  /** How long an answer may take if there is no order. */
  readonly waitMs: number;
}

export interface OrderProgress {
  readonly phase: OrderPhase;
  readonly doneBytes: number;
  readonly totalBytes: number;
  readonly changedBytes: number;
  readonly wireBytes: number;
}

/** A StillpointError as a fact. */
export interface OrderFailure {
  readonly code: ErrorCode;
  readonly thing: string;
  readonly reason: string;
  readonly remedy?: string;
  readonly permanent: boolean;
}

export type OrderReport =
  | { readonly state: 'running'; readonly progress: OrderProgress }
  | {
      readonly state: 'done';
      /** The point that was made; of a comparison without `ship` the one that was compared. */
      readonly pointId: string;
      readonly warnings: readonly string[];
      readonly comparison?: Comparison;
    }
  | { readonly state: 'failed'; readonly error: OrderFailure };

/**
 * What a report is answered with. `unknown`: nobody waits for it any more; the backup
 * goes on for its own sake.
 */
export type OrderStanding = 'open' | 'cancelled' | 'unknown';

export type OrderState =
  | 'queued'
  | 'taken'
  | 'running'
  | 'done'
  | 'failed'
  | 'cancelled'
  | 'expired'
  | 'lost';

export interface Order {
  readonly id: string;
  readonly agent: string;
  readonly device: string;
  readonly full: boolean;
  /** Undefined: a backup. */
  readonly compare: CompareWish | undefined;
  /** Undefined: of its device alone. */
  readonly group: GroupOrder | undefined;
  readonly state: OrderState;
  readonly createdAtMs: number;
  /** When silence ends it. */
  readonly silentUntilMs: number;
  /** Of the last report that told of something new. */
  readonly movedAtMs: number;
  readonly isCancelAsked: boolean;
  readonly progress: OrderProgress | null;
  readonly point: Point | null;
  readonly comparison: Comparison | null;
  /** Of the agent, after its commit too. */
  readonly warnings: readonly string[];
  readonly failure: OrderFailure | null;
}

export type OrderEvent =
  | { readonly type: 'take'; readonly nowMs: number }
  | { readonly type: 'running'; readonly progress: OrderProgress; readonly nowMs: number }
  | {
      readonly type: 'done';
      readonly point: Point;
      readonly warnings: readonly string[];
      readonly comparison?: Comparison | undefined;
    }
  | { readonly type: 'failed'; readonly failure: OrderFailure }
  | { readonly type: 'cancel' }
  | { readonly type: 'tick'; readonly nowMs: number; readonly isConnected: boolean }
  /** The agent asks for more, and names it among what it does. */
  | { readonly type: 'heard'; readonly nowMs: number }
  | { readonly type: 'forgotten' };

export interface OrderWish {
  readonly agent: string;
  readonly device: string;
  readonly full: boolean;
  readonly compare?: CompareWish | undefined;
  readonly group?: GroupOrder | undefined;
}

/** All devices that the order is for. */
export function devicesOf({ device, group }: Pick<OrderWish, 'device' | 'group'>): readonly string[] {
  return group?.devices ?? [device];
}

/** @param waitMs for an agent that is not connected. */
export function newOrder(id: string, wish: OrderWish, nowMs: number, waitMs: number): Order {
  const { agent, device, full, compare, group } = wish;
  return {
    ...{
      id,
      agent,
      device,
      full,
      compare,
      group,
      state: 'queued',
      createdAtMs: nowMs,
      silentUntilMs: nowMs + waitMs,
    },
    movedAtMs: nowMs,
    ...{ isCancelAsked: false, progress: null, point: null, comparison: null, warnings: [], failure: null },
  };
}

export function isEnded({ state }: Order): boolean {
  return state !== 'queued' && state !== 'taken' && state !== 'running';
}

/** Held by the agent, as far as the receiver knows. */
export function isHeld({ state }: Order): boolean {
  return state === 'taken' || state === 'running';
}

/** The order after the event; the same object if nothing changes. */
export function advance(order: Order, event: OrderEvent): Order {
  if (isEnded(order)) return order;
  switch (event.type) {
    case 'take':
      if (order.state !== 'queued') return order;
      return {
        ...order,
        state: 'taken',
        movedAtMs: event.nowMs,
        silentUntilMs: Math.max(order.silentUntilMs, event.nowMs + ORDER_START_MS),
      };
    case 'running': {
      if (order.state === 'queued') return order;
      const { progress, nowMs } = event;
      const movedAtMs = isSame(progress, order.progress) ? order.movedAtMs : nowMs;
      return { ...order, state: 'running', progress, movedAtMs, silentUntilMs: nowMs + ORDER_LEASE_MS };
    }
    case 'done':
      if (order.state === 'queued') return order;
      return {
        ...order,
        state: 'done',
        point: event.point,
        warnings: event.warnings,
        comparison: event.comparison ?? null,
      };
    case 'failed':
      if (order.state === 'queued') return order;
      return {
        ...order,
        state: order.isCancelAsked && event.failure.code === 'cancelled' ? 'cancelled' : 'failed',
        failure: event.failure,
      };
    case 'cancel':
      if (order.state === 'queued') return { ...order, state: 'cancelled' };
      return order.isCancelAsked ? order : { ...order, isCancelAsked: true };
    case 'tick':
      if (isStalled(order, event.nowMs)) return { ...order, state: 'lost' };
      if (order.state === 'queued' && event.nowMs - order.createdAtMs >= ORDER_QUEUED_MS)
        return { ...order, state: 'expired' };
      if (event.nowMs < order.silentUntilMs) return order;
      if (order.isCancelAsked) return { ...order, state: 'cancelled' };
      if (order.state === 'running') return { ...order, state: 'lost' };
      // Connected and busy with others: its turn comes.
      return order.state === 'queued' && event.isConnected ? order : { ...order, state: 'expired' };
    case 'heard':
      if (order.state !== 'running') return order;
      return { ...order, silentUntilMs: Math.max(order.silentUntilMs, event.nowMs + ORDER_LEASE_MS) };
    case 'forgotten':
      return order.state === 'running' ? { ...order, state: 'lost' } : order;
  }
}

/** A part of a group waits for the other hosts, however long they prepare: its run ends it, if it must. */
function isStalled({ state, group, movedAtMs }: Order, nowMs: number): boolean {
  return state === 'running' && group === undefined && nowMs - movedAtMs >= ORDER_STALLED_MS;
}

function isSame(a: OrderProgress, b: OrderProgress | null): boolean {
  const keys = ['phase', 'doneBytes', 'totalBytes', 'changedBytes', 'wireBytes'] as const;
  return b !== null && keys.every((key) => a[key] === b[key]);
}

/**
 * The order that an agent that asks is to be given: the oldest for devices that it offers and does not
 * work on, within its limit. One that it was given before, and has not begun, is given again: the
 * answer may have been lost.
 */
export function nextOrder(orders: readonly Order[], request: AwaitOrderRequest): Order | null {
  const { devices, running, ordersMax } = request;
  const isKnownToRun = (order: Order) => running.some(({ orderId }) => orderId === order.id);
  const canRun = ({ compare, group }: Order) =>
    (compare === undefined || request.canCompare === true) &&
    (group === undefined || request.canGroup === true);
  const held = orders.filter(isHeld);
  const again = held.find(
    (order) => order.state === 'taken' && canRun(order) && !order.isCancelAsked && !isKnownToRun(order),
  );
  if (again !== undefined) return again;
  // What it does that no order here stands for any more counts too.
  const others = running.filter(({ orderId }) => !held.some(({ id }) => id === orderId));
  if (held.length + others.length >= ordersMax) return null;
  const busy = new Set([...held.flatMap(devicesOf), ...others.map(({ device }) => device)]);
  const isFree = (device: string) => devices.includes(device) && !busy.has(device);
  return (
    orders.find((order) => order.state === 'queued' && devicesOf(order).every(isFree) && canRun(order)) ??
    null
  );
}
