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
import {
  type AgentOrder,
  ORDER_PHASES,
  type OrderProgress,
  type OrderReport,
} from '../../domain/order/order.js';
import { pointLabel } from '../../domain/point/point.js';
import type { OrderPort } from '../../protocol/port/order.js';
import { RETRY_DEFAULT } from '../../protocol/retry.js';
import { backUpConfigured, type OpenReceiver } from '../backup/configured.js';
import type { BackupResult } from '../backup/options.js';
import { unlessAborted } from '../common/cancel.js';
import type { AgentEvent, OnAgentEvent } from '../common/events.js';
import { failureOf } from '../common/failure.js';

/** Carries out a backup beside those that are begun otherwise. @throws StillpointError `session-busy` */
export type Perform = (
  device: DeviceSettings,
  full: boolean,
  signal: AbortSignal,
  work: (signal: AbortSignal, onEvent: OnAgentEvent) => Promise<BackupResult>,
) => Promise<BackupResult>;

export interface OrderContext {
  readonly order: AgentOrder;
  /** Null: no such device is offered (any more). */
  readonly offer: DeviceSettings | null;
  /** Another order works on the device. */
  readonly isBusy: boolean;
  readonly stateDirectory: string;
  /** For reports. */
  readonly orders: Pick<OrderPort, 'reportOrder'>;
  /** For the backup, closed at its end. */
  readonly openReceiver: OpenReceiver;
  /** Default: at once. */
  readonly perform?: Perform;
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
  const log = context.log.child({ device: order.device, order: order.orderId.slice(0, 12) });
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
    log.info({ full: order.full }, 'backup begins');
    const result = await backUp(context, progress, AbortSignal.any([signal, cancel.signal]));
    const { point, wireBytes, warnings } = result;
    log.info({ point: pointLabel(point), wireBytes, warnings: warnings.length }, 'backup done');
    last = {
      state: 'done',
      pointId: point.id,
      warnings: warnings.slice(0, WARNINGS_MAX).map((text) => text.slice(0, WARNING_CHARS_MAX)),
    };
  } catch (error) {
    const failure = failureOf(
      isStillpointError(error, 'cancelled') ? interrupted(order.device, signal) : error,
    );
    log.warn({ code: failure.code, thing: failure.thing, reason: failure.reason }, 'backup failed');
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

async function backUp(
  context: OrderContext,
  progress: ProgressOfOrder,
  signal: AbortSignal,
): Promise<BackupResult> {
  const { order, offer, isBusy, stateDirectory, openReceiver } = context;
  if (offer === null) throw notOffered(order.device);
  if (isBusy) throw busy(order.device);
  const work = (inner: AbortSignal, onEvent: OnAgentEvent) =>
    backUpConfigured({
      ...{ device: offer, stateDirectory, openReceiver, full: order.full, signal: inner },
      onEvent: (event) => {
        progress.take(event);
        onEvent(event);
      },
    });
  return context.perform === undefined
    ? work(signal, () => undefined)
    : context.perform(offer, order.full, signal, work);
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

class ProgressOfOrder {
  readonly #log: Logger;
  current: OrderProgress = { phase: 'snapshot', doneBytes: 0, totalBytes: 0, changedBytes: 0, wireBytes: 0 };

  constructor(log: Logger) {
    this.#log = log;
  }

  take(event: AgentEvent): void {
    if (event.type === 'notice') this.#log.info(event.text);
    else if (event.type === 'warning') this.#log.warn(event.text);
    else if (event.type === 'phase') {
      const phase = ORDER_PHASES.find((known) => known === event.phase);
      if (phase !== undefined) this.current = { ...this.current, phase };
    } else if (event.type === 'progress') {
      const { doneBytes, totalBytes, changedBytes = 0, wireBytes } = event;
      this.current = { ...this.current, doneBytes, totalBytes, changedBytes, wireBytes };
    }
  }
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
