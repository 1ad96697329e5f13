/** The member of a live copy: its passes, its cut, and the view of what is left (live.ts has the states). */
import { readBlockFamily, writesHaveEnded } from '../../../devices/system/block-sysfs.js';
import { byteRangeOn } from '../../../devices/system/byte-ranges.js';
import { swapRangesOf } from '../../../devices/system/swap-ranges.js';
import { StillpointError } from '../../../domain/base/errors.js';
import type { BlockRange } from '../../../domain/blocks/block-ranges.js';
import type { ConsistencyKind, ProviderFacts } from '../../../domain/point/point.js';
import { type CutReport, type NativeError, native } from '../../../native/index.js';
import {
  type Cut,
  changedError,
  type HoldOptions,
  type Member,
  type Passes,
  type Snapshot,
  type Standstill,
  type TrackedChanges,
  type Tracking,
} from '../../ports.js';
import { cutHasEnded } from './cut-end.js';
import { filesystemsToFlush, flushMounted } from './flush.js';
import type { LiveParts } from './parts.js';

/** Of one backup. */
const CUT_TRIES = 6;
const RESCAN_TRIES = 4;

export class LiveMember {
  readonly #parts: LiveParts;
  readonly #options: HoldOptions;
  readonly #startMs = performance.now();
  #cuts = 0;
  /** Of the blocks that were written since the last pass. */
  #writtenBytesPerMs = 0;
  #collectedMs = performance.now();
  #gaveUp = false;
  /** A cut would have been short enough, and others were not ready for it. */
  #isOffered = false;
  #rescans = 0;

  constructor(parts: LiveParts, options: HoldOptions) {
    this.#parts = parts;
    this.#options = options;
  }

  member(): Member {
    const { place, copy, limits, writer, lockDescriptor, release } = this.#parts;
    const { path } = place;
    return {
      path,
      // With nobody who can write there is nothing to freeze, and the marks show that nobody did.
      shownAt: writer === null ? [] : [path],
      barrier: writer === null ? 'unused' : 'freeze',
      passes: this.#passes(),
      cutting: {
        descriptors: [...copy.descriptors(), lockDescriptor],
        budgetMs: limits.freezeBudgetMs,
        wasAtRest: ({ number, path }) => this.#wasAtRest(number, path).catch(() => false),
      },
      close: async () => null,
      open: async () => undefined,
      cut: (standstill) => this.#cut(standstill),
      release,
    };
  }

  #passes(): Passes {
    const { device, identity } = this.#parts;
    return {
      ...{ device, identity, warnings: [], tracking: this.#tracking(null) },
      next: () => this.#next(),
      again: async (error) => {
        const isOurs = error instanceof StillpointError && error.code === 'device-changed';
        if (!isOurs || this.#cuts >= CUT_TRIES || !(await cutHasEnded(this.#parts.copy))) return false;
        // A cut may have been taken that nobody asked for any more. One that was accepted was the last.
        const report = await this.#parts.copy.report().catch(() => null);
        this.#parts.plan.again();
        return report !== null;
      },
    };
  }

  /** @returns what to ship; null: a cut would be short enough. */
  async #next(): Promise<readonly BlockRange[] | null> {
    const { copy, plan, place } = this.#parts;
    const { signal, fuzzy } = this.#options;
    // What was written while it waited says nothing of its progress.
    if (this.#isOffered) plan.again();
    this.#isOffered = false;
    for (;;) {
      if (signal?.aborted === true)
        throw new StillpointError('cancelled', { thing: place.path, reason: 'it was cancelled' });
      if (plan.flushesFirst) await this.#flush();
      const pending = await this.#collect();
      const step = plan.next(pending);
      if (step === 'give-up') {
        if (!fuzzy) throw this.#notConverging(plan.cutMs(pending));
        this.#gaveUp = true;
      }
      if (step === 'cut' || step === 'give-up') {
        await copy.prepareCut(pending.readBytes);
        this.#isOffered = true;
        return null;
      }
      if (step === 'stage' && (await this.#stage(pending.readBytes))) continue;
      const ranges = await copy.ship();
      if (ranges.length > 0) return ranges;
    }
  }

  /** Dirty pages would only come to light in the freeze. */
  async #flush(): Promise<void> {
    const { place, writer } = this.#parts;
    if (writer !== null)
      for (const path of await filesystemsToFlush(place.path)) await native.syncFilesystem(path);
    await this.#flushDevice();
  }

  /**
   * Of programs that write to the device itself, perhaps without waiting for it. A failure is theirs: what is
   * backed up is what the device holds.
   */
  async #flushDevice(): Promise<void> {
    await this.#parts.device.flush().catch(() => undefined);
  }

  async #collect() {
    const { copy, marks, place } = this.#parts;
    const doubt = marks.look();
    if (doubt !== null) {
      this.#rescans += 1;
      if (this.#rescans === RESCAN_TRIES) throw changedError(place.path, `can't be tracked: ${doubt}`);
      await copy.doubt('everything');
    }
    if (marks.mayLackCompletion()) await copy.doubt('queued');
    const pending = await copy.collect();
    const nowMs = performance.now();
    this.#writtenBytesPerMs = pending.readBytes / Math.max(1, nowMs - this.#collectedMs);
    this.#collectedMs = nowMs;
    return pending;
  }

  /** @returns false if some of it can't be read: what is shipped is read sector by sector. */
  async #stage(readBytes: number): Promise<boolean> {
    const { copy, plan } = this.#parts;
    const startMs = performance.now();
    try {
      await copy.stage();
    } catch (error) {
      if ((error as NativeError).code === 'EIO') return false;
      throw error;
    }
    plan.measured(readBytes, performance.now() - startMs);
    return true;
  }

