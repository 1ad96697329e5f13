/**
 * Holds all connections of one client together to a rate: each write or read of a piece asks first, and is
 * let through in turn. If reading pauses, the other side notices through TCP.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB } from '../../domain/base/limits.js';
import { TokenBucket } from '../../domain/session/rate-limit.js';

const PIECE_BYTES_MIN = KiB;
const PIECE_BYTES_MAX = 64 * KiB;
const PIECES_PER_SECOND = 8;

export interface PacerOptions {
  /** In bytes per second, at this time; null for no limit. */
  readonly limit: () => number | null;
  /** Monotonic, ms. */
  readonly now?: () => number;
  readonly sleep?: (ms: number) => Promise<unknown>;
}

export class Pacer {
  readonly #limit: () => number | null;
  readonly #now: () => number;
  readonly #sleep: (ms: number) => Promise<unknown>;
  readonly #bucket: TokenBucket;
  #last: Promise<void> = Promise.resolve();

  constructor({ limit, now = () => performance.now(), sleep: pause = (ms) => sleep(ms) }: PacerOptions) {
    this.#limit = limit;
    this.#now = now;
    this.#sleep = pause;
    this.#bucket = new TokenBucket(now());
  }

  /** What is to be written at once, so that it flows instead of coming in lumps. */
  get pieceBytes(): number {
    const rate = this.#limit();
    if (rate === null) return PIECE_BYTES_MAX;
    return Math.min(PIECE_BYTES_MAX, Math.max(PIECE_BYTES_MIN, Math.floor(rate / PIECES_PER_SECOND)));
  }

  /** Resolves when the bytes may go. */
  take(bytes: number): Promise<void> {
    this.#last = this.#last.then(async () => {
      for (;;) {
        const waitMs = this.#bucket.take(bytes, this.#now(), this.#limit());
        if (waitMs === 0) return;
        await this.#sleep(waitMs);
      }
    });
    return this.#last;
  }
}
