/** What one session has of a volume. */
import type { FileHandle } from 'node:fs/promises';
import type { HoldOptions } from '../../ports.js';
import type { LvmHost } from './host.js';
import type { Inherited, Room } from './snapshots.js';
import type { VolumeState } from './volumes.js';

export interface LvmSource {
  readonly host: LvmHost;
  readonly path: string;
  /** In [0, 1), for the sample. */
  readonly random?: (() => number) | undefined;
}

/** Of one session. */
export interface Held {
  readonly source: LvmSource;
  readonly uuid: { readonly group: string; readonly volume: string };
  readonly state: VolumeState;
  readonly room: Room;
  readonly inherited: Inherited;
  readonly options: HoldOptions;
  readonly lock: FileHandle;
}

/** Snapshots of thick volumes slow every write down, so they are kept only where their owner asked for it. */
export const mayKeep = ({ volume, policy }: VolumeState): boolean => policy.keeps ?? volume.thin !== null;
