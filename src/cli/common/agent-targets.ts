/** Where the agent's backups go: an enrolled receiver, or a store in a directory. */
import type { Logger } from 'pino';
import { backUpConfigured, type OpenedReceiver } from '../../agent/backup/configured.js';
import type { BackupResult } from '../../agent/backup/options.js';
import type { OnAgentEvent } from '../../agent/common/events.js';
import { findEnrolment } from '../../agent/state/enrolment.js';
import { receiverPlace } from '../../agent/state/known-stores.js';
import type { DeviceSettings } from '../../config/agent-config.js';
import type { RateSchedule } from '../../domain/session/rate-limit.js';
import type { Enrolment } from '../../protocol/certificates/enrolment.js';
import { type ClientOptions, receiverClient } from '../../protocol/client.js';
import type { Connect } from '../../protocol/transport/connect.js';
import { measuredLink } from '../../protocol/transport/measured-link.js';
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
): OpenedReceiver {
  const link = measuredLink(limitRate);
  return { receiver: client(enrolment, link, connect), meter: link.meter, place: receiverPlace(enrolment) };
}

interface Reached {
  readonly enrolment: Enrolment;
  readonly connect?: Connect;
}

type BackUp = (
  device: DeviceSettings,
  stateDirectory: string,
  options: { readonly full: boolean; readonly signal: AbortSignal; readonly onEvent: OnAgentEvent },
) => Promise<BackupResult>;

/** For a backup that no receiver has ordered. @param reached receivers that this process reaches already */
export function targetOf(
  context: CommandContext,
  { store, receiver }: DeviceSettings,
  reached: readonly Reached[],
  log: Logger,
): BackUp {
  return (device, stateDirectory, options) =>
    backUpConfigured({
      ...{ device, stateDirectory, ...options },
      openReceiver: async (limitRate) => {
        if (store !== null) return openStoreOf(context, store, options.signal, log);
        const enrolment = await findEnrolment(stateDirectory, receiver ?? undefined);
        const known = reached.find((each) => each.enrolment.receiverId === enrolment.receiverId);
        return receiverOf(enrolment, limitRate, known?.connect);
      },
    });
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
