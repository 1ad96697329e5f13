/**
 * The process that waits for orders: a loop of its own for each receiver, over connections that it makes or
 * accepts.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { unlessAborted } from '../../agent/common/cancel.js';
import { keepTracking } from '../../agent/orders/keep-tracking.js';
import { orderLoop } from '../../agent/orders/order-loop.js';
import { findEnrolment, listEnrolments, readEnrolment, saveEnrolment } from '../../agent/state/enrolment.js';
import { receiverPlace } from '../../agent/state/known-stores.js';
import { thawLeftFrozen } from '../../capture/quiesce/thaw.js';
import { makeDirectory } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { lockFile } from '../../native/files.js';
import { type Enrolment, isCaller, parseHostPort } from '../../protocol/certificates/enrolment.js';
import { type ClientOptions, receiverClient } from '../../protocol/client.js';
import { enrollOver } from '../../protocol/enroll.js';
import type { Connect } from '../../protocol/transport/connect.js';
import { provenAs, ReceiverListener } from '../../protocol/transport/listener.js';
import { measuredLink } from '../../protocol/transport/measured-link.js';
import type { ReceiverAddress } from '../../protocol/transport/transport.js';
import { EXIT_OK } from '../output/exit-codes.js';
import type { CommandContext } from './context.js';
import { keepEnrolment } from './keep-enrolment.js';
import { createLog } from './log.js';

interface WaitOptions {
  readonly store?: string;
  readonly parallel: number;
}

const KEEP_UP_MS = 6 * 60 * 60_000;

/** Questions, and reports of all that runs: none waits for another's answer, nor for a batch. */
const connectionsFor = (parallel: number): number => 1 + parallel;

export async function runAgent(context: CommandContext, { store, parallel }: WaitOptions): Promise<number> {
  const { stateDirectory } = context;
  const enrolments =
    store === undefined
      ? (await listEnrolments(stateDirectory)).filter((enrolment) => !isCaller(enrolment))
      : [await findEnrolment(stateDirectory, store)];
  if (enrolments.length === 0) {
    throw new StillpointError('not-enrolled', {
      thing: 'this machine',
      reason: 'it is not enrolled with any receiver that it can connect to',
      remedy:
        'Run "stillpoint enroll URL CODE", or "stillpoint agent listen" where only the receiver can connect.',
    });
  }
  return alone(context, async (log) => {
    const busy = new Set<string>();
    await Promise.all(enrolments.map((enrolment) => serve(context, enrolment, { parallel, busy, log })));
  });
}

export async function listenAsAgent(
  context: CommandContext,
  options: WaitOptions & { readonly listen: string; readonly enroll?: string },
): Promise<number> {
  const { stateDirectory, signal } = context;
  const { host, port } = parseHostPort(options.listen);
  const known = options.enroll === undefined ? await findEnrolment(stateDirectory, options.store) : null;
  return alone(context, async (log) => {
    const listener = await ReceiverListener.listen({
      ...{ host, port },
      prove:
        known === null
          ? () => Promise.reject(new Error('nobody is expected yet'))
          : provenAs(addressOf(known)),
      onRefused: (address, error) => log.warn({ address, reason: error.message }, 'connection refused'),
    });
    try {
      log.info({ listen: `${host}:${listener.port}` }, 'listening for the receiver');
      const enrolment = known ?? (await enrolWhenCalled(context, listener, options.enroll ?? '', log));
      listener.proveWith(provenAs(addressOf(enrolment)));
      const { parallel } = options;
      await serve(context, enrolment, { parallel, busy: new Set(), log, connect: listener.connect });
    } finally {
      await listener.close();
    }
    if (signal.aborted) log.info('listener closed');
  });
}

async function enrolWhenCalled(
  { stateDirectory, signal }: CommandContext,
  listener: ReceiverListener,
  code: string,
  log: Logger,
): Promise<Enrolment> {
  const enrolment = await unlessAborted(signal, enrollOver(listener, code, { signal }));
  await saveEnrolment(stateDirectory, enrolment);
  log.info({ agent: enrolment.agent, receiver: enrolment.receiverId }, 'enrolled');
  return enrolment;
}

/** One process of a state directory waits for orders. */
async function alone(context: CommandContext, work: (log: Logger) => Promise<void>): Promise<number> {
  const { stateDirectory, signal } = context;
  await thawLeftFrozen();
  await makeDirectory(stateDirectory);
  const lock = await lockFile(join(stateDirectory, 'agent.lock'));
  if (lock === null) {
    throw new StillpointError('busy', {
      thing: `agent in ${stateDirectory}`,
      reason: 'another process waits for orders there',
      remedy: 'Stop it first.',
      permanent: false,
    });
  }
  try {
    const log = createLog(context.logLevel, context.stdout);
    const over = new AbortController();
    const tracking = keepTracking({ stateDirectory, log, signal: AbortSignal.any([signal, over.signal]) });
    await work(log).finally(() => over.abort());
    await tracking;
    if (signal.aborted) log.info('agent stopped');
    return EXIT_OK;
  } finally {
    await lock.close();
  }
}

async function serve(
  { stateDirectory, signal }: CommandContext,
  enrolment: Enrolment,
  options: {
    readonly parallel: number;
    readonly busy: Set<string>;
    readonly log: Logger;
    readonly connect?: Connect;
  },
): Promise<void> {
  const { parallel, busy, log, connect } = options;
  let present = enrolment;
  const client = (options: ClientOptions) =>
    receiverClient(addressOf(present), { ...options, ...(connect === undefined ? {} : { connect }) });
  const orders = client({ connections: connectionsFor(parallel) });
  const keep = async () => {
    const said = (text: string) => log.info({ agent: present.agent }, text);
    const info = await orders.info().catch(() => null);
    if (info === null) return;
    const from = { stateDirectory, enrolment: present, client: orders, info, say: said };
    await keepEnrolment(from);
    present = (await readEnrolment(stateDirectory, present.receiverId)) ?? present;
  };
  const over = new AbortController();
  const keeping = keepUp(keep, AbortSignal.any([signal, over.signal]));
  const loop = orderLoop({
    ...{ stateDirectory, busy, signal, ordersMax: parallel },
    orders,
    openReceiver: (limitRate) => {
      const link = measuredLink(limitRate);
      return { receiver: client(link), meter: link.meter, place: receiverPlace(enrolment) };
    },
    log: log.child({
      agent: enrolment.agent,
      receiver: connect === undefined ? enrolment.url : enrolment.receiverId,
    }),
  });
  await loop.finally(() => over.abort());
  await keeping;
  await orders.close();
}

/** Now, and every few hours. */
async function keepUp(keep: () => Promise<void>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await keep().catch(() => undefined);
    await sleep(KEEP_UP_MS, undefined, { signal }).catch(() => undefined);
  }
}

function addressOf({ url, receiverId, authority, key, certificate }: Enrolment): ReceiverAddress {
  return { url, receiverId, authority, credentials: { key, certificate } };
}
