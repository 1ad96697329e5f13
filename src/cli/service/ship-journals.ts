/** What the agent's process puts together to ship the journals of its taps. */
import type { Logger } from 'pino';
import { Slots } from '../../agent/common/slots.js';
import type { Daemon } from '../../agent/daemon/daemon.js';
import { JournalService, type TargetChoice } from '../../agent/journal/service.js';
import type { JournaledTap } from '../../agent/journal/tap-journals.js';
import { findEnrolment, readEnrolment } from '../../agent/state/enrolment.js';
import type { DeviceSettings } from '../../config/agent-config.js';
import { isStillpointError } from '../../domain/base/errors.js';
import { formatRateLimit } from '../../domain/session/rate-limit.js';
import type { Counters } from '../../monitor/metrics/table.js';
import { native } from '../../native/index.js';
import { connectTap } from '../../tap/control/client.js';
import { listTaps, type RegisteredTap } from '../../tap/registry/registry.js';
import { type DevicePacers, journalReceiverOf, type Reached } from '../common/agent-targets.js';
import type { CommandContext } from '../common/context.js';

/** Of up to 8 MiB, for each receiver. */
const MESSAGES_IN_MEMORY = 2;

interface ShippingOptions {
  readonly context: CommandContext;
  readonly daemon: Daemon;
  /** Receivers that this process reaches already. */
  readonly reached: () => readonly Reached[];
  readonly pacers: DevicePacers;
  readonly log: Logger;
  readonly counters: Counters;
  readonly signal: AbortSignal;
}

export function shipJournals(options: ShippingOptions): JournalService {
  const { context, daemon, log, counters, signal } = options;
  const slots = new Map<string, Slots>();
  return new JournalService({
    ...{ log, counters, signal },
    devices: () => daemon.devices,
    listTaps: () => listTaps(context.stateDirectory),
    journalOf,
    targetOf: (device) => targetOf(options, device, slots),
    readHead: (path) => native.readJournalHead(path),
    scan: (records, scanned) => native.scanJournal(records, scanned),
    connect: connectTap,
    now: () => performance.now(),
    wallMs: Date.now,
    random: Math.random,
  });
}

function journalOf({ settings, controlPath, headDirectory }: RegisteredTap): JournaledTap | null {
  const { name, journal } = settings;
  return journal === null ? null : { name, directory: journal.directory, headDirectory, controlPath };
}

async function targetOf(
  { context, reached, pacers }: ShippingOptions,
  { name, store, receiver, limitRate }: DeviceSettings,
  slots: Map<string, Slots>,
): Promise<TargetChoice> {
  const { stateDirectory } = context;
  if (store !== null) return { problem: STORE };
  const enrolment = await findEnrolment(stateDirectory, receiver ?? undefined).catch((error: unknown) => {
    if (isStillpointError(error)) return error.reason;
    throw error;
  });
  if (typeof enrolment === 'string') return { problem: enrolment };
  const { receiverId, url } = enrolment;
  const known = reached().find((each) => each.enrolment.receiverId === receiverId);
  const shared = slots.get(receiverId) ?? new Slots(MESSAGES_IN_MEMORY);
  slots.set(receiverId, shared);
  const rate = limitRate === null ? '' : formatRateLimit(limitRate);
  return {
    ...{ device: name, receiverId, slots: shared },
    receiver: known?.connect === undefined ? url : receiverId,
    key: JSON.stringify([receiverId, url, name, rate, known?.connect === undefined]),
    open: async () => {
      const present = (await readEnrolment(stateDirectory, receiverId)) ?? enrolment;
      return journalReceiverOf(present, known?.connect, pacers.of(name, limitRate));
    },
  };
}

const STORE =
  'its backups go to a store in a directory, which is locked by whoever writes to it; journals need a receiver';