  async #cut(standstill: Standstill | undefined): Promise<Cut> {
    const { copy, marks, place } = this.#parts;
    if (standstill === undefined) throw new Error('a live copy is cut at a standstill');
    this.#cuts += 1;
    // What a hook has stopped may have left something in the page cache.
    await this.#flushDevice();
    const instant = new Date();
    await standstill.takeCuts();
    const report = await this.#report();
    const isFuzzy = await this.#judge(report);
    const doubt = marks.look();
    if (doubt !== null) {
      await copy.doubt('everything');
      throw changedError(place.path, `can't be tracked: ${doubt}`);
    }
    if (marks.mayLackCompletion()) {
      await copy.doubt('queued');
      throw changedError(place.path, 'was written to in a way that the kernel did not show completely');
    }
    await copy.accept();
    const swap = await this.#swapWritten(report);
    const own = this.#parts.writer === null ? 'idle' : null;
    return {
      instant,
      kind: isFuzzy ? 'fuzzy' : own,
      closedMs: null,
      view: async (kind) => this.#view(instant, kind, report, swap),
    };
  }

  async #wasAtRest(number: string, mountPoint: string): Promise<boolean> {
    const { copy, marks, place } = this.#parts;
    const family = await readBlockFamily(place.number);
    const range = family === null ? null : await byteRangeOn(family, number);
    if (range === null || !(await flushMounted(number, mountPoint))) return false;
    await this.#flushDevice();
    // What was submitted before the cut, and waits for nobody, is marked when it is completed.
    if (!(await writesHaveEnded(number))) return false;
    return (await copy.isUntouched(range.beginByte, range.endByte)) && marks.areComplete();
  }

  /** What it says is final. */
  async #report(): Promise<CutReport> {
    const { copy, place } = this.#parts;
    const report = await copy.report();
    if (report.state === 'complete') return report;
    if (await cutHasEnded(copy)) return copy.report();
    throw new StillpointError('session-busy', {
      thing: place.path,
      reason: 'the process that was to read the rest of it does not end, as it waits for a disk',
      remedy: 'See the kernel log ("dmesg") for what is wrong with the disk.',
    });
  }

  /** @returns whether it is no single instant. @throws StillpointError, unless fuzzy was asked for */
  async #judge(report: CutReport): Promise<boolean> {
    const { place, limits } = this.#parts;
    const { fuzzy } = this.#options;
    const { path } = place;
    switch (report.state) {
      case 'none':
        throw new StillpointError('device-changed', {
          thing: path,
          reason: `what was left of it could not be read within the freeze of ${limits.freezeBudgetMs} ms`,
          remedy: 'Allow a longer freeze (--freeze-deadline), or back it up when less is written.',
          permanent: false,
        });
      case 'too-much':
        throw changedError(
          path,
          `had ${report.wantedBytes} bytes left to read in the freeze, which is too much`,
        );
      case 'failed':
        throw new StillpointError('device-io', {
          thing: path,
          reason: `reading it at byte ${report.errorOffset} failed in the freeze (error ${report.error})`,
          remedy: 'See the kernel log ("dmesg") for its faults, then back it up again.',
        });
    }
    if (this.#gaveUp) return true;
    const written = await this.#writtenOutsideSwap(report);
    if (written.length === 0) return false;
    if (fuzzy) return true;
    const [begin, end] = written[0] ?? [0, 0];
    throw new StillpointError('device-changed', {
      thing: path,
      reason:
        `something writes to it that no freeze has stopped (bytes ${begin} to ${end}), so nothing proves that ` +
        'what was read is of one instant',
      remedy:
        'Stop it for the instant with a hook (--hook), wait until it is quiet (--wait-quiet), or accept a ' +
        'point that is not of one instant (--fuzzy).',
      permanent: false,
    });
  }

  async #writtenOutsideSwap(report: CutReport): Promise<CutReport['writtenBytes']> {
    const { writtenBytes, isWrittenMore } = report;
    // Of the others nobody knows where they are.
    if (writtenBytes.length === 0 || isWrittenMore) return writtenBytes;
    const swaps = await this.#swaps();
    return writtenBytes.filter(
      ([begin, end]) => !swaps.some(({ beginByte, endByte }) => begin >= beginByte && end <= endByte),
    );
  }

  async #swapWritten({ writtenBytes }: CutReport): Promise<string[]> {
    if (writtenBytes.length === 0) return [];
    return (await this.#swaps())
      .filter(({ beginByte, endByte }) =>
        writtenBytes.some(([begin, end]) => begin < endByte && end > beginByte),
      )
      .map(
        ({ path }) =>
          `the swap space ${path} was written to meanwhile; what it holds is of no single instant`,
      );
  }

  #swaps() {
    return swapRangesOf(this.#parts.place.number);
  }

  #view(instant: Date, kind: ConsistencyKind, report: CutReport, swap: readonly string[]): Snapshot {
    const { copy, identity, isFull, release, plan } = this.#parts;
    const view = copy.openView();
    const changes: TrackedChanges = {
      ranges: copy.changedBlocks(),
      sample: isFull ? [] : copy.unchangedSample(),
    };
    const facts: ProviderFacts = {
      marksUsed: !isFull,
      copyPasses: plan.passes,
      cutBytes: report.wantedBytes - report.aheadBytes,
      cutReadMs: Math.round((report.marksMs + report.readMs) * 10) / 10,
      copyMs: Math.round(performance.now() - this.#startMs),
    };
    const warnings = this.#gaveUp ? ['it changed faster than it could be copied; the point is fuzzy'] : [];
    return {
      ...{ device: view, identity, instant, kind, warnings: [...warnings, ...swap] },
      tracking: this.#tracking(changes),
      conclude: async () => ({ kind, warnings: [], facts }),
      release: async () => {
        await view.close();
        await release();
      },
    };
  }

  #tracking(changes: TrackedChanges | null): Tracking {
    const { marks, reason, isFull } = this.#parts;
    const { sessionId, blockSize } = this.#options;
    return {
      changes: changes ?? (isFull ? null : { ranges: [], sample: [] }),
      reason,
      knows: (pointId) => marks.knows(pointId),
      committed: () => marks.committed(sessionId),
      adopt: (pointId, ranges, complete) => marks.adopt(pointId, ranges, blockSize, complete),
    };
  }

  #notConverging(cutMs: number): StillpointError {
    const mb = (bytesPerMs: number): string => `${(bytesPerMs / 1000).toFixed(1)} MB/s`;
    return new StillpointError('device-in-use', {
      thing: this.#parts.place.path,
      reason:
        `it changes faster than it can be copied: ${mb(this.#writtenBytesPerMs)} have to be read again, ` +
        `${mb(this.#parts.plan.readBytesPerMs)} can be read, and the freeze would take ${Math.ceil(cutMs)} ms`,
      remedy:
        'Back it up when less is written, allow a longer freeze (--freeze-deadline), use another provider ' +
        '(see "stillpoint inspect"), or accept a point that is not of one instant (--fuzzy).',
      permanent: false,
    });
  }
}
