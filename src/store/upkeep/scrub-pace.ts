/**
 * How fast a scrub reads: at most at its rate; and while sessions send, restores read or commits run, it
 * rests three times as long as it read, so that it never takes more than a quarter of the disk's time from
 * them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { type RateSchedule, rateAt, TokenBucket } from '../../domain/session/rate-limit.js';

const REST_FACTOR = 3;
const REST_MS_MAX = 60_000;
/** A rest ends early if the store has become idle. */
const LOOK_MS = 250;

export interface ScrubPaceOptions {
  readonly rate: RateSchedule | undefined;
  readonly isBusy: () => boolean;
  readonly signal: AbortSignal;
}

export class ScrubPace {
  readonly #options: ScrubPaceOptions;
  readonly #bucket = new TokenBucket(performance.now());

  constructor(options: ScrubPaceOptions) {
    this.#options = options;
  }

  /** Before so many bytes are read. @throws StillpointError `cancelled` */
  async before(bytes: number): Promise<void> {
    const { rate } = this.#options;
    for (;;) {
      this.throwIfStopped();
      const limit = rate === undefined ? null : rateAt(rate, Date.now());
      const waitMs = this.#bucket.take(bytes, performance.now(), limit);
      if (waitMs === 0) return;
      await this.#sleep(waitMs);
    }
  }

  /** After a read that took so long. */
  async after(tookMs: number): Promise<void> {
    const endMs = performance.now() + Math.min(REST_MS_MAX, REST_FACTOR * tookMs);
    while (this.#options.isBusy() && performance.now() < endMs) {
      this.throwIfStopped();
      await this.#sleep(Math.min(LOOK_MS, endMs - performance.now()));
    }
  }

  async #sleep(ms: number): Promise<void> {
    await sleep(Math.max(1, ms), undefined, { signal: this.#options.signal }).catch(() => undefined);
  }

  /** @throws StillpointError `cancelled` */
  throwIfStopped(): void {
    if (!this.#options.signal.aborted) return;
    throw new StillpointError('cancelled', {
      thing: 'verification',
      reason: 'it was stopped; what it has read counts',
      permanent: false,
    });
  }
}
