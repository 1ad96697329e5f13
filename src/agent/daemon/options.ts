/** What a daemon is given. */
import type { Logger } from 'pino';
import type { ConfiguredDevice, DeviceSettings } from '../../config/agent-config.js';
import type { BackupResult } from '../backup/options.js';
import type { OnAgentEvent } from '../common/events.js';
import type { Matches } from './matches.js';

export interface DaemonConfig {
  readonly parallel: number;
  readonly devices: readonly ConfiguredDevice[];
  /** What else follows from it. It is done once the configuration is known to be whole. */
  readonly apply?: () => Promise<void>;
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
  /** For tests. */
  readonly matches?: Matches;
  readonly log: Logger;
  /** The wall clock: it may be set. */
  readonly nowMs: () => number;
  readonly random: () => number;
  readonly tickMs?: number;
  /** Aborted: what runs is parked, and `run` ends. */
  readonly signal: AbortSignal;
}

/** A backup that is made beside others. */
export type Work = (signal: AbortSignal, onEvent: OnAgentEvent) => Promise<BackupResult>;
