/**
 * How a running backup sends, asked before each batch: src/domain/session/sending.ts at
 * the link's present speed.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { BATCH_RAW_BYTES_TARGET, BATCH_WINDOW } from '../../domain/base/limits.js';
import type { LinkMeter } from '../../domain/session/link-meter.js';
import { type Sending, SHRINK_USUAL, sendingAt } from '../../domain/session/sending.js';
import { unlessAborted } from './cancel.js';

/** Without a link, in one process with the receiver. */
const UNLIMITED: Sending = {
  rawBytes: BATCH_RAW_BYTES_TARGET,
  window: BATCH_WINDOW,
  msPerByte: 0,
  overdueMs: 0,
  compressionLevel: 1,
};
/**
 * Bodies start a little sooner than the speed allows: it would not be found out that
 * the link has become faster.
 */
const SOONER = 0.9;
const SPARE = 1;
/** The share of what is known that a batch of the full size leaves. */
const KEPT = 0.5;

export class Pace {
  readonly #meter: LinkMeter | null;
  readonly #level: number | 'auto';
  #underWay = 0;
  /** When the next body should start: most of the last one has gone by then. */
  #nextMs = 0;
  /** When all that was started should have gone. */
  #idleMs = 0;
  #wake: () => void = () => undefined;
  #raw = 1;
  #sent = SHRINK_USUAL;

  /** @param level of zstd, whatever the link; `auto`: as the link asks for. */
  constructor(meter: LinkMeter | null, level: number | 'auto') {
    this.#meter = meter;
    this.#level = level;
  }

  /** Of the link, bytes; null while it is unknown, or where there is none. */
  get bytesPerSecond(): number | null {
    return this.#meter?.speed.bytesPerSecond ?? null;
  }

  get now(): Sending {
    const sending = this.#meter === null ? UNLIMITED : sendingAt(this.#meter.speed, this.#sent / this.#raw);
    return this.#level === 'auto' ? sending : { ...sending, compressionLevel: this.#level };
  }

  /**
   * Batches on their way at most: on a slow link one more than its window, for when packets
   * of the others were lost.
   */
  get inFlightMax(): number {
    const { window, msPerByte } = this.now;
    // More than its window a receiver does not take.
    return msPerByte === 0 ? window : Math.min(window + SPARE, BATCH_WINDOW);
  }

  /** Resolves when a body of so many bytes should start. One call at a time. */
  async turn(bodyBytes: number, signal: AbortSignal): Promise<void> {
    while (this.#underWay > 0) {
      const waitMs = this.#dueMs() - performance.now();
      if (waitMs <= 0) break;
      // Each answer tells more of the link.
      const answered = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const done = new AbortController();
      const waited = sleep(waitMs, undefined, { signal: done.signal }).catch(() => undefined);
      await unlessAborted(signal, Promise.race([waited, answered])).finally(() => done.abort());
    }
    this.#underWay += 1;
    const now = performance.now();
    this.#nextMs = now + bodyBytes * this.now.msPerByte * SOONER;
    this.#idleMs = Math.max(now, this.#idleMs) + bodyBytes * this.now.msPerByte;
  }

  #dueMs(): number {
    const { window, msPerByte, overdueMs } = this.now;
    if (msPerByte === 0) return 0;
    return this.#underWay < window ? this.#nextMs : this.#idleMs + overdueMs;
  }

  /** A body that had its turn was answered, or failed. */
  ended(): void {
    this.#underWay -= 1;
    this.#wake();
  }

  /** So many raw bytes, what the receiver held of them not left out, became a body of so many. */
  encoded(rawBytes: number, bodyBytes: number): void {
    this.#raw = this.#raw * KEPT + rawBytes;
    this.#sent = this.#sent * KEPT + bodyBytes;
  }
}
