/** What a daemon is made of. */
import type { Logger } from 'pino';
import type { ConfiguredDevice, DeviceSettings } from '../../config/agent-config.js';
import type { BackupResult } from '../backup/options.js';
import type { OnAgentEvent } from '../common/events.js';

export interface DaemonConfig {
  readonly parallel: number;
  readonly devices: readonly ConfiguredDevice[];
}

export interface DaemonOptions {
  readonly stateDirectory: string;
  /** @throws StillpointError `config` */
  readonly load: () => Promise<DaemonConfig>;
  readonly backUp: (
    device: DeviceSettings,
    options: { readonly full: boolean; readonly signal: AbortSignal; readonly onEvent: OnAgentEvent },
  ) => Promise<BackupResult>;
  readonly isThere: (path: string) => Promise<boolean>;
  readonly log: Logger;
  /** The wall clock: it may be set. */
  readonly nowMs: () => number;
  readonly random: () => number;
  readonly tickMs?: number;
  /** Aborted: what runs is parked, and `run` ends. */
  readonly signal: AbortSignal;
}

/** A backup, however it was begun. */
export type Work = (signal: AbortSignal, onEvent: OnAgentEvent) => Promise<BackupResult>;
