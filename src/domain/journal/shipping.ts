/**
 * What an agent does with one journal of a tap at one receiver (docs/journal.md, "From the tap to the
 * receiver"). Pure: heads, answers and the time come from outside. One message is under way at a time, so
 * none is ever refused because of one before it; what one carries grows with the link.
 *
 * | state    | next()                                       | leaves by                      | to       |
 * |----------|----------------------------------------------|--------------------------------|----------|
 * | asking   | `begin`, after a pause if something failed   | what the receiver has          | shipping |
 * |          |                                              | it has ended there             | refused; |
 * |          |                                              | ... and the tap's, too         | ended    |
 * | shipping | `append` what the head has beyond that;      | any failure, a surprise        | asking   |
 * |          | `end` behind the last record of a broken one | the answer to `end`            | ended    |
 * | any      |                                              | a refusal for good             | refused  |
 * |          |                                              | the spool lacks what is needed | lost     |
 * | lost     | `end`, once the tap's is broken              | the answer                     | ended    |
 * | refused, | nothing                                      | -                              | -        |
 * | ended    |                                              |                                |          |
 *
 * Where a journal is refused or lost and the tap's is open, the tap is to break it: `breakReason`.
 */
import { isStillpointError } from '../base/errors.js';
import { JOURNAL_APPEND_BYTES_MAX, KiB, MiB } from '../base/limits.js';
import { Backoff, type Pauses } from '../base/retry.js';
import {
  compareStamps,
  type JournalAppended,
  type JournalEnd,
  type JournalMark,
  type StoredJournal,
} from './journal.js';

/** What a tap says of its journal. */
export interface ShippingHead {
  readonly state: 'open' | 'broken' | 'closed';
  /** All up to here may be read. */
  readonly ordinal: number;
  /** Where the head of a broken journal will end. */
  readonly lastOrdinal: number;
  readonly brokenStamp: string;
  readonly reason: string;
}

export type ShippingStep =
  | { readonly kind: 'begin' }
  /** Whole records after this one; null: from the first that the spool has. */
  | { readonly kind: 'append'; readonly after: JournalMark | null; readonly bytesMax: number }
  | { readonly kind: 'end'; readonly end: JournalEnd }
  /** Null: for another head. */
  | { readonly kind: 'wait'; readonly untilMs: number | null };

export interface ShippingFailure {
  readonly code: string;
  readonly reason: string;
}

const PAUSES: Pauses = { pauseMs: 1_000, pauseMaxMs: 30_000 };
/** A message that takes longer is followed by a smaller one, and one that is much faster by a larger one. */
const SLOW_MS = 4_000;
const FAST_MS = 1_000;
const BYTES_MIN = 64 * KiB;
const BYTES_FIRST = MiB;

const WAIT: ShippingStep = { kind: 'wait', untilMs: null };

export class JournalShipping {
  readonly #backoff: Backoff;
  #state: 'asking' | 'shipping' | 'lost' | 'refused' | 'ended' = 'asking';
  /** The last record that the receiver has, as far as is known. */
  #durable: JournalMark | null = null;
  #failure: ShippingFailure | null = null;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  /** A gap was found behind this ordinal: a second one there is for good. */
  #gapAfter: number | null = null;
  #bytesMax = BYTES_FIRST;

  /** @param random from 0 up to 1 */
  constructor(random: () => number) {
    this.#backoff = new Backoff(PAUSES, random);
  }

  /** Nothing is left to do here. */
  get isDone(): boolean {
    return this.#state === 'ended' || this.#state === 'refused';
  }

  /** What the receiver has; 0: nothing, or that is not known yet. */
  get durableOrdinal(): number {
    return this.#durable?.ordinal ?? 0;
  }

  get durable(): JournalMark | null {
    return this.#durable;
  }

  /** Why it can't go on, at least for now. Null: it can. */
  get failure(): ShippingFailure | null {
    return this.#failure;
  }

  /** Its records are needed no more, whatever becomes of them. */
  get isGivenUp(): boolean {
    return this.isDone || this.#state === 'lost';
  }

