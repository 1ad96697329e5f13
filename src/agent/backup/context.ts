/**
 * What the steps of one session share: its plan, its static view, and what it has found out so far.
 *
 * State: warnings and scanned bytes only grow; the counter counts all bodies of the session, whichever part
 * sends them.
 */
import type { Snapshot } from '../../capture/ports.js';
import { type Geometry, geometry } from '../../domain/blocks/geometry.js';
import type { Point } from '../../domain/point/point.js';
import type { BeginAnswer, CommitRequest } from '../../domain/session/messages.js';
import type { BasePlan, SessionPlan } from '../../domain/session/plan.js';
import type { Scan } from '../../native/index.js';
import { BodyCounter } from '../../protocol/port/body-counter.js';
import { everyInterval, type OnAgentEvent } from '../common/events.js';
import type { SessionLink } from '../send/session-link.js';
import type { DeviceState } from '../state/device-state.js';
import type { KeptSession } from '../state/kept-session.js';
import type { LeftOut } from './exclusion.js';
import type { BackupOptions, BackupReceiver } from './options.js';

/** Of one backup, for all of its attempts. */
export interface Backup {
  readonly options: BackupOptions;
  readonly state: DeviceState;
  /** For questions that belong to no session: asked again while the link is down. */
  readonly receiver: Pick<BackupReceiver, 'points' | 'removedPoint' | 'status'>;
  readonly signal: AbortSignal;
  readonly onEvent: OnAgentEvent;
  /** Of a device that is backed up together with others. */
  readonly together?: Together | undefined;
}

/** The session of a group, once all of it is durable at the receiver, and its view is proven. */
export type TransferredFacts = Pick<CommitRequest, 'kind' | 'instant'> & { readonly sessionId: string };

/** The same of all sessions of the group. */
export interface CommonFacts extends Required<Pick<CommitRequest, 'kind' | 'instant' | 'group'>> {
  /** For the points. */
  readonly warnings: readonly string[];
}

export interface Together {
  /**
   * Resolves when the others have come as far: then all commit at the same time.
   * @throws StillpointError `group-failed`: they don't
   */
  transferred(facts: TransferredFacts): Promise<CommonFacts>;
}

/** What the attempts of a backup have found out, for those that follow. */
export interface Findings {
  /** The device's last point. */
  readonly last: Point | null;
  /** What went wrong before, and was accepted. */
  readonly accepted: readonly string[];
  /**
   * Why an earlier attempt did not believe what was known of changes, a clause; null: none has doubted it.
   */
  readonly doubt: string | null;
  /** Patches did not give the blocks that they name. */
  readonly sendsWholeBlocks: boolean;
}

/** The session and its instant. */
export interface SessionName {
  readonly sessionId: string;
  readonly instant: string;
  /** The provider's name. */
  readonly provider: string;
  /** An earlier process began it, over the same view. */
  readonly isResumed: boolean;
  /** What a later process would need to go on with it; null: the view ends with this one. */
  readonly kept: KeptSession | null;
}

export interface SessionParts {
  readonly backup: Backup;
  readonly findings: Findings;
  readonly plan: SessionPlan;
  readonly view: Snapshot;
  readonly name: SessionName;
  /** Null: nothing. */
  readonly leftOut: LeftOut | null;
}

/** A session that the receiver has begun. */
export interface BegunSession {
  readonly link: SessionLink;
  readonly answer: BeginAnswer;
  /** Of its blocks, as the receiver has settled it. */
  readonly base: BasePlan;
}

export class SessionContext implements SessionParts {
  readonly backup: Backup;
  readonly findings: Findings;
  readonly plan: SessionPlan;
  readonly view: Snapshot;
  readonly name: SessionName;
  readonly leftOut: LeftOut | null;
  /** Of the view. */
  readonly size: Geometry;
  readonly wire = new BodyCounter();
  /** All that goes over it is counted. */
  readonly receiver: Omit<BackupReceiver, 'info' | 'points' | 'removedPoint'>;
  readonly warnings: string[] = [];
  readonly startMs = performance.now();
  scannedBytes = 0;

  constructor({ backup, findings, plan, view, name, leftOut }: SessionParts) {
    this.backup = backup;
    this.findings = findings;
    this.plan = plan;
    this.view = view;
    this.name = name;
    this.leftOut = leftOut;
    this.size = geometry(view.device.sizeBytes, plan.blockSize);
    this.receiver = this.wire.count(backup.options.receiver);
  }

  get options(): BackupOptions {
    return this.backup.options;
  }
  get state(): DeviceState {
    return this.backup.state;
  }
  get signal(): AbortSignal {
    return this.backup.signal;
  }
  get onEvent(): OnAgentEvent {
    return this.backup.onEvent;
  }

  notice(text: string): void {
    this.onEvent({ type: 'notice', text });
  }

  /** For the user now, and for the point. */
  warn(text: string): void {
    this.warnings.push(text);
    this.onEvent({ type: 'warning', text });
  }

  /**
   * Reports a scan's progress until it ends, and counts what it has scanned.
   * @param beforeBytes what lies before it in the device
   * @param totalBytes what it reads, if not all of the device
   */
  watch(scan: Scan, beforeBytes = 0, totalBytes = this.size.sizeBytes): () => void {
    const { blockSize } = this.size;
    const stopReports = everyInterval(() => {
      const { scannedBytes, changedBlocks } = scan.progress();
      this.onEvent({
        type: 'progress',
        doneBytes: beforeBytes + scannedBytes,
        totalBytes,
        changedBytes: changedBlocks * blockSize,
        wireBytes: this.wire.bytes,
      });
    });
    return () => {
      stopReports();
      this.scannedBytes += scan.progress().scannedBytes;
    };
  }
}
