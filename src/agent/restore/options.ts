/** What a restore is told, and what it gives. */
import type { Writable } from 'node:stream';
import type { Moment } from '../../domain/moment/moments.js';
import type { Point } from '../../domain/point/point.js';
import type { LinkMeter } from '../../domain/session/link-meter.js';
import type { BlockSource, TreeSource } from '../../protocol/port/point.js';
import type { OnAgentEvent } from '../common/events.js';
import type { DamageSource, LostRange } from './lost-blocks.js';
import type { RecordSource, RestoredMoment } from './moment-records.js';

/** What a restore asks a receiver for. */
export type RestoreReceiver = TreeSource & BlockSource & DamageSource & RecordSource;

export interface RestoreOptions {
  readonly receiver: RestoreReceiver;
  /** Of the link to it; undefined: there is none, it is in this process. */
  readonly meter?: LinkMeter | undefined;
  readonly point: Point;
  /** What was written after the point, its base, comes over it. Undefined: the point is all. */
  readonly moment?: Moment | undefined;
  /** Block device, image file, or `-` for `output`. */
  readonly target: string;
  /** Where `-` goes. Default: standard output. It is not ended. */
  readonly output?: Writable | undefined;
  /** Null: there is none, and scratch files go to the temporary directory. */
  readonly stateDirectory: string | null;
  /** Of the receiver's store, where it is a directory of this machine: no target lies in it, or below it. */
  readonly storeDirectory?: string | undefined;
  /** Replace an image file that is not empty. */
  readonly overwrite?: boolean | undefined;
  /** Write although the target is mounted or open. */
  readonly allowInUse?: boolean | undefined;
  /** Write to a block device of another logical sector size than the point's. */
  readonly allowSectorSize?: boolean | undefined;
  /** Write everything, without looking at what the target holds. */
  readonly rewrite?: boolean | undefined;
  /** Write zeros where the point leaves something out. Default: the target keeps what it has there. */
  readonly zeroExcluded?: boolean | undefined;
  /** Read the target back and compare it with the point; of a moment, before its records are written. */
  readonly verify?: boolean | undefined;
  /** Write zeros for what the receiver can't give, and name it, instead of failing. */
  readonly skipBad?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: OnAgentEvent | undefined;
}

export interface RestoreResult {
  /** Raw bytes fetched and written, zeros not counted. */
  readonly writtenBytes: number;
  /** Of the target, to find what differs. */
  readonly readBytes: number;
  /** Bytes of blocks that the target did not hold; null: everything was written, without looking. */
  readonly differingBytes: number | null;
  readonly wireBytes: number;
  readonly isVerified: boolean;
  /**
   * What the receiver could not give, and the target has zeros for: it is not the point. Ascending, apart.
   */
  readonly lostRanges: readonly LostRange[];
  /** Missing: the target is the point. */
  readonly moment?: RestoredMoment;
  readonly warnings: readonly string[];
}

/** What a restore that failed, or did not begin, has left of its target. A new image is left out again. */
export type TargetState = 'untouched' | 'half-restored' | 'restored';

/** A restore whose target is open, looked at, and kept from others. Nothing is written yet. */
export interface PreparedRestore {
  readonly target: TargetState;
  /** To an image file. */
  readonly isToFile: boolean;
  /** Writes. Once. */
  perform(): Promise<RestoreResult>;
  close(): Promise<void>;
}
