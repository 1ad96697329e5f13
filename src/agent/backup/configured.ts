/** A backup of a device as its configuration says: for orders, schedules and `backup --now` alike. */
import { chooseProvider } from '../../capture/choice/choose.js';
import type { SnapshotProvider } from '../../capture/ports.js';
import type { RestOptions } from '../../capture/quiesce/rest.js';
import type { DeviceSettings } from '../../config/agent-config.js';
import type { JobSettings } from '../../config/job-settings.js';
import type { LinkMeter } from '../../domain/session/link-meter.js';
import type { RateSchedule } from '../../domain/session/rate-limit.js';
import type { PointPort } from '../../protocol/port/point.js';
import type { Closable } from '../../protocol/port/receiver.js';
import type { OnAgentEvent } from '../common/events.js';
import type { StorePlace } from '../state/known-stores.js';
import { runBackup } from './backup.js';
import type { BackupOptions, BackupReceiver, BackupResult } from './options.js';

/** A receiver for one backup, and how fast the link to it is, if there is one. */
export interface OpenedReceiver {
  readonly receiver: BackupReceiver & Pick<PointPort, 'check'> & Closable;
  readonly meter?: LinkMeter | undefined;
  readonly place?: StorePlace;
}

/**
 * Over a link that is held to the limit.
 * @param device all that is sent for it is held to the limit together. Default: this alone
 */
export type OpenReceiver = (
  limitRate: RateSchedule | null,
  device?: string,
) => OpenedReceiver | Promise<OpenedReceiver>;

export interface ConfiguredRun {
  readonly device: DeviceSettings;
  readonly stateDirectory: string;
  /** Closed at the end. */
  readonly openReceiver: OpenReceiver;
  readonly signal: AbortSignal;
  readonly onEvent: OnAgentEvent;
}

export interface ConfiguredBackup extends ConfiguredRun {
  readonly full: boolean;
}

export interface ConfiguredSettings extends BackupOptions {
  readonly receiver: OpenedReceiver['receiver'];
  readonly provider: SnapshotProvider;
  readonly signal: AbortSignal;
}

export function backUpConfigured({ full, ...options }: ConfiguredBackup): Promise<BackupResult> {
  return withConfigured(options, (settings) => runBackup({ ...settings, full }));
}

/** What is to be done with the device, as its configuration says, by the receiver that was opened for it. */
export async function withConfigured<T>(
  options: ConfiguredRun,
  work: (settings: ConfiguredSettings) => Promise<T>,
): Promise<T> {
  const { device, stateDirectory, openReceiver, signal, onEvent } = options;
  const { path, name, blockSize, compressionLevel, patch, fuzzy } = device;
  const { provider, note } = await chooseProvider({
    stateDirectory,
    path,
    wanted: device.provider ?? undefined,
    fuzzy,
    rest: restOf(device),
  });
  if (note !== null) onEvent({ type: 'notice', text: note });
  const { receiver, meter, place } = await openReceiver(device.limitRate, device.name);
  try {
    return await work({
      ...{ receiver, meter, place, path, device: name, stateDirectory, signal, provider },
      ...{ compressionLevel, patch, fuzzy, onEvent, exclusion: device.exclusion },
      blockSize: blockSize ?? undefined,
    });
  } finally {
    await receiver.close();
  }
}

/** @param settings of a device or a group */
export function restOf(settings: JobSettings & { readonly name: string }): RestOptions {
  const { name, hooks, freeze, quiet, freezeDeadlineMs, hookDeadlineMs, announce } = settings;
  return {
    ...{ name, hooks, freeze, quiet: quiet ?? undefined },
    freezeDeadlineMs: freezeDeadlineMs ?? undefined,
    hookDeadlineMs: hookDeadlineMs ?? undefined,
    announce: announce ?? undefined,
  };
}
