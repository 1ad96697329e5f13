/** What a backup of several devices with one instant is given, and what it results in. */

import type { RestOptions } from '../../capture/quiesce/rest.js';
import type { ProviderName } from '../../domain/device/provider-names.js';
import type { PointGroup } from '../../domain/point/point.js';
import type { BackupOptions, BackupResult } from '../backup/options.js';
import type { AgentEvent } from '../common/events.js';

/** How one device of the group is backed up. */
export interface GroupMember
  extends Pick<
    BackupOptions,
    | 'path'
    | 'device'
    | 'blockSize'
    | 'compressionLevel'
    | 'patch'
    | 'exclusion'
    | 'acceptIdentity'
    | 'acceptHalfRestored'
    | 'full'
  > {
  /** Undefined: the best that can take it. */
  readonly provider?: ProviderName | undefined;
}

export interface GroupBackupOptions
  extends Pick<
    BackupOptions,
    'receiver' | 'meter' | 'place' | 'acceptStore' | 'stateDirectory' | 'signal' | 'patienceMs'
  > {
  /** Of the group; `rest.name` is the same. */
  readonly name: string;
  readonly members: readonly GroupMember[];
  /** Hooks, freezing, quiet: of the one instant of all. */
  readonly rest: RestOptions;
  /** What becomes of the backup if a member can't take part: it fails, or goes on without. */
  readonly missing: 'fail' | 'leave-out';
  /** @param device the name of the member; null: of the group as a whole */
  readonly onEvent?: (device: string | null, event: AgentEvent) => void;
}

export interface LeftOutMember {
  readonly device: string;
  readonly error: Error;
}

export interface GroupBackupResult {
  /** As the points name it. */
  readonly group: PointGroup;
  /** Of the members that took part, in their order. */
  readonly results: readonly BackupResult[];
  readonly leftOut: readonly LeftOutMember[];
}