  /** A clause; null: the tap may go on with it. */
  get breakReason(): string | null {
    const isOver = this.#state === 'refused' || this.#state === 'lost';
    return isOver ? (this.#failure?.reason ?? 'its receiver does not take it') : null;
  }

  next(head: ShippingHead, nowMs: number): ShippingStep {
    if (this.isDone) return WAIT;
    if (nowMs < this.#notBeforeMs) return { kind: 'wait', untilMs: this.#notBeforeMs };
    if (this.#state === 'asking') return { kind: 'begin' };
    const isBroken = head.state === 'broken';
    if (this.#state === 'lost') return isBroken ? endOf(head) : WAIT;
    if (this.durableOrdinal < head.ordinal)
      return { kind: 'append', after: this.#durable, bytesMax: this.#bytesMax };
    return isBroken && this.durableOrdinal >= head.lastOrdinal ? endOf(head) : WAIT;
  }

  /** @param head as it was read after the answer had come */
  began(stored: StoredJournal, head: ShippingHead): void {
    if (this.#state !== 'asking') return;
    const { end, last } = stored;
    const fault = stored.audits.find((audit) => audit.fault !== null)?.fault ?? null;
    this.#durable = last;
    this.#state = 'shipping';
    if (end !== null || fault !== null) {
      // What it has ended with is what it was told, or the reason why it takes no more.
      if (head.state === 'broken') this.#state = 'ended';
      else this.#refuse('journal-closed', `its receiver has ended it: ${fault ?? end?.reason}`);
    } else if (this.durableOrdinal > head.ordinal) this.lost(OTHER_RECORDS);
    else if (this.durableOrdinal === head.ordinal) this.#goesWell();
  }

  /**
   * @param sent the last record of the message
   * @param cost of it, to know how large the next one may be
   */
  appended(
    sent: JournalMark,
    { last }: JournalAppended,
    cost: { readonly bytes: number; readonly tookMs: number },
  ): void {
    if (this.#state !== 'shipping') return;
    if (last === null || last.ordinal !== sent.ordinal) {
      // An earlier message that had been given up has arrived meanwhile; or records are gone there.
      this.#state = 'asking';
      return;
    }
    if (compareStamps(last.stamp, sent.stamp) !== 0) {
      this.lost(OTHER_RECORDS);
      return;
    }
    this.#durable = last;
    this.#gapAfter = null;
    this.#goesWell();
    if (cost.tookMs > SLOW_MS) this.#shrink();
    else if (cost.tookMs < FAST_MS && cost.bytes > this.#bytesMax / 2)
      this.#bytesMax = Math.min(JOURNAL_APPEND_BYTES_MAX, 2 * this.#bytesMax);
  }

  ended(): void {
    if (this.isDone) return;
    this.#state = 'ended';
    this.#failure = null;
  }

  /** A message failed. */
  failed(error: unknown, nowMs: number): void {
    if (this.isDone) return;
    const failure = isStillpointError(error)
      ? { code: error.code, reason: `${error.thing}: ${error.reason}` }
      : { code: 'internal', reason: (error as Error).message };
    const { code, reason } = failure;
    const isRefused = code === 'journal-closed' || code === 'bad-message';
    if (this.#state === 'lost' && (isRefused || code === 'journal-unknown')) {
      // Its end was all that was left to tell.
      this.ended();
    } else if (isRefused || (code === 'journal-gap' && this.#gapAfter === this.durableOrdinal)) {
      this.#refuse(code, reason);
    } else if (code === 'journal-gap') {
      // What the receiver has may be less than it was. If it is not, nothing can fill the gap.
      this.#gapAfter = this.durableOrdinal;
      this.#state = 'asking';
    } else {
      this.#failure = failure;
      this.#shrink();
      this.#notBeforeMs = nowMs + this.#backoff.next();
      if (this.#state !== 'lost') this.#state = 'asking';
    }
  }

  /** The spool could not be read now: it is tried again. */
  stalled(reason: string, nowMs: number): void {
    if (this.isGivenUp) return;
    this.#failure = { code: 'system', reason };
    this.#notBeforeMs = nowMs + this.#backoff.next();
  }

  /** The records that the receiver needs next are not to be had, ever. @param reason a clause */
  lost(reason: string): void {
    if (this.isDone) return;
    this.#state = 'lost';
    this.#failure = { code: 'journal-gap', reason };
  }

  #goesWell(): void {
    this.#failure = null;
    this.#backoff.reset();
  }

  #refuse(code: string, reason: string): void {
    this.#state = 'refused';
    this.#failure = { code, reason };
  }

  #shrink(): void {
    this.#bytesMax = Math.max(BYTES_MIN, this.#bytesMax / 2);
  }
}

const OTHER_RECORDS =
  'its receiver has other records of it than the spool: this machine may have been set back to an earlier state';

function endOf({ reason, brokenStamp, lastOrdinal }: ShippingHead): ShippingStep {
  return { kind: 'end', end: { reason, stamp: brokenStamp, lastOrdinal } };
}

/**
 * Up to which record a tap may forget a journal. Null: nothing may go.
 * @param shippings one for each receiver of the device
 */
export function releasable(
  shippings: readonly Pick<JournalShipping, 'isDone' | 'isGivenUp' | 'durableOrdinal'>[],
  head: ShippingHead,
): number | null {
  if (shippings.length === 0) return null;
  if (head.state === 'broken' && shippings.every(({ isDone }) => isDone)) return head.lastOrdinal;
  // Where it is given up, the tap is about to break it; until then others may be behind.
  if (shippings.every(({ isGivenUp }) => isGivenUp)) return null;
  const waiting = shippings.filter(({ isGivenUp }) => !isGivenUp);
  // A tap forgets a broken journal with its last record: not before all receivers were told of its end.
  const most = head.state === 'broken' ? head.lastOrdinal - 1 : head.ordinal;
  const lowest = Math.min(most, ...waiting.map(({ durableOrdinal }) => durableOrdinal));
  return lowest > 0 ? lowest : null;
}
