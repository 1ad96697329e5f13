/**
 * Reads the store back by and by, in small slices, so that all of it is read within a period; and does the
 * scrubs that commands ask for.
 *
 * | state   | a slice is due | a command asks                          | close          |
 * |---------|----------------|-----------------------------------------|----------------|
 * | idle    | -> slice       | -> command                              | ends           |
 * | slice   | next time      | the slice is stopped, then -> command   | it is stopped  |
 * | command | next time      | `busy`                                  | it is stopped  |
 *
 * A slice that is stopped loses nothing: what it has read counts.
 */

import type { Logger } from 'pino';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { MiB, SCRUB_PERIOD_MS } from '../../domain/base/limits.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import { sliceBytes } from '../../domain/scrub/queue.js';
import type { VerifyEvent } from '../../domain/session/messages.js';
import type { RateSchedule } from '../../domain/session/rate-limit.js';
import type { Store } from '../../store/port/store.js';
import type { ScrubRequest, ScrubStatus, Upkeep } from '../../store/port/upkeep.js';

export interface ScrubSettings {
  /** All is read back within it; null: nothing by schedule. */
  readonly periodMs: number | null;
  /** Default: what the period needs, doubled, and at least RATE_LEAST. */
  readonly rate?: RateSchedule | undefined;
}

export interface ScrubbingOptions extends ScrubSettings {
  readonly store: Pick<Store, 'upkeep' | 'storeId'>;
  readonly log: Logger;
  readonly now: () => Date;
  /** Default: SLICE_INTERVAL_MS. */
  readonly intervalMs?: number | undefined;
  /** After each slice: why it failed, null: it went well. */
  readonly onProblem?: (reason: string | null) => void;
}

export interface ScheduledScrub extends ScrubStatus {
  /** ISO 8601; null: none is scheduled. */
  readonly nextSliceAt: string | null;
}

const SLICE_INTERVAL_MS = 10 * 60_000;
const RATE_LEAST = 16 * MiB;
const TOLD_EVERY_MS = 24 * 60 * 60 * 1000;

export class Scrubbing {
  readonly #options: ScrubbingOptions;
  readonly #upkeep: Upkeep | null;
  readonly #intervalMs: number;
  readonly #timer: NodeJS.Timeout | null;
  #slice: { readonly stop: AbortController; readonly done: Promise<void> } | null = null;
  #isCommanded = false;
  #nextMs: number;
  #toldMs = Number.NEGATIVE_INFINITY;
  readonly #closing = new AbortController();

  constructor(options: ScrubbingOptions) {
    this.#options = options;
    this.#upkeep = options.store.upkeep;
    this.#intervalMs = options.intervalMs ?? SLICE_INTERVAL_MS;
    this.#nextMs = options.now().getTime() + this.#intervalMs;
    const isScheduled = options.periodMs !== null && this.#upkeep !== null;
    this.#timer = isScheduled ? setInterval(() => this.#begin(), this.#intervalMs).unref() : null;
  }

  #begin(): void {
    this.#nextMs = this.#options.now().getTime() + this.#intervalMs;
    if (this.#slice !== null || this.#isCommanded || this.#closing.signal.aborted) return;
    const stop = new AbortController();
    const { log, onProblem } = this.#options;
    const done = this.#readSlice(stop.signal)
      .then(() => onProblem?.(null))
      .catch((error: Error) => {
        if (isStillpointError(error, 'cancelled')) return;
        onProblem?.(error.message);
        log.error({ event: 'scrub-failed' satisfies LogEvent, err: error }, 'scrub failed');
      })
      .finally(() => {
        this.#slice = null;
      });
    this.#slice = { stop, done };
  }

  async #readSlice(signal: AbortSignal): Promise<void> {
    const { periodMs, rate, log, now } = this.#options;
    if (this.#upkeep === null || periodMs === null) return;
    const { totalBytes, lastCheckedAt } = await this.#upkeep.scrubStatus(periodMs);
    const sinceMs = lastCheckedAt === null ? 0 : Date.parse(lastCheckedAt);
    const elapsedMs = Math.max(this.#intervalMs, now().getTime() - sinceMs);
    const needed = Math.ceil((2 * 1000 * totalBytes) / periodMs);
    const request: ScrubRequest = {
      maxBytes: sliceBytes(totalBytes, elapsedMs, periodMs),
      // A small store is not read again and again.
      olderThanMs: periodMs / 2,
      rate: rate ?? { windows: [], otherwise: Math.max(RATE_LEAST, needed) },
      signal,
    };
    for await (const event of this.#upkeep.scrub(request)) this.#log(event);
    const status = await this.#upkeep.scrubStatus(periodMs);
    const { coveredBytes, oldestSince, damage } = status;
    const line = {
      totalBytes,
      coveredBytes,
      oldestSince,
      damaged: damage.openCount,
      healed: damage.healedCount,
    };
    if (damage.pointCount > 0)
      log.error(
        { event: 'damage-known' satisfies LogEvent, ...line, points: damage.points },
        'the store has damage',
      );
    else if (performance.now() - this.#toldMs >= TOLD_EVERY_MS) log.info(line, 'scrub goes on, no damage');
    if (damage.pointCount === 0) this.#toldMs = performance.now();
  }

  #log(event: VerifyEvent): void {
    const { log } = this.#options;
    if (event.type === 'finding')
      log.error(
        {
          event: 'damage-found' satisfies LogEvent,
          what: event.what,
          reason: event.reason,
          points: event.points,
        },
        'damage found',
      );
    if (event.type === 'summary') {
      const { blockCount, checkedBytes, findingCount } = event;
      log.debug({ blockCount, checkedBytes, findingCount }, 'scrub slice ended');
    }
  }

  /** For a command, at once. @throws StillpointError `busy` */
  async *run(request: ScrubRequest): AsyncGenerator<VerifyEvent, void> {
    if (this.#upkeep === null) throw notOwned(this.#options.store.storeId);
    if (this.#isCommanded) throw busy();
    this.#isCommanded = true;
    try {
      this.#slice?.stop.abort();
      await this.#slice?.done;
      const signals = [this.#closing.signal, ...(request.signal === undefined ? [] : [request.signal])];
      for await (const event of this.#upkeep.scrub({ ...request, signal: AbortSignal.any(signals) })) {
        this.#log(event);
        yield event;
      }
    } finally {
      this.#isCommanded = false;
    }
  }

  async status(): Promise<ScheduledScrub> {
    if (this.#upkeep === null) throw notOwned(this.#options.store.storeId);
    const { periodMs } = this.#options;
    return {
      ...(await this.#upkeep.scrubStatus(periodMs ?? SCRUB_PERIOD_MS)),
      nextSliceAt: this.#timer === null ? null : new Date(this.#nextMs).toISOString(),
    };
  }

  /** What runs is stopped. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#closing.abort();
    this.#slice?.stop.abort();
    await this.#slice?.done;
  }
}

function busy(): StillpointError {
  return new StillpointError('busy', {
    thing: 'the store',
    reason: 'another command has it read back',
    remedy: 'Wait until that has ended.',
    permanent: false,
  });
}

function notOwned(storeId: string): StillpointError {
  return new StillpointError('internal', {
    thing: `store ${storeId}`,
    reason: 'it is not open to be written to, and a scrub was asked for',
  });
}
