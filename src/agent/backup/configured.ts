/** A backup of a device as its configuration says: for orders, schedules and `backup --now` alike. */
import { chooseProvider } from '../../capture/choice/choose.js';
import type { DeviceSettings } from '../../config/agent-config.js';
import type { LinkMeter } from '../../domain/session/link-meter.js';
import type { RateSchedule } from '../../domain/session/rate-limit.js';
import type { Closable } from '../../protocol/port/receiver.js';
import type { OnAgentEvent } from '../common/events.js';
import type { StorePlace } from '../state/known-stores.js';
import { runBackup } from './backup.js';
import type { BackupReceiver, BackupResult } from './options.js';

/** A receiver for one backup, and how fast the link to it is, if there is one. */
export interface OpenedReceiver {
  readonly receiver: BackupReceiver & Closable;
  readonly meter?: LinkMeter | undefined;
  readonly place?: StorePlace;
}

/** Over a link that is held to the limit. */
export type OpenReceiver = (limitRate: RateSchedule | null) => OpenedReceiver | Promise<OpenedReceiver>;

export interface ConfiguredBackup {
  readonly device: DeviceSettings;
  readonly stateDirectory: string;
  /** Closed at the end. */
  readonly openReceiver: OpenReceiver;
  readonly full: boolean;
  readonly signal: AbortSignal;
  readonly onEvent: OnAgentEvent;
}

export async function backUpConfigured(options: ConfiguredBackup): Promise<BackupResult> {
  const { device, stateDirectory, openReceiver, full, signal, onEvent } = options;
  const { path, name, blockSize, compressionLevel, patch, fuzzy } = device;
  const { provider, note } = await chooseProvider({
    stateDirectory,
    path,
    wanted: device.provider ?? undefined,
    fuzzy,
    rest: {
      ...{ name, hooks: device.hooks, freeze: device.freeze, quiet: device.quiet ?? undefined },
      freezeDeadlineMs: device.freezeDeadlineMs ?? undefined,
      hookDeadlineMs: device.hookDeadlineMs ?? undefined,
    },
  });
  if (note !== null) onEvent({ type: 'notice', text: note });
  const { receiver, meter, place } = await openReceiver(device.limitRate);
  try {
    return await runBackup({
      ...{ receiver, meter, place, path, device: name, stateDirectory, signal, provider },
      ...{ compressionLevel, patch, fuzzy, full, onEvent },
      blockSize: blockSize ?? undefined,
    });
  } finally {
    await receiver.close();
  }
}
