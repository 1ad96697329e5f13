/**
 * How fast the link to a receiver is: acknowledged bytes over the time in which some were on their way. Pure:
 * the clock comes from outside. Only bulky messages are measured (batches, blocks, nodes); small ones show
 * the round trip, not the speed.
 *
 * The sources of the speed, the best first:
 *
 * | source    | known                                   | worth                                           |
 * |-----------|-----------------------------------------|-------------------------------------------------|
 * | measured  | after half a second or 1 MiB under load | the last seconds count most                     |
 * | hint      | from an earlier run                     | dropped when the round trip shows that it was   |
 * |           |                                         | another link                                    |
 * | handshake | with the first connection               | its certificates took at most so long: the link |
 * |           |                                         | may be faster                                   |
 *
 * A limit (--limit-rate) bounds all of them, and is known before anything.
 */

import { MiB } from '../base/limits.js';

/** What is remembered of a link until the next run. */
export interface LinkHint {
  readonly bytesPerSecond: number;
  readonly roundTripMs: number | null;
}

export interface LinkSpeed {
  /** Null: nothing is known. */
  readonly bytesPerSecond: number | null;
  /** Acknowledged in this run; else it is a guess. */
  readonly isMeasured: boolean;
  /** Of the handshake: likely too low. */
  readonly isGuess: boolean;
  /** Of small packets on an idle link; null: no connection was made yet. */
  readonly roundTripMs: number | null;
}

export interface LinkMeterOptions {
  /** Monotonic, ms. */
  readonly now: () => number;
  /** In bytes per second, at this time; null for none. */
  readonly limit?: () => number | null;
}

/** After so much time under load what was measured before it counts half. */
const HALF_LIFE_MS = 4000;
/**
 * With less under load, what was measured is how fast the receiver's disk answers a small body, not the link.
 */
const SURE_MS = 500;
const SURE_BYTES = MiB;
/**
 * What a TLS handshake needs in one direction beyond its round trip: the receiver's two certificates, its key
 * share and proof. Counted at a relay: 2.1 KiB, and headers of packets.
 */
const HANDSHAKE_BYTES = 2300;
/** A connection that takes this much longer than it did when the hint was taken goes over another link. */
const ROUND_TRIP_FACTOR = 4;
const ROUND_TRIP_SLACK_MS = 50;

export class LinkMeter {
  readonly #now: () => number;
  readonly #limit: () => number | null;
  #bytes = 0;
  #busyMs = 0;
  #underWay = 0;
  #countedUntilMs = 0;
  #hint: LinkHint | null = null;
  #handshakeSpeed: number | null = null;
  #roundTripMs: number | null = null;

  constructor({ now, limit = () => null }: LinkMeterOptions) {
    this.#now = now;
    this.#limit = limit;
  }

  /**
   * A bulky message is on its way.
   * @returns to be called at its end, with its body's and its answer's bytes; null: it failed.
   */
  start(): (bytes: number | null) => void {
    // The first round trip after a pause carries nothing: it is over when the first bytes are acknowledged.
    if (this.#underWay === 0) this.#countedUntilMs = this.#now() + (this.#roundTripMs ?? 0);
    this.#underWay += 1;
    return (bytes) => {
      const now = this.#now();
      const elapsedMs = Math.max(0, now - this.#countedUntilMs);
      this.#countedUntilMs = Math.max(now, this.#countedUntilMs);
      this.#underWay -= 1;
      // Time that ended in a failure says nothing of the speed: nothing may have been there to carry.
      if (bytes === null) return;
      const kept = 0.5 ** (elapsedMs / HALF_LIFE_MS);
      this.#bytes = this.#bytes * kept + bytes;
      this.#busyMs = this.#busyMs * kept + elapsedMs;
    };
  }

  /**
   * What a new connection took: until TCP had it (one round trip), and from then on for TLS (one
   * more, and its certificates).
   */
  connected(connectMs: number, handshakeMs: number): void {
    this.#roundTripMs = Math.min(this.#roundTripMs ?? connectMs, connectMs);
    const transferMs = handshakeMs - this.#roundTripMs;
    if (transferMs <= 0) return;
    const speed = (HANDSHAKE_BYTES * 1000) / transferMs;
    this.#handshakeSpeed = Math.max(this.#handshakeSpeed ?? 0, speed);
  }

  suppose(hint: LinkHint): void {
    this.#hint = hint;
  }

  get speed(): LinkSpeed {
    const measured = this.#measured();
    const remembered = measured ?? this.#believedHint()?.bytesPerSecond ?? null;
    const known = remembered ?? this.#handshakeSpeed;
    const limit = this.#limit();
    const bytesPerSecond = known === null || limit === null ? (known ?? limit) : Math.min(known, limit);
    return {
      ...{ bytesPerSecond, isMeasured: measured !== null, roundTripMs: this.#roundTripMs },
      isGuess: remembered === null && limit === null && known !== null,
    };
  }

  /** What was measured, for the next run; null: nothing was, or a limit only. */
  get result(): LinkHint | null {
    const bytesPerSecond = this.#limit() === null ? this.#measured() : null;
    return bytesPerSecond === null ? null : { bytesPerSecond, roundTripMs: this.#roundTripMs };
  }

  #measured(): number | null {
    if (this.#bytes === 0 || (this.#busyMs < SURE_MS && this.#bytes < SURE_BYTES)) return null;
    // Less than a millisecond can't be told from none.
    return (this.#bytes * 1000) / Math.max(1, this.#busyMs);
  }

  #believedHint(): LinkHint | null {
    const before = this.#hint?.roundTripMs ?? null;
    const isOther =
      before !== null &&
      this.#roundTripMs !== null &&
      this.#roundTripMs > before * ROUND_TRIP_FACTOR + ROUND_TRIP_SLACK_MS;
    return isOther ? null : this.#hint;
  }
}
