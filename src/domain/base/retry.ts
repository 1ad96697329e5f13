/**
 * Whether, when and for how long a failed call is tried again. Everything that waits for a receiver or an
 * agent to come back goes through here. Pure: clock, pauses and chance come from outside.
 */
import { type ErrorCode, isStillpointError, type StillpointError } from './errors.js';

/**
 * The errors that pass by themselves, so that the same message is sent again after a pause. A store
 * that is full or fails may do better at the next backup, too; but a session, which holds a snapshot and
 * what it sent, gains nothing by waiting for that.
 */
const PASSING: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'connection-lost',
  'unreachable',
  'timeout',
  'busy',
  'session-busy',
]);

export function isPassing(error: unknown): error is StillpointError {
  return isStillpointError(error) && !error.permanent && PASSING.has(error.code);
}

/**
 * For questions, which hold nothing while they wait: a long restore outlives a disk of the receiver that
 * fails for a moment, and whatever else is not for good.
 */
export function isTemporary(error: unknown): error is StillpointError {
  return isStillpointError(error) && !error.permanent;
}

export interface Pauses {
  /**
   * Before the second attempt; doubles up to pauseMaxMs. Each pause is drawn from
   * three to five quarters of it.
   */
  readonly pauseMs: number;
  readonly pauseMaxMs: number;
}

/** Pauses that grow from failure to failure. */
export class Backoff {
  readonly #pauses: Pauses;
  readonly #random: () => number;
  #nextMs: number;

  /** @param random from 0 up to 1 */
  constructor(pauses: Pauses, random: () => number) {
    this.#pauses = pauses;
    this.#random = random;
    this.#nextMs = pauses.pauseMs;
  }

  /** The pause after one more failure. */
  next(): number {
    const pauseMs = this.#nextMs * (0.75 + this.#random() / 2);
    this.#nextMs = Math.min(2 * this.#nextMs, this.#pauses.pauseMaxMs);
    return pauseMs;
  }

  /** It went well: the next failure is a first one. */
  reset(): void {
    this.#nextMs = this.#pauses.pauseMs;
  }
}

export interface RetryPolicy extends Pauses {
  /** Which failures are worth another attempt. Default: `isPassing`. */
  readonly passes?: (error: unknown) => error is StillpointError;
  /**
   * From the first failure, since a message may be worked at for longer and then fail for the first time:
   * what still fails then has failed for good.
   */
  readonly patienceMs: number;
  /**
   * When something last went well beside these attempts; patience begins anew then. On the clock of `now`.
   */
  readonly progressMs?: () => number;
  /** Before the pause; what fails for good is thrown alone. */
  readonly onFailure?: (error: StillpointError) => void;
  /** Monotonic, ms. */
  readonly now: () => number;
  /** Rejects where waiting is given up. */
  readonly sleep: (ms: number) => Promise<void>;
  readonly random: () => number;
}

/** @param call is told how many attempts have failed */
export async function retry<T>(policy: RetryPolicy, call: (failures: number) => Promise<T>): Promise<T> {
  const { patienceMs, now, sleep, random, onFailure, passes = isPassing } = policy;
  const { progressMs = () => Number.NEGATIVE_INFINITY } = policy;
  const backoff = new Backoff(policy, random);
  let failedMs: number | null = null;
  for (let failures = 0; ; failures += 1) {
    try {
      return await call(failures);
    } catch (error) {
      failedMs ??= now();
      const leftMs = Math.max(failedMs, progressMs()) + patienceMs - now();
      if (!passes(error) || leftMs <= 0) throw error;
      onFailure?.(error);
      await sleep(Math.min(backoff.next(), leftMs));
    }
  }
}
