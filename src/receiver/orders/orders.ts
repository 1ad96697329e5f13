/**
 * The orders that have not ended, and which agents are there to take them. They are in memory: an order dies
 * with the receiver, but its backup does not. src/domain/order/order.ts decides what may happen to an order.
 *
 * Presence: an agent is connected while its question for orders is open, and for a while after it or after a
 * report. An agent has one open question at a time; the next one ends it, since its content is newer.
 */
import { randomBytes } from 'node:crypto';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { ORDERS_PER_AGENT_MAX } from '../../domain/base/limits.js';
import { type CompareWish, type Comparison, isSameWish } from '../../domain/order/comparison.js';
import {
  type AgentOrder,
  type AwaitOrderRequest,
  advance,
  type DevicePlan,
  devicesOf,
  isEnded,
  newOrder,
  nextOrder,
  type Order,
  type OrderEvent,
  type OrderReport,
  type OrderStanding,
  type OrderWish,
  type PlannedRound,
} from '../../domain/order/order.js';
import type { Point } from '../../domain/point/point.js';

/** Between two questions of an agent that is there. */
const PRESENCE_GRACE_MS = 10_000;
const TICK_MS = 500;

export interface Presence {
  readonly isConnected: boolean;
  /** ms since 1970. */
  readonly lastSeenMs: number;
  /** As of its last question. */
  readonly devices: readonly string[];
  readonly canCompare: boolean;
  readonly canGroup: boolean;
  readonly plans: readonly DevicePlan[];
}

const ABSENT: Presence = {
  ...{ isConnected: false, lastSeenMs: 0, devices: [], plans: [], canCompare: false, canGroup: false },
};

interface Question {
  request: AwaitOrderRequest;
  readonly answer: (order: AgentOrder | null) => void;
}

interface Seen {
  lastSeenMs: number;
  /** Its connection was closed while it asked. */
  isGone: boolean;
  devices: readonly string[];
  canCompare: boolean;
  canGroup: boolean;
  plans: readonly DevicePlan[];
  question: Question | null;
}

interface Entry {
  order: Order;
  /** Who waits for its end. The last one that leaves cancels it. */
  readonly watchers: Set<(order: Order) => void>;
}

export interface Watch {
  /** As it is now. */
  readonly order: Order;
  /** Somebody else had asked for the same. */
  readonly hasJoined: boolean;
  /** Stops waiting. The last one to stop cancels the order. */
  leave(): void;
}

