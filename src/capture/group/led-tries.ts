/**
 * The tries for an instant of several hosts, as one of them takes its part (../leader.ts). Of each try the
 * first half is led here, until all hosts are at rest: it may take minutes, for others to copy or for their
 * hooks, and late devices go on copying meanwhile.
 *
 * | a try   | goes on when                           | ends with an error, or when a device leaves        |
 * |---------|----------------------------------------|----------------------------------------------------|
 * | asked   | the leader says that programs may rest | there is none: the leader has ended, or hears of it |
 * | resting | all hosts are: members are to close    | hooks are let go; the caller reports it as missed  |
 * | ready   | it is taken                            | as the instant says                                |
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Instant } from '../instant.js';
import { type InstantLeader, type LedTry, TryOver } from '../leader.js';
import type { RestOptions } from '../quiesce/rest.js';
import { ledFor, noting, type Seat } from './seat.js';

/** For so long late ones wait for other hosts, before they catch up again. */
const KEEP_FRESH_MS = 5_000;
/** Of tries that were missed here; those that the leader has ended count less, and not for ever either. */
const MISSED_MAX = 5;
const ENDED_COUNTS = 1 / 4;

/** Its first half. */
export interface BegunTry {
  /** Undefined: it was never told to rest. */
  readonly led: LedTry | undefined;
  /** Null: it has failed. */
  readonly instant: Instant | null;
  readonly error: unknown;
}

export class LedTries {
  readonly #leader: InstantLeader;
  readonly #rest: RestOptions;
  #next: Promise<BegunTry> | null = null;
  /** Of the one that was begun. */
  #stop = new AbortController();
  #isToldToClose = false;
  #missed = 0;

  constructor(leader: InstantLeader, rest: RestOptions) {
    this.#leader = leader;
    this.#rest = rest;
  }

  /** Other hosts are closing: there is no time left to catch up. */
  get isToldToClose(): boolean {
    return this.#isToldToClose;
  }

  /**
   * @param seats all that take part, which are ready
   * @returns 'behind': late ones have to catch up, and then it is asked for again. Else the members are to
   * close at once, or it has failed
   */
  async begun(seats: readonly Seat[]): Promise<BegunTry | 'behind'> {
    this.#next ??= this.#begin(seats);
    const isLate = seats.some(({ member }) => member?.passes !== undefined);
    const begun = isLate ? await unlessLater(this.#next) : await this.#next;
    if (begun === 'behind') return begun;
    [this.#next, this.#isToldToClose] = [null, false];
    return begun;
  }

  /** A device leaves: it comes to its end. */
  stop(): void {
    this.#stop.abort();
  }

  /** It has ended without an instant. @returns whether that was too often */
  missed(error: unknown): boolean {
    this.#missed += error instanceof TryOver ? ENDED_COUNTS : 1;
    return this.#missed > MISSED_MAX;
  }

  /** There won't be any more, for this reason. Does not reject */
  async close(reason: unknown): Promise<void> {
    this.#stop.abort();
    const left = await this.#next;
    this.#next = null;
    await left?.instant?.abandon(reason);
    left?.led?.missed(reason, false);
  }

  async #begin(seats: readonly Seat[]): Promise<BegunTry> {
    this.#stop = new AbortController();
    this.#isToldToClose = false;
    const { signal } = this.#stop;
    let led: LedTry | undefined;
    try {
      led = await this.#leader.ready(signal);
      const options = { ...this.#rest, keepsMembers: true, signal, led: ledFor(seats, led) };
      const instant = new Instant(seats.flatMap(noting), options);
      await instant.rest();
      this.#isToldToClose = true;
      return { led, instant, error: null };
    } catch (error) {
      return { led, instant: null, error };
    }
  }
}

async function unlessLater(begun: Promise<BegunTry>): Promise<BegunTry | 'behind'> {
  const over = new AbortController();
  const late = sleep(KEEP_FRESH_MS, 'behind' as const, { signal: over.signal });
  return Promise.race([begun, late.catch(() => 'behind' as const)]).finally(() => over.abort());
}
