/**
 * What comes next in a copy of a device that changes meanwhile: ship what was written, hold it in memory, or
 * take the cut, for which everybody waits. Pure.
 *
 *   so little that more passes are not worth it      -> cut
 *   little enough to be read while everybody waits,
 *   and the last pass has brought nothing            -> cut
 *   else, what fits into memory                      -> stage: it crosses the wire once, as it is in the end
 *   else                                             -> ship: what is written again crosses the wire again
 *   neither gets it down, pass after pass            -> give up
 *
 * A flush before each pass brings to light what would else come in the freeze. Where a busy disk takes so
 * long for it that all that is left is what was written meanwhile, passes go on without.
 */
import { MiB } from '../base/limits.js';

export interface LivePlanOptions {
  readonly stagingMaxBytes: number;
  readonly cutMaxBytes: number;
  /** Everybody waits so long, at most. */
  readonly freezeBudgetMs: number;
}

/** As the copy tells. */
export interface LivePending {
  readonly shipBytes: number;
  readonly stageBytes: number;
  readonly readBytes: number;
  readonly stagedBytes: number;
}

export type LiveStep = 'cut' | 'stage' | 'ship' | 'give-up';

/** Of the freeze's budget: the rest is for what the file systems themselves have to do. */
const CUT_SHARE_MAX = 0.4;
/** Of the cut's memory: the rest is for what is written until the freeze stands. */
const CUT_BYTES_SHARE = 1 / 8;
/** So short a freeze is not worth another pass. */
const CUT_SHARE_GOOD = 0.04;
/** Before a read was measured. */
const BYTES_PER_MS_SUPPOSED = 200_000;
/** A pass that leaves more than this of the least so far has brought nothing. */
const PROGRESS = 0.9;
const PASSES_WITHOUT_PROGRESS_MAX = 4;
/** All passes together: what is sent again is bounded by it. */
const SHIPS_MAX = 8;
/** What is less, and read more quickly, says nothing of the rate. */
const MEASURED_BYTES_MIN = 1 * MiB;
const MEASURED_MS_MIN = 20;

/** What a file system itself has to do for a freeze: 20 to 50 ms were measured. */
const FREEZE_FLOOR_MS = 40;
/** Between the last pass and the cut, about. */
const LAST_PASS_MS = 100;

/**
 * At a rate of writes, before anything was measured. @returns null: passes may not come to an end
 */
export function expectedFreezeMs(writtenBytesPerMs: number): number | null {
  if (writtenBytesPerMs > BYTES_PER_MS_SUPPOSED / 2) return null;
  return Math.round(FREEZE_FLOOR_MS + (writtenBytesPerMs * LAST_PASS_MS) / BYTES_PER_MS_SUPPOSED);
}

/** State: how passes went so far. One for each copy. */
export class LivePlan {
  readonly #options: LivePlanOptions;
  #readBytesPerMs: number | null = null;
  #leastBytes = Number.POSITIVE_INFINITY;
  #withoutProgress = 0;
  #flushesFirst = true;
  #ships = 0;
  #passes = 0;

  constructor(options: LivePlanOptions) {
    this.#options = options;
  }

  get readBytesPerMs(): number {
    return this.#readBytesPerMs ?? BYTES_PER_MS_SUPPOSED;
  }

  get passes(): number {
    return this.#passes;
  }

  /** Whether what the file systems hold back is to be written out before the next pass. */
  get flushesFirst(): boolean {
    return this.#flushesFirst;
  }

  /** How long everybody would wait for what is pending. */
  cutMs({ readBytes }: LivePending): number {
    return readBytes / this.readBytesPerMs;
  }

  next(pending: LivePending): LiveStep {
    const { stagingMaxBytes, cutMaxBytes, freezeBudgetMs } = this.#options;
    const share = this.cutMs(pending) / freezeBudgetMs;
    const mayCut = pending.readBytes <= cutMaxBytes * CUT_BYTES_SHARE && share <= CUT_SHARE_MAX;
    // Before the first pass, only what was flushed is known of.
    if (this.#passes > 0) {
      this.#judge(pending.readBytes);
      if (mayCut && (share <= CUT_SHARE_GOOD || this.#withoutProgress > 0)) return 'cut';
    }
    if (this.#withoutProgress >= PASSES_WITHOUT_PROGRESS_MAX) {
      if (!this.#flushesFirst) return 'give-up';
      this.#startOver(false);
    }
    const fits = pending.stagedBytes + pending.stageBytes <= stagingMaxBytes;
    if (!fits && this.#ships === SHIPS_MAX) return 'give-up';
    this.#passes += 1;
    if (fits) return 'stage';
    this.#ships += 1;
    return 'ship';
  }

  /**
   * After a cut that did not come about: it takes new progress to give up. What only a flush brings to light
   * may be what was too much for it.
   */
  again(): void {
    this.#startOver(true);
  }

  /** Of a pass that was staged. */
  measured(readBytes: number, durationMs: number): void {
    if (readBytes === 0 || (readBytes < MEASURED_BYTES_MIN && durationMs < MEASURED_MS_MIN)) return;
    this.#readBytesPerMs = readBytes / Math.max(durationMs, 0.001);
  }

  #startOver(flushesFirst: boolean): void {
    this.#flushesFirst = flushesFirst;
    this.#withoutProgress = 0;
    this.#leastBytes = Number.POSITIVE_INFINITY;
  }

  #judge(readBytes: number): void {
    this.#withoutProgress = readBytes > this.#leastBytes * PROGRESS ? this.#withoutProgress + 1 : 0;
    this.#leastBytes = Math.min(this.#leastBytes, readBytes);
  }
}
