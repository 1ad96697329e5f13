/**
 * When a receiver collects, and how fast. A collection that was put off, or had to leave something, would
 * find the same again at once: the next one comes after a multiple of the time that it took. While sessions
 * are open it gives way to them. It ends early, with what it has freed by then, when its command or the
 * receiver is stopped.
 *
 * State: how many run or wait for their turn, and when the next one by itself may begin.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { COLLECT_BYTES_PER_S, MiB } from '../../domain/base/limits.js';
import type { CollectOptions, CollectReport, Store } from '../../store/port/store.js';

/** At most a twentieth of the time goes into collections that can't finish. */
const PAUSE_FACTOR = 20;
/** Between two rests. */
const STRIDE_BYTES = 4 * MiB;

export interface CollectingOptions {
  readonly store: Store;
  readonly hasSessions: () => boolean;
  /** Told of each collection that the receiver did by itself and that freed something. */
  readonly onFreed?: (bytes: number) => void;
  readonly nowMs?: () => number;
  readonly rest?: (restMs: number) => Promise<unknown>;
}

export class Collecting {
  readonly #options: CollectingOptions;
  readonly #nowMs: () => number;
  #isStopped = false;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #runCount = 0;

  constructor(options: CollectingOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
  }

  /** If it is time, and none runs: that one may take longer than the time between two ticks. */
  async tick(): Promise<void> {
    if (this.#runCount > 0 || this.#nowMs() < this.#notBeforeMs) return;
    const { freedBytes } = await this.run();
    if (freedBytes > 0) this.#options.onFreed?.(freedBytes);
  }

  /** Whatever runs ends soon, and nothing begins any more. */
  stop(): void {
    this.#isStopped = true;
  }

  /** @param signal of the command: nobody waits for it any more */
  async run(
    options: Pick<CollectOptions, 'force' | 'dryRun'> = {},
    signal?: AbortSignal,
  ): Promise<CollectReport> {
    let owedBytes = 0;
    const pace = async (bytes: number): Promise<void> => {
      if (this.#isStopped || signal?.aborted === true) throw stopped();
      owedBytes += bytes;
      if (owedBytes < STRIDE_BYTES) return;
      const restMs = (1000 * owedBytes) / COLLECT_BYTES_PER_S;
      owedBytes = 0;
      const { hasSessions, rest = sleep } = this.#options;
      if (hasSessions()) await rest(restMs);
    };
    this.#runCount += 1;
    const report = await this.#options.store.collect({ ...options, pace }).finally(() => {
      this.#runCount -= 1;
    });
    const isUnfinished = report.state === 'put-off' || report.keptPacks > 0;
    this.#notBeforeMs = isUnfinished
      ? this.#nowMs() + PAUSE_FACTOR * report.durationMs
      : Number.NEGATIVE_INFINITY;
    return report;
  }
}

function stopped(): StillpointError {
  return new StillpointError('cancelled', {
    thing: 'collection',
    reason: 'it was stopped',
    remedy: 'What is left is freed by the next one.',
    permanent: false,
  });
}
