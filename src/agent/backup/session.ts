/**
 * One backup as a transaction: snapshot -> base tree -> begin -> scan and send -> proof that the snapshot stood -> seal -> commit ->
 * local tree. What dies in between leaves the last point and its tree; see device-state.ts for what a restart finds.
 *
 * Order of the end: all batches durable; the provider confirms the instant; the overlay is sealed on disk; the receiver commits;
 * the local tree follows. Nothing that fails before the commit leaves a trace that a later session would believe.
 */
import type { Conclusion, Snapshot } from '../../capture/ports.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { BATCH_RAW_BYTES_TARGET, WARNING_CHARS_MAX, WARNINGS_MAX } from '../../domain/base/limits.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { type Geometry, geometry } from '../../domain/blocks/geometry.js';
import type { BadRange, Point } from '../../domain/point/point.js';
import type { BeginAnswer, CommitRequest } from '../../domain/session/messages.js';
import { type BasePlan, planBase } from '../../domain/session/plan.js';
import { type LeafOverlay, native, type Scan, type TreeFile } from '../../native/index.js';
import { retrying, throwIfCancelled } from '../common/cancel.js';
import { everyInterval, type OnAgentEvent } from '../common/events.js';
import { Pace } from '../common/pace.js';
import { WireCounter } from '../common/wire-counter.js';
import { type DeviceState, geometryOf } from '../state/device-state.js';
import { describeSession } from '../state/kept-session.js';
import { concludeProven, type PartlyRead } from '../tree/second-reading.js';
import { BadBlockRepair } from './bad-block-repair.js';
import { localBase, prepareBase } from './base.js';
import { describeBadRanges, presentBytes } from './commit-facts.js';
import type { BackupOptions, BackupResult } from './options.js';
import { partsToScan, ResumeDoubted, shedsDoubt } from './resume.js';
import { sendChanges } from './sender.js';
import { PATIENCE_MS, SessionLink } from './session-link.js';
import { ChangesDoubted, checkSample, rangesToScan } from './tracked-scan.js';

/** Of changed blocks that are read and not encoded yet: some batches ahead of those that are being prepared. */
const SCAN_MEMORY_BYTES = 8 * BATCH_RAW_BYTES_TARGET;

export interface SessionFacts {
  /** Its name. */
  readonly provider: string;
  readonly sessionId: string;
  readonly instant: string;
  /** An earlier process began it, over the same view. */
  readonly isResumed: boolean;
  readonly blockSize: number;
  /** The last point before the session. */
  readonly last: Point | null;
  /** What went wrong before it, and was accepted. */
  readonly accepted: readonly string[];
}

export class BackupSession {
  readonly #options: BackupOptions;
  readonly #state: DeviceState;
  readonly #snapshot: Snapshot;
  readonly #facts: SessionFacts;
  readonly #wire: WireCounter;
  readonly #onEvent: OnAgentEvent;
  readonly #signal: AbortSignal;
  readonly #startMs = performance.now();
  readonly #warnings: string[] = [];
  #scannedBytes = 0;

  constructor(options: BackupOptions, state: DeviceState, snapshot: Snapshot, facts: SessionFacts) {
    this.#options = options;
    this.#state = state;
    this.#snapshot = snapshot;
    this.#facts = facts;
    this.#wire = new WireCounter(options.receiver);
    this.#onEvent = options.onEvent ?? (() => undefined);
    this.#signal = options.signal ?? new AbortController().signal;
  }

