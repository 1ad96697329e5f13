/**
 * Failed enrolments per address (a /64 of IPv6): after a number of them in a window, further ones are refused
 * unseen until it has passed. Secrets have 128 bits and can't be guessed; this bounds the work and the log
 * lines that guessing costs.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { networkOf } from './network.js';

const FAILURES_MAX = 10;
const WINDOW_MS = 60_000;
/** Addresses remembered; the oldest gives way. */
const ADDRESSES_MAX = 4096;

interface Failures {
  readonly sinceMs: number;
  count: number;
}

export class Attempts {
  readonly #failures = new Map<string, Failures>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** @throws StillpointError `busy` */
  admit(address: string): void {
    if ((this.#current(address)?.count ?? 0) < FAILURES_MAX) return;
    throw new StillpointError('busy', {
      thing: 'enrolment',
      reason: 'too many attempts from this address have failed',
      remedy: 'Wait a minute.',
      permanent: false,
    });
  }

  failed(address: string): void {
    const failures = this.#current(address) ?? { sinceMs: this.#nowMs(), count: 0 };
    failures.count += 1;
    const network = networkOf(address);
    this.#failures.delete(network);
    this.#failures.set(network, failures);
    const [oldest] = this.#failures.keys();
    if (this.#failures.size > ADDRESSES_MAX && oldest !== undefined) this.#failures.delete(oldest);
  }

  #current(address: string): Failures | null {
    const failures = this.#failures.get(networkOf(address));
    return failures !== undefined && this.#nowMs() - failures.sinceMs < WINDOW_MS ? failures : null;
  }
}
