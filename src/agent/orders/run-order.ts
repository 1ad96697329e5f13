/**
 * One order from its receipt to its last report. The backup is the ordinary one, with the settings of the
 * offer. Reports run beside the backup, and their failures do not touch it; only the answer that the order
 * was cancelled does.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { DeviceSettings } from '../../config/agent-config.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { WARNING_CHARS_MAX, WARNINGS_MAX } from '../../domain/base/limits.js';
import { isTemporary, retry } from '../../domain/base/retry.js';
import type { Comparison } from '../../domain/order/comparison.js';
import {
  type AgentOrder,
  devicesOf,
  type GroupOrder,
  type OrderProgress,
  type OrderReport,
} from '../../domain/order/order.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { OrderPort } from '../../protocol/port/order.js';
import { RETRY_DEFAULT } from '../../protocol/retry.js';
import { backUpConfigured, type OpenReceiver, withConfigured } from '../backup/configured.js';
import type { BackupResult } from '../backup/options.js';
import { unlessAborted } from '../common/cancel.js';
import type { AgentEvent, OnAgentEvent } from '../common/events.js';
import { failureOf } from '../common/failure.js';
import { compareByOrder } from './compare-order.js';
import { backUpGroupByOrder, type PerformGroup } from './group-order.js';
import { ProgressOfOrder } from './order-progress.js';

/** Carries out a backup beside those that are begun otherwise. @throws StillpointError `session-busy` */
export type Perform = (
  device: DeviceSettings,
  full: boolean,
  signal: AbortSignal,
  work: (signal: AbortSignal, onEvent: OnAgentEvent) => Promise<BackupResult>,
) => Promise<BackupResult>;

export interface OrderContext {
  readonly order: AgentOrder;
  /** What is offered. */
  readonly offers: readonly DeviceSettings[];
  /** A device of the order that another one works on; null: there is none. */
  readonly busyDevice: string | null;
  readonly stateDirectory: string;
  /** For reports. */
  readonly orders: Pick<OrderPort, 'reportOrder' | 'groupStep'>;
  /** For the backup, closed at its end. */
  readonly openReceiver: OpenReceiver;
  /** Default: at once. */
  readonly perform?: Perform;
  readonly performGroup?: PerformGroup;
  /** Devices that a group over several hosts has to read completely next time, by name. */
  readonly doubted: Set<string>;
  readonly log: Logger;
  /** Aborted: the agent stops; its session stays to be resumed or superseded. */
  readonly signal: AbortSignal;
  readonly reportEveryMs?: number;
}

const REPORT_EVERY_MS = 2_000;
/** For the last report. The receiver gives a silent order up by itself. */
const LAST_REPORT_MS = 10 * 60_000;
/** When the agent is stopped, nobody waits for long. */
const PARTING_MS = 3_000;
/** Until the receiver has answered the first report, for a cancellation that came before it. */
const FIRST_REPORT_MS = 5_000;

/** Never rejects. */
export async function runOrder(context: OrderContext): Promise<void> {
  const { order, orders, signal } = context;
  const { device, group, orderId } = order;
  const of = group === undefined ? { device } : { group: group.name, devices: group.devices };
  const log = context.log.child({ ...of, order: orderId.slice(0, 12) });
  const what = order.compare === undefined ? 'backup' : 'comparison';
  const cancel = new AbortController();
  const progress = new ProgressOfOrder(log);
  const ended = new AbortController();
  const reporting = reportUntil(
    context,
    ended.signal,
    () => progress.current,
    () => cancel.abort(),
  );
  let last: OrderReport;
  try {
    const told = await Promise.race([reporting.first, sleep(FIRST_REPORT_MS, 'open', { ref: false })]);
    if (told === 'cancelled') throw cancelled(order.device);
    log.info({ full: order.full, compare: order.compare }, `${what} begins`);
    const result = await carryOut(context, progress, AbortSignal.any([signal, cancel.signal]));
    const { point, wireBytes, warnings, comparison } = result;
    log.info({ point: pointLabel(point), wireBytes, warnings: warnings.length }, `${what} done`);
    last = {
      state: 'done',
      pointId: point.id,
      ...(comparison === undefined ? {} : { comparison }),
      warnings: warnings.slice(0, WARNINGS_MAX).map((text) => text.slice(0, WARNING_CHARS_MAX)),
    };
  } catch (error) {
    const failure = failureOf(
      isStillpointError(error, 'cancelled') ? interrupted(order.device, signal) : error,
    );
    log.warn({ code: failure.code, thing: failure.thing, reason: failure.reason }, `${what} failed`);
    last = { state: 'failed', error: failure };
  }
  ended.abort();
  await reporting.end;
  const patienceMs = signal.aborted ? PARTING_MS : LAST_REPORT_MS;
  const limit = AbortSignal.any([AbortSignal.timeout(patienceMs), partingAfter(signal)]);
  const send = () =>
    retry(
      { ...RETRY_DEFAULT, passes: isTemporary, patienceMs, sleep: (ms) => unlessAborted(limit, sleep(ms)) },
      () => orders.reportOrder(order.orderId, last),
    );
  await unlessAborted(limit, send()).catch((error: Error) =>
    log.warn({ reason: error.message }, 'the receiver was not told of the end'),
  );
}

