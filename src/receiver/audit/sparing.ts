/**
 * How many entries others may cause: within a window, a number for each of them and a number for all
 * together. So an attacker can neither fill the disk nor soon push older entries out of a log of bounded
 * size. Entries that are not written are counted. Pure.
 */
export interface SparingOptions {
  readonly windowMs: number;
  readonly perKeyMax: number;
  readonly totalMax: number;
  readonly nowMs: () => number;
}

export class Sparing {
  readonly #options: SparingOptions;
  readonly #counts = new Map<string, number>();
  #total = 0;
  #suppressed = 0;
  #windowStartMs = Number.NEGATIVE_INFINITY;

  constructor(options: SparingOptions) {
    this.#options = options;
  }

  admit(key: string): boolean {
    const { windowMs, perKeyMax, totalMax, nowMs } = this.#options;
    if (Math.abs(nowMs() - this.#windowStartMs) >= windowMs) {
      this.#windowStartMs = nowMs();
      this.#counts.clear();
      this.#total = 0;
    }
    // Keys are only added with entries, so the table has at most totalMax.
    const count = this.#counts.get(key) ?? 0;
    if (count >= perKeyMax || this.#total >= totalMax) {
      this.#suppressed += 1;
      return false;
    }
    this.#counts.set(key, count + 1);
    this.#total += 1;
    return true;
  }

  /** How many were not admitted since this was last asked. */
  takeSuppressed(): number {
    const count = this.#suppressed;
    this.#suppressed = 0;
    return count;
  }
}
