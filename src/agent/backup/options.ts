/** The options of a backup, and its result. */
import type { SnapshotProvider } from '../../capture/ports.js';
import type { BlockSet } from '../../domain/blocks/block-set.js';
import type { Point } from '../../domain/point/point.js';
import type { LinkMeter } from '../../domain/session/link-meter.js';
import type { PatchMode } from '../../domain/session/patching.js';
import type { BasePlan } from '../../domain/session/plan.js';
import type { BlockSource, PointPort, TreeSource } from '../../protocol/port/point.js';
import type { SessionPort } from '../../protocol/port/session.js';
import type { OnAgentEvent } from '../common/events.js';
import type { StorePlace } from '../state/known-stores.js';

/** What a backup asks a receiver for. */
export type BackupReceiver = SessionPort &
  TreeSource &
  BlockSource &
  Pick<PointPort, 'points' | 'removedPoint'>;

export interface BackupOptions {
  readonly receiver: BackupReceiver;
  /** Of the link to it; undefined: there is none, it is in this process. */
  readonly meter?: LinkMeter | undefined;
  /** Block device or image file. */
  readonly path: string;
  /** The name that its points go under. */
  readonly device: string;
  readonly stateDirectory: string;
  /** Where the receiver's store is: another store there is refused. Undefined: it is not looked at. */
  readonly place?: StorePlace | undefined;
  /** Go on although the store is another one there, or has lost points that were acknowledged. */
  readonly acceptStore?: boolean | undefined;
  /**
   * In bytes. Default: that of the device's last point, else 64 KiB. Another than the last
   * point's starts a new chain.
   */
  readonly blockSize?: number | undefined;
  /** Go on where no single instant can be had; the point is labelled so. */
  readonly fuzzy?: boolean | undefined;
  /** Go on although the device is not the one that the last point is of. */
  readonly acceptIdentity?: boolean | undefined;
  /** Go on although the device carries the mark of a restore that did not end. */
  readonly acceptHalfRestored?: boolean | undefined;
  /** zstd level, 0 for none. Default: as the link asks for; 1 where it is fast, or there is none. */
  readonly compressionLevel?: number | 'auto' | undefined;
  /** Send patches of blocks that changed only a little. Default auto: if that pays. */
  readonly patch?: PatchMode | undefined;
  readonly provider?: SnapshotProvider | undefined;
  /** Read everything, although the provider may know what changed. */
  readonly full?: boolean | undefined;
  /** Believe neither map nor local tree: compare digests with the last point. */
  readonly compare?: boolean | undefined;
  /** What a comparison found, of the last point's block size. */
  readonly onCompared?: ((differing: BlockSet) => void) | undefined;
  /** How long a session waits for a receiver that does not answer. Default 10 minutes. */
  readonly patienceMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: OnAgentEvent | undefined;
}

export interface BackupResult {
  readonly point: Point;
  /** As in the point, and what went wrong after its commit. */
  readonly warnings: readonly string[];
  /** All request and answer bodies of the session. */
  readonly wireBytes: number;
  /** Which base was used, and why. */
  readonly base: BasePlan;
  /** Null where the provider knows nothing of changes. */
  readonly tracking: { readonly used: boolean; readonly reason: string } | null;
}