export class OrderBook {
  /** Rounds that an agent is a part of; none where nobody begins any. */
  planned: (agent: string) => readonly PlannedRound[] = () => [];
  readonly #nowMs: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #agents = new Map<string, Seen>();
  readonly #presenceListeners = new Set<() => void>();
  #ticking: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(nowMs: () => number = Date.now) {
    this.#nowMs = nowMs;
  }

  presence(agent: string): Presence {
    const seen = this.#agents.get(agent);
    if (seen === undefined) return ABSENT;
    const { lastSeenMs, isGone, devices, plans, canCompare, canGroup, question } = seen;
    return {
      isConnected: question !== null || (!isGone && this.#nowMs() - lastSeenMs < PRESENCE_GRACE_MS),
      lastSeenMs,
      devices,
      canCompare,
      canGroup,
      plans,
    };
  }

  /** Called whenever an agent asks. @returns ends it. */
  onPresence(listener: () => void): () => void {
    this.#presenceListeners.add(listener);
    return () => this.#presenceListeners.delete(listener);
  }

  /**
   * @param waitMs for the agent to be connected.
   * @param onChange with each change of the order; the last one is its end.
   * @throws StillpointError `device-unknown` if the agent is there and offers no such device, `session-busy`,
   * `busy`
   */
  place(wish: OrderWish, waitMs: number, onChange: (order: Order) => void): Watch {
    this.#checkOffered(wish);
    const open = this.#open(wish.agent);
    const same = open.find(({ order }) => order.device === wish.device);
    if (same !== undefined) checkJoinable(same.order, wish);
    if (same === undefined && open.length >= ORDERS_PER_AGENT_MAX) throw tooMany(wish.agent, open.length);
    const entry = same ?? this.#add(wish, waitMs);
    entry.watchers.add(onChange);
    // Not before the caller has what it asked for: a change is told after it.
    queueMicrotask(() => this.#handOut(wish.agent));
    return {
      order: entry.order,
      hasJoined: same !== undefined,
      leave: () => {
        if (!entry.watchers.delete(onChange) || entry.watchers.size > 0) return;
        this.#apply(entry, { type: 'cancel' });
      },
    };
  }

  /** An agent asks. */
  await(agent: string, request: AwaitOrderRequest, signal?: AbortSignal): Promise<AgentOrder | null> {
    if (this.#isClosed || signal?.aborted === true) return Promise.resolve(null);
    const seen = this.#see(agent);
    seen.devices = request.devices;
    seen.canCompare = request.canCompare === true;
    seen.canGroup = request.canGroup === true;
    seen.plans = request.plans ?? [];
    seen.question?.answer(null);
    this.#hear(agent, request);
    return new Promise((resolve) => {
      const answer = (order: AgentOrder | null) => {
        if (seen.question !== question) return;
        seen.question = null;
        seen.lastSeenMs = this.#nowMs();
        clearTimeout(timer);
        signal?.removeEventListener('abort', giveUp);
        resolve(order);
      };
      const giveUp = () => {
        if (seen.question === question) seen.isGone = signal?.aborted === true;
        answer(null);
      };
      const timer = setTimeout(giveUp, request.waitMs);
      const question: Question = { request, answer };
      seen.question = question;
      signal?.addEventListener('abort', giveUp, { once: true });
      for (const listener of this.#presenceListeners) listener();
      this.#handOut(agent);
    });
  }

  /**
   * @param point the committed one that the report names.
   * @throws StillpointError `bad-message` if it is not of the order's device
   */
  report(agent: string, orderId: string, report: OrderReport, point: Point | null): OrderStanding {
    // One that has not asked yet since the receiver was started is not there yet:
    // what it offers is not known.
    const question = this.#agents.has(agent) ? this.#see(agent).question : null;
    if (report.state !== 'running' && question !== null)
      question.request = without(question.request, orderId);
    const entry = this.#entries.get(orderId);
    // Another agent's order is as unknown as none.
    if (entry === undefined || entry.order.agent !== agent) {
      // It may be one from before a restart, which another one of its device has waited for.
      this.#handOut(agent);
      return 'unknown';
    }
    if (report.state === 'running') {
      this.#apply(entry, { type: 'running', progress: report.progress, nowMs: this.#nowMs() });
    } else if (report.state === 'failed') {
      this.#apply(entry, { type: 'failed', failure: report.error });
    } else {
      if (point?.device !== entry.order.device) throw wrongPoint(entry.order);
      this.#apply(entry, {
        ...{ type: 'done', point, warnings: report.warnings, comparison: comparisonOf(entry.order, report) },
      });
    }
    // Its device, or its place within the agent's limit, may be free now.
    this.#handOut(agent);
    return entry.order.isCancelAsked ? 'cancelled' : 'open';
  }

  /** Questions are answered, and what waits for an order is told that it is lost. */
  close(): void {
    this.#isClosed = true;
    for (const { question } of this.#agents.values()) question?.answer(null);
    for (const entry of this.#entries.values()) {
      this.#apply(entry, { type: 'cancel' });
      this.#apply(entry, { type: 'forgotten' });
    }
  }

  #see(agent: string): Seen {
    const seen = this.#agents.get(agent) ?? {
      lastSeenMs: 0,
      isGone: false,
      devices: [],
      plans: [],
      canCompare: false,
      canGroup: false,
      question: null,
    };
    seen.lastSeenMs = this.#nowMs();
    seen.isGone = false;
    this.#agents.set(agent, seen);
    return seen;
  }

  /** An agent that says nothing of what it was running was started anew. */
  #hear(agent: string, { running }: AwaitOrderRequest): void {
    for (const entry of this.#open(agent)) {
      const isNamed = running.some(({ orderId }) => orderId === entry.order.id);
      this.#apply(entry, isNamed ? { type: 'heard', nowMs: this.#nowMs() } : { type: 'forgotten' });
    }
  }

  #handOut(agent: string): void {
    const question = this.#agents.get(agent)?.question ?? null;
    if (question === null) return;
    const order = nextOrder(
      this.#open(agent).map((entry) => entry.order),
      question.request,
    );
    const entry = order === null ? undefined : this.#entries.get(order.id);
    if (entry === undefined) return;
    this.#apply(entry, { type: 'take', nowMs: this.#nowMs() });
    const { id, device, full, compare, group } = entry.order;
    question.answer({
      ...{ orderId: id, device, full },
      ...(compare === undefined ? {} : { compare }),
      ...(group === undefined ? {} : { group }),
    });
  }

  #checkOffered(wish: OrderWish): void {
    const { agent, compare, group } = wish;
    const { isConnected, devices, canCompare, canGroup } = this.presence(agent);
    if (!isConnected) return;
    if (compare !== undefined && !canCompare)
      throw tooOld(agent, 'does not compare by order', 'run "stillpoint compare DEVICE" on its machine');
    if (group !== undefined && !canGroup)
      throw tooOld(agent, 'can’t take part in a group over several hosts', 'take it out of the group');
    const unknown = devicesOf(wish).filter((device) => !devices.includes(device));
    if (unknown.length > 0) throw notOffered(agent, unknown, devices);
  }

  #open(agent: string): Entry[] {
    return [...this.#entries.values()].filter(({ order }) => order.agent === agent);
  }

  #add(wish: OrderWish, waitMs: number): Entry {
    const order = newOrder(randomBytes(16).toString('hex'), wish, this.#nowMs(), waitMs);
    const entry: Entry = { order, watchers: new Set() };
    this.#entries.set(order.id, entry);
    this.#ticking ??= setInterval(() => this.#tick(), TICK_MS).unref();
    return entry;
  }

  #apply(entry: Entry, event: OrderEvent): void {
    const before = entry.order;
    entry.order = advance(before, event);
    if (entry.order === before) return;
    if (isEnded(entry.order)) this.#entries.delete(before.id);
    for (const watcher of [...entry.watchers]) watcher(entry.order);
  }

  #tick(): void {
    const nowMs = this.#nowMs();
    for (const entry of this.#entries.values()) {
      const { isConnected } = this.presence(entry.order.agent);
      this.#failIfNotOffered(entry);
      this.#apply(entry, { type: 'tick', nowMs, isConnected });
    }
    if (this.#entries.size > 0 || this.#ticking === null) return;
    clearInterval(this.#ticking);
    this.#ticking = null;
  }

  /** What an agent offers is known when it is there: it may have come since the order was placed. */
  #failIfNotOffered(entry: Entry): void {
    if (entry.order.state !== 'queued') return;
    try {
      this.#checkOffered(entry.order);
    } catch (error) {
      if (!isStillpointError(error)) throw error;
      const { code, thing, reason, remedy, permanent } = error;
      const failure = { code, thing, reason, permanent, ...(remedy === undefined ? {} : { remedy }) };
      // An order that nobody has taken can't fail: it is taken for that.
      this.#apply(entry, { type: 'take', nowMs: this.#nowMs() });
      this.#apply(entry, { type: 'failed', failure });
    }
  }
}