  async run(doubt: string | null): Promise<BackupResult> {
    const { tracking, warnings } = this.#snapshot;
    if (doubt !== null) this.#warn(`the map of changes was voided, and everything is read: ${doubt}`);
    for (const warning of [...this.#facts.accepted, ...warnings]) this.#warn(warning);
    const { last } = this.#facts;
    const size = geometry(this.#snapshot.device.sizeBytes, this.#facts.blockSize);
    const expected = planBase(localBase(this.#state, this.#options.compare), last, size);
    const link = this.#newLink(expected, last, size);
    try {
      const answer = await this.#begin(link);
      const { base: basePoint } = answer;
      const plan = this.#planWith(basePoint, expected, last, size);
      this.#checkChangesFit(plan, basePoint);
      const point = await this.#transfer(link, plan, answer, size);
      return {
        ...{ point, warnings: this.#warnings, wireBytes: this.#wire.bytes, base: plan },
        tracking:
          tracking === undefined ? null : { used: tracking.changes !== null, reason: tracking.reason },
      };
    } catch (error) {
      link.stop();
      const isDoubted = this.#facts.isResumed && shedsDoubt(error);
      // After a passing failure the receiver keeps what arrived: the next session need not send it again.
      const isOver = !isStillpointError(error) || error.permanent || isDoubted;
      if (isOver) await link.abort();
      if (isOver || error.code === 'device-changed')
        await this.#state.keepSession(null).catch(() => undefined);
      throw isDoubted ? new ResumeDoubted(error.message) : error;
    }
  }

  async #begin(link: SessionLink): Promise<BeginAnswer> {
    const keeping = this.#keep();
    // It is waited for in any case; nothing is to be written when the backup has failed.
    keeping.catch(() => undefined);
    try {
      return await link.begin();
    } finally {
      await keeping;
    }
  }

  /** Before a batch can be durable, so that a killed agent's next process finds the session that it belongs to. */
  async #keep(): Promise<void> {
    const { isResumed, sessionId, instant, provider, blockSize, last } = this.#facts;
    if (isResumed) return;
    const lastPointId = last?.id ?? null;
    const facts = { sessionId, instant, provider, blockSize, lastPointId };
    await this.#state.keepSession(describeSession(this.#snapshot, facts));
  }

  /** Changes since one point are nothing to another. */
  #checkChangesFit(plan: BasePlan, basePoint: Point | null): void {
    const { changes = null } = this.#snapshot.tracking ?? {};
    if (changes === null) return;
    if (basePoint === null || basePoint.id !== this.#facts.last?.id || plan.resizeFrom !== null) {
      throw new ChangesDoubted('it does not belong to the point that the receiver goes on from');
    }
  }

  /** The receiver has the last word on the base. */
  #planWith(basePoint: Point | null, expected: BasePlan, last: Point | null, size: Geometry): BasePlan {
    const isNewChain = expected.start === 'new-chain';
    if (isNewChain || basePoint?.id === last?.id) return expected;
    const plan = planBase(localBase(this.#state, this.#options.compare), basePoint, size);
    if (plan.start === 'new-chain') throw this.#overtaken();
    if (plan.start !== 'empty') return plan;
    const reason =
      'the receiver has lost parts of the last point, and everything is shipped that it does not hold';
    this.#warn(reason);
    return { ...plan, reason };
  }

  #newLink(plan: BasePlan, basePoint: Point | null, size: Geometry): SessionLink {
    const { device, acceptIdentity = false, patienceMs = PATIENCE_MS } = this.#options;
    const knowsBase = plan.start === 'use-local' || plan.start === 'apply-pending';
    const request = {
      device,
      identity: this.#snapshot.identity,
      geometry: size,
      base: knowsBase && basePoint !== null ? { id: basePoint.id, root: basePoint.root } : null,
      sessionId: this.#facts.sessionId,
      acceptIdentity,
      newChain: plan.start === 'new-chain',
    };
    return new SessionLink(this.#wire, request, {
      signal: this.#signal,
      patienceMs,
      onInterruption: (error) => {
        this.#onEvent({ type: 'notice', text: `${error.message} Trying again.` });
      },
    });
  }

  async #transfer(link: SessionLink, plan: BasePlan, answer: BeginAnswer, size: Geometry): Promise<Point> {
    const { base: basePoint } = answer;
    this.#onEvent({ type: 'phase', phase: 'base' });
    const { tree, differing } = await prepareBase({
      plan,
      state: this.#state,
      receiver: retrying(this.#wire, link.signal),
      device: this.#snapshot.device,
      basePoint,
      geometry: size,
      onEvent: this.#onEvent,
      signal: link.signal,
      watch: (scan) => this.#watch(scan, size),
      onCompared: this.#options.onCompared,
    });
    const overlay = await this.#state.newOverlay(tree);
    try {
      const repair = new BadBlockRepair({
        receiver: retrying(this.#wire, link.signal),
        path: this.#options.path,
        basePoint,
        baseTree: tree,
        onWarning: (text) => this.#warn(text),
        whyLost: async () => (await this.#snapshot.lost?.()) ?? null,
      });
      const batchCount = await this.#scanAndSend(link, answer, tree, overlay, repair, differing);
      const root = (await tree.rootWith(overlay)).toString('hex');
      const conclusion = await this.#conclude(link, tree, overlay, repair.partlyRead);
      const request = this.#commitRequest(root, batchCount, overlay, repair.badRanges, conclusion, size);
      this.#onEvent({ type: 'phase', phase: 'commit' });
      throwIfCancelled(this.#signal);
      await this.#state.seal(link.sessionId, root);
      return await this.#commit(link, request);
    } catch (error) {
      if (!isUndecided(this.#state)) await this.#state.discardOverlay();
      throw error;
    }
  }

  async #scanAndSend(
    link: SessionLink,
    answer: BeginAnswer,
    baseTree: TreeFile,
    overlay: LeafOverlay,
    repair: BadBlockRepair,
    differing: readonly BlockRange[] | undefined,
  ): Promise<number> {
    this.#onEvent({ type: 'phase', phase: 'scan' });
    const changes = this.#snapshot.tracking?.changes ?? null;
    const { meter = null, compressionLevel = 'auto', patch = 'auto' } = this.#options;
    const pace = new Pace(meter, compressionLevel);
    const linkBytesPerSecond = meter === null ? undefined : () => pace.bytesPerSecond;
    let lastSequence = answer.durableSequence;
    const wanted = differing ?? rangesToScan(changes);
    const durableBytes = answer.durableBlockEnd * baseTree.blockSize;
    for (const { ranges, isDurable } of partsToScan(wanted, answer, baseTree.blockCount)) {
      lastSequence = await this.#withScan(
        link,
        baseTree,
        overlay,
        { ranges, beforeBytes: isDurable ? 0 : durableBytes },
        (scan) =>
          sendChanges({
            ...{ scan, link, baseTree, overlay, repair, pace, patch, linkBytesPerSecond },
            ...{ lastSequence, isDurable },
          }),
      );
    }
    if (changes !== null) checkSample(changes, overlay);
    return lastSequence;
  }

  async #withScan<T>(
    link: SessionLink,
    baseTree: TreeFile,
    overlay: LeafOverlay,
    { ranges, beforeBytes }: { ranges: readonly BlockRange[] | undefined; beforeBytes: number },
    use: (scan: Scan) => Promise<T>,
  ): Promise<T> {
    const scan = native.createScan(this.#snapshot.device, {
      ...{ base: baseTree, overlay, chunkBytes: BATCH_RAW_BYTES_TARGET, memoryBytes: SCAN_MEMORY_BYTES },
      ...(ranges === undefined ? {} : { ranges }),
    });
    const cancelScan = () => scan.cancel();
    link.signal.addEventListener('abort', cancelScan, { once: true });
    const stopWatching = this.#watch(scan, geometryOf(baseTree), beforeBytes);
    try {
      throwIfCancelled(this.#signal);
      return await use(scan);
    } finally {
      stopWatching();
      link.signal.removeEventListener('abort', cancelScan);
      scan.cancel();
      await scan.close();
    }
  }

  /** Reports a scan's progress until it ends, and counts what it has scanned. */
  #watch(scan: Scan, { sizeBytes, blockSize }: Geometry, beforeBytes = 0): () => void {
    const stopReports = everyInterval(() => {
      const { scannedBytes, changedBlocks } = scan.progress();
      this.#onEvent({
        type: 'progress',
        doneBytes: beforeBytes + scannedBytes,
        totalBytes: sizeBytes,
        changedBytes: changedBlocks * blockSize,
        wireBytes: this.#wire.bytes,
      });
    });
    return () => {
      stopReports();
      this.#scannedBytes += scan.progress().scannedBytes;
    };
  }

  async #conclude(link: SessionLink, tree: TreeFile, overlay: LeafOverlay, partlyRead: PartlyRead) {
    return concludeProven({
      ...{ snapshot: this.#snapshot, path: this.#options.path, fuzzy: this.#options.fuzzy ?? false },
      ...{ tree, overlay, partlyRead, scratchPath: `${overlay.path}.second` },
      ...{ signal: link.signal, onEvent: this.#onEvent },
      watch: (scan) => this.#watch(scan, geometryOf(tree)),
    });
  }

  #commitRequest(
    root: string,
    batchCount: number,
    overlay: LeafOverlay,
    badRanges: readonly BadRange[],
    conclusion: Pick<Conclusion, 'kind' | 'warnings' | 'facts'>,
    size: Geometry,
  ): CommitRequest {
    for (const warning of conclusion.warnings) this.#warn(warning);
    if (badRanges.length > 0) this.#warn(describeBadRanges(badRanges));
    return {
      root,
      batchCount,
      statistics: {
        scannedBytes: this.#scannedBytes,
        changedBytes: presentBytes(overlay, size),
        wireBytes: this.#wire.bytes,
        durationMs: Math.round(performance.now() - this.#startMs),
      },
      badRanges,
      warnings: this.#warnings.slice(0, WARNINGS_MAX).map((text) => text.slice(0, WARNING_CHARS_MAX)),
      kind: conclusion.kind,
      provider: this.#facts.provider,
      providerFacts: conclusion.facts ?? {},
      instant: this.#facts.instant,
    };
  }

  async #commit(link: SessionLink, request: CommitRequest): Promise<Point> {
    let point: Point;
    try {
      point = await link.commit(request);
    } catch (error) {
      // Refused: there is no such point. Any other failure leaves open whether there is; the sealed overlay is the answer.
      if (isStillpointError(error) && error.permanent && error.code !== 'cancelled') {
        await this.#state.discardOverlay();
        // Of a session that two processes sent, first their batches are doubted.
        if (error.code === 'root-mismatch' && !this.#facts.isResumed) await this.#state.forgetTree();
      }
      throw error;
    }
    // None needs another: each waits for a disk of its own.
    await Promise.all([this.#followPoint(), this.#tellProvider(), this.#remember(point)]);
    return point;
  }

  async #followPoint(): Promise<void> {
    try {
      await this.#state.commit();
      await this.#state.keepSession(null);
    } catch (error) {
      await this.#state.forgetTree().catch(() => undefined);
      this.#warn(
        `the local tree could not follow, the next backup compares digests: ${(error as Error).message}`,
      );
    }
  }

  async #remember(point: Point): Promise<void> {
    try {
      await this.#state.acknowledge(point);
    } catch (error) {
      this.#warn(
        `the point could not be noted, and would not be missed if the store lost it: ${(error as Error).message}`,
      );
    }
  }

  async #tellProvider(): Promise<void> {
    try {
      await this.#snapshot.tracking?.committed();
    } catch (error) {
      // It knows of the session, and goes on from it: more is read next time, no more.
      this.#onEvent({
        type: 'notice',
        text: `the tap was not told of the commit: ${(error as Error).message}`,
      });
    }
  }

  #warn(text: string): void {
    this.#warnings.push(text);
    this.#onEvent({ type: 'warning', text });
  }

  #overtaken(): StillpointError {
    return new StillpointError('base-mismatch', {
      thing: `device ${this.#options.device}`,
      reason: 'another backup of it was committed in this moment',
      remedy: 'Check that no other machine backs up under the same name, and try again.',
      permanent: false,
    });
  }
}

/** A sealed overlay stays: the receiver may have committed it. */
function isUndecided(state: DeviceState): boolean {
  return state.local.pending !== null;
}
