/** What a daemon is given. */
import type { Logger } from 'pino';
import type { ConfiguredDevice } from '../../config/agent-config.js';
import type { GroupSettings } from '../../config/groups.js';
import type { BackupResult } from '../backup/options.js';
import type { AgentEvent } from '../common/events.js';
import type { GroupBackupResult } from '../group/options.js';
import type { Job } from './jobs.js';
import type { Matches } from './matches.js';

/** Of a device by itself, or of a group. */
export type JobResult = BackupResult | GroupBackupResult;

/** @param device of a group: whose event it is; undefined: of all */
export type OnJobEvent = (event: AgentEvent, device?: string) => void;

export interface DaemonConfig {
  readonly parallel: number;
  readonly devices: readonly ConfiguredDevice[];
  readonly groups: readonly GroupSettings[];
  /** What else follows from it. It is done once the configuration is known to be whole. */
  readonly apply?: () => Promise<void>;
}

export interface DaemonOptions {
  readonly stateDirectory: string;
  /** @throws StillpointError `config` */
  readonly load: () => Promise<DaemonConfig>;
  readonly backUp: (
    job: Job,
    options: { readonly full: boolean; readonly signal: AbortSignal; readonly onEvent: OnJobEvent },
  ) => Promise<JobResult>;
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
export type Work<T extends JobResult> = (signal: AbortSignal, onEvent: OnJobEvent) => Promise<T>;