/** Aborted a while after the signal. */
function partingAfter(signal: AbortSignal): AbortSignal {
  const parting = new AbortController();
  const start = () => setTimeout(() => parting.abort(), PARTING_MS).unref();
  if (signal.aborted) start();
  else signal.addEventListener('abort', start, { once: true });
  return parting.signal;
}

interface Outcome {
  readonly point: Point;
  readonly wireBytes: number;
  readonly warnings: readonly string[];
  readonly comparison?: Comparison;
}

async function carryOut(
  context: OrderContext,
  progress: ProgressOfOrder,
  signal: AbortSignal,
): Promise<Outcome> {
  const { order, busyDevice, stateDirectory, openReceiver } = context;
  const [offer, ...others] = devicesOf(order).map((name) => offered(context, name));
  if (busyDevice !== null) throw busy(busyDevice);
  if (offer === undefined) throw notOffered(order.device);
  if (order.group !== undefined) {
    const devices = [offer, ...others];
    return carryOutGroup(context, { group: order.group, devices, progress }, signal);
  }
  const run = (inner: AbortSignal, onEvent: OnAgentEvent) => ({
    ...{ device: offer, stateDirectory, openReceiver, signal: inner },
    onEvent: (event: AgentEvent) => {
      progress.take(event);
      onEvent(event);
    },
  });
  const perform: Perform = context.perform ?? ((_device, _full, inner, work) => work(inner, () => undefined));
  const { full, compare } = order;
  if (compare === undefined)
    return perform(offer, full, signal, (...given) => backUpConfigured({ ...run(...given), full }));
  const compareIn = (...given: Parameters<typeof run>) =>
    withConfigured(run(...given), (settings) => compareByOrder(compare, settings));
  // It makes no point: schedules and the last backup of the device are not touched.
  if (!compare.ship) return compareIn(signal, () => undefined);
  let comparison: Comparison | undefined;
  const shipped = await perform(offer, full, signal, async (...given) => {
    const compared = await compareIn(...given);
    comparison = compared.comparison;
    const base = { start: 'compare', reason: 'a comparison was ordered' } as const;
    return { ...compared, base, tracking: null };
  });
  return comparison === undefined ? shipped : { ...shipped, comparison };
}

interface GroupWork {
  readonly group: GroupOrder;
  readonly devices: readonly DeviceSettings[];
  readonly progress: ProgressOfOrder;
}

function carryOutGroup(context: OrderContext, work: GroupWork, signal: AbortSignal): Promise<Outcome> {
  const { order, stateDirectory, openReceiver, performGroup, doubted, orders } = context;
  const { group, devices, progress } = work;
  return backUpGroupByOrder(
    {
      ...{ order, group, devices, stateDirectory, openReceiver, performGroup, doubted, steps: orders },
      onEvent: (event, device) => progress.take(event, device),
    },
    signal,
  );
}

/** @throws StillpointError `device-unknown` */
function offered({ offers }: OrderContext, name: string): DeviceSettings {
  const offer = offers.find((device) => device.name === name);
  if (offer === undefined) throw notOffered(name);
  return offer;
}

/** Sends what is current, one report after the other. */
function reportUntil(
  { order, orders, reportEveryMs = REPORT_EVERY_MS, log }: OrderContext,
  ended: AbortSignal,
  current: () => OrderProgress,
  onCancelled: () => void,
): { readonly first: Promise<string>; readonly end: Promise<void> } {
  const send = async (): Promise<string> => {
    try {
      const standing = await orders.reportOrder(order.orderId, { state: 'running', progress: current() });
      if (standing === 'cancelled') onCancelled();
      return standing;
    } catch (error) {
      log.debug({ reason: (error as Error).message }, 'a report was not taken');
      return 'open';
    }
  };
  const first = send();
  const loop = async (): Promise<void> => {
    await first;
    while (!ended.aborted) {
      await sleep(reportEveryMs, undefined, { signal: ended }).catch(() => undefined);
      if (!ended.aborted) await send();
    }
  };
  return { first, end: loop() };
}

function notOffered(device: string): StillpointError {
  return new StillpointError('device-unknown', {
    thing: `device ${device}`,
    reason: 'the agent no longer offers it',
    remedy: 'Offer it on its machine with "stillpoint agent add DEVICE --name NAME".',
  });
}

function busy(device: string): StillpointError {
  return new StillpointError('session-busy', {
    thing: `device ${device}`,
    reason: 'the agent is working on another order for it, from another receiver or from before a restart',
    remedy: 'Try again when it has ended.',
    permanent: false,
  });
}

/** Told to the receiver too, where "the command" would be another one. */
function interrupted(device: string, stop: AbortSignal): StillpointError {
  if (!stop.aborted) return cancelled(device);
  return new StillpointError('cancelled', {
    thing: `device ${device}`,
    reason: 'the agent was stopped',
    remedy: 'Start it again; blocks that had arrived are not sent again.',
  });
}

function cancelled(device: string): StillpointError {
  return new StillpointError('cancelled', { thing: `device ${device}`, reason: 'the order was cancelled' });
}
