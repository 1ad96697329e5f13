/** Where the agent's backups go: an enrolled receiver, or a store in a directory. */
import type { Logger } from 'pino';
import { backUpConfigured, type OpenedReceiver, type OpenReceiver } from '../../agent/backup/configured.js';
import type { Job } from '../../agent/daemon/jobs.js';
import type { JobResult, OnJobEvent } from '../../agent/daemon/options.js';
import { backUpConfiguredGroup } from '../../agent/group/configured.js';
import { findEnrolment } from '../../agent/state/enrolment.js';
import { receiverPlace } from '../../agent/state/known-stores.js';
import type { JobSettings } from '../../config/job-settings.js';
import { formatRateLimit, type RateSchedule } from '../../domain/session/rate-limit.js';
import type { Enrolment } from '../../protocol/certificates/enrolment.js';
import { type ClientOptions, type ReceiverClient, receiverClient } from '../../protocol/client.js';
import type { Connect } from '../../protocol/transport/connect.js';
import { measuredLink, pacerOf } from '../../protocol/transport/measured-link.js';
import type { Pacer } from '../../protocol/transport/pacer.js';
import type { ReceiverAddress } from '../../protocol/transport/transport.js';
import type { CommandContext } from './context.js';

/** Questions, and reports of all that runs: none waits for another's answer, nor for a batch. */
const connectionsFor = (parallel: number): number => 1 + parallel;

export function addressOf({ url, receiverId, authority, key, certificate }: Enrolment): ReceiverAddress {
  return { url, receiverId, authority, credentials: { key, certificate } };
}

function client(enrolment: Enrolment, options: ClientOptions, connect: Connect | undefined) {
  return receiverClient(addressOf(enrolment), { ...options, ...(connect === undefined ? {} : { connect }) });
}

export function orderClient(enrolment: Enrolment, parallel: number, connect: Connect | undefined) {
  return client(enrolment, { connections: connectionsFor(parallel) }, connect);
}

export function receiverOf(
  enrolment: Enrolment,
  limitRate: RateSchedule | null,
  connect: Connect | undefined,
  pacer?: Pacer,
): OpenedReceiver {
  const link = measuredLink(limitRate, pacer);
  return { receiver: client(enrolment, link, connect), meter: link.meter, place: receiverPlace(enrolment) };
}

/** One message at a time. */
export function journalReceiverOf(
  enrolment: Enrolment,
  connect: Connect | undefined,
  pacer: Pacer | undefined,
): ReceiverClient {
  return client(enrolment, { connections: 1, pacer }, connect);
}

/** All that goes over the link for one device, its session and its journal, is held to its rate together. */
export class DevicePacers {
  readonly #pacers = new Map<string, { readonly rate: string; readonly pacer: Pacer | undefined }>();

  /** Undefined: no limit. */
  of(device: string, limitRate: RateSchedule | null): Pacer | undefined {
    const rate = limitRate === null ? '' : formatRateLimit(limitRate);
    const known = this.#pacers.get(device);
    if (known?.rate === rate) return known.pacer;
    const pacer = pacerOf(limitRate);
    this.#pacers.set(device, { rate, pacer });
    return pacer;
  }
}

/** A receiver that this process asks for orders. */
export interface Reached {
  readonly enrolment: Enrolment;
  readonly connect?: Connect;
}

interface JobOptions {
  readonly full: boolean;
  readonly signal: AbortSignal;
  readonly onEvent: OnJobEvent;
}

/** A backup that no receiver has ordered. */
export function backUpJob(
  context: CommandContext,
  job: Job,
  { full, signal, onEvent }: JobOptions,
  { reached, pacers }: { readonly reached: readonly Reached[]; readonly pacers: DevicePacers },
  log: Logger,
): Promise<JobResult> {
  const { stateDirectory } = context;
  const openReceiver = openerOf(context, job.group ?? job.devices[0], { reached, pacers, signal, log });
  const common = { stateDirectory, full, signal, openReceiver };
  if (job.group === null) return backUpConfigured({ ...common, device: job.devices[0], onEvent });
  const { group, devices } = job;
  return backUpConfiguredGroup({
    ...{ ...common, group, devices },
    onEvent: (device, event) => onEvent(event, device ?? undefined),
  });
}

function openerOf(
  context: CommandContext,
  { store, receiver }: Pick<JobSettings, 'store' | 'receiver'>,
  {
    reached,
    pacers,
    signal,
    log,
  }: {
    readonly reached: readonly Reached[];
    readonly pacers: DevicePacers;
    readonly signal: AbortSignal;
    readonly log: Logger;
  },
): OpenReceiver {
  return async (limitRate, device) => {
    if (store !== null) return openStoreOf(context, store, signal, log);
    const enrolment = await findEnrolment(context.stateDirectory, receiver ?? undefined);
    const known = reached.find((each) => each.enrolment.receiverId === enrolment.receiverId);
    const pacer = device === undefined ? undefined : pacers.of(device, limitRate);
    return receiverOf(enrolment, limitRate, known?.connect, pacer);
  };
}

async function openStoreOf(
  { stateDirectory }: CommandContext,
  store: string,
  signal: AbortSignal,
  log: Logger,
): Promise<OpenedReceiver> {
  const { openEmbeddedReceiver } = await import('../../receiver/embedded.js');
  const { openStoreInTurnWithLog } = await import('./open-store.js');
  const { placeToFill } = await import('./store-place.js');
  const place = await placeToFill(stateDirectory, store, {});
  const receiver = await openEmbeddedReceiver(store, {
    openStore: (directory) => openStoreInTurnWithLog(directory, log, signal),
  });
  return { receiver, place };
}
