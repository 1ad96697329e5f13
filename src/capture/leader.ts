/**
 * Who leads an instant of several hosts, as one of them sees it: the members here are prepared, and the
 * leader says when programs come to rest, when the members close and when they are cut. What it says too late
 * has no effect: a gate and a freeze end at their own limits, and a member that is not closed any more
 * refuses its cut (ports.ts).
 */
import { StillpointError } from '../domain/base/errors.js';
import type { MemberStall } from '../domain/group/steps.js';

/** The leader has ended the try for all: nothing here is to blame. */
export class TryOver extends StillpointError {
  /** @param reason a clause */
  constructor(thing: string, reason: string) {
    super('device-changed', { thing, reason, permanent: false });
  }
}

/** What the instant itself needs of the leader (instant.ts). */
export interface LedInstant {
  /** How long hooks are held at most until the members are to close, from now. */
  readonly restMs: number;
  /** How long members are kept closed at most, each from when it closes. */
  readonly closedMs: number;
  /**
   * Programs here are at rest, and all is flushed. Resolves when all members are to close.
   * @throws TryOver
   */
  rested(): Promise<void>;
  /**
   * All members here are closed. Resolves when they are to be cut, with the instant of all hosts.
   * @throws TryOver
   */
  closed(): Promise<Date>;
  /** It is reached, and everybody goes on. @param stallsMs what it has cost, in the members' order */
  cut(stallsMs: readonly number[]): void;
}

/** One try. It ends with `cut` or `missed`. */
export interface LedTry extends Omit<LedInstant, 'cut'> {
  cut(stalls: readonly MemberStall[]): void;
  /** There is no instant, and everybody goes on. @param again another try may reach it */
  missed(error: unknown, again: boolean): void;
}

export interface InstantLeader {
  /**
   * All members here are ready. Resolves when programs are to rest: hooks begin then.
   * @param signal aborted: they are not ready any more
   */
  ready(signal: AbortSignal): Promise<LedTry>;
}
