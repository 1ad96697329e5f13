/** What a backup of several devices with one instant is given, and what it results in. */

import type { InstantLeader } from '../../capture/leader.js';
import type { RestOptions } from '../../capture/quiesce/rest.js';
import type { ProviderName } from '../../domain/device/provider-names.js';
import type { GroupReport } from '../../domain/group/steps.js';
import type { GroupCommit } from '../../domain/point/group.js';
import type { ConsistencyKind, PointGroup } from '../../domain/point/point.js';
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
  /** Other hosts have a part in the group, too: then `missing` is `fail`. Undefined: these are all. */
  readonly leader?: GroupLeader | undefined;
  /** The next backup has to read all of it: this one found out too late for another instant. */
  readonly onDoubt?: (device: string) => void;
}

/** Who leads a group over several hosts, as one of them sees it. */
export interface GroupLeader extends InstantLeader {
  /** There is an instant: another one is not possible any more. */
  readonly hasCut: boolean;
  /**
   * All sessions here have arrived. Resolves when those of the other hosts have, too.
   * @throws StillpointError `group-failed`: they don't
   */
  transferred(facts: Transferred): Promise<CommonCommit>;
}

export type Transferred = Omit<Extract<GroupReport, { state: 'transferred' }>, 'state'>;

/** What all sessions of all hosts commit with. */
export interface CommonCommit {
  readonly kind: ConsistencyKind;
  readonly group: GroupCommit;
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