/** The question as it would be asked now that the order has ended. */
function without(request: AwaitOrderRequest, ended: string): AwaitOrderRequest {
  return { ...request, running: request.running.filter(({ orderId }) => orderId !== ended) };
}

/** A request for less than an order does is served by that order. */
function checkJoinable(order: Order, wish: OrderWish): void {
  const { agent, device, full, compare, group, isCancelAsked } = order;
  const isSame = isSameWish(compare, wish.compare) && group?.runId === wish.group?.runId;
  if (!isCancelAsked && isSame && (full || !wish.full)) return;
  const what = compare === undefined ? 'backup' : 'comparison';
  const how = compare !== undefined ? '' : ', without --full';
  throw new StillpointError('session-busy', {
    thing: `device ${device} of the agent ${agent}`,
    reason: isCancelAsked
      ? `a ${what} of it is being cancelled`
      : isSame
        ? `another ${what} of it is ordered or running${how}`
        : `a ${what} of it is ordered or running${kindOf(order)}`,
    remedy: 'Try again when it has ended.',
    permanent: false,
  });
}

function kindOf({ compare, group }: Order): string {
  if (group !== undefined) return `, as a part of group ${group.name}`;
  return compare === undefined ? '' : `, ${optionsOf(compare)}`;
}

function optionsOf({ deep, ship }: CompareWish): string {
  return `${deep ? 'with' : 'without'} --deep, ${ship ? 'with' : 'without'} --ship`;
}

/** What an agent says that was not asked for is not passed on; what was asked for must be there. */
function comparisonOf(
  { compare }: Order,
  { comparison }: Extract<OrderReport, { state: 'done' }>,
): Comparison | undefined {
  if (compare === undefined) return undefined;
  if (comparison !== undefined) return comparison;
  throw new StillpointError('bad-message', {
    thing: 'report on an order',
    reason: 'it does not say what the comparison found',
  });
}

function tooOld(agent: string, lack: string, otherwise: string): StillpointError {
  return new StillpointError('version', {
    thing: `agent ${agent}`,
    reason: `it runs an older version, which ${lack}`,
    remedy: `Update it, or ${otherwise}.`,
  });
}

function notOffered(agent: string, unknown: readonly string[], devices: readonly string[]): StillpointError {
  const it = unknown.length === 1 ? 'it' : 'them';
  return new StillpointError('device-unknown', {
    thing: `device${unknown.length === 1 ? '' : 's'} ${unknown.join(', ')} of the agent ${agent}`,
    reason:
      devices.length === 0
        ? 'the agent offers no device'
        : `the agent does not offer ${it}; it offers ${devices.join(', ')}`,
    remedy: `Offer ${it} on its machine with "stillpoint agent add DEVICE --name NAME"; if you just did that, try again in half a minute.`,
  });
}

function tooMany(agent: string, count: number): StillpointError {
  return new StillpointError('busy', {
    thing: `agent ${agent}`,
    reason: `${count} orders wait for it, which is the limit`,
    remedy: 'Try again when some of them have ended.',
    permanent: false,
  });
}

function wrongPoint({ device }: Order): StillpointError {
  return new StillpointError('bad-message', {
    thing: 'report on an order',
    reason: `its point is not of device ${device}`,
  });
}
