/**
 * Leads one instant of all members (ports.ts says what these do), with one deadline over all of it:
 *
 *   hooks ready → flush and freeze → quiet → CLOSE all → CUT all → thaw → hooks released → views
 *
 * An instant of several hosts has a leader elsewhere (leader.ts). It is told when hooks are ready and all is
 * flushed, and again between CLOSE and CUT, and is waited for each time, no longer than it has allowed.
 *
 * | phase  | fails, is cancelled, or is too late                                                     |
 * |--------|-----------------------------------------------------------------------------------------|
 * | any    | gates open, then thaw, then hooks in reverse order (told that there is no instant), then |
 * |        | members released in reverse order: only what was acquired. One that fails is enough     |
 * | dead   | a gate opens at its limit, the freezer thaws, hooks see the end of their input, members  |
 * |        | are released by the process that holds them                                             |
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../domain/base/errors.js';
import { type ConsistencyKind, worstKind } from '../domain/point/point.js';
import { announcedHold } from './announced.js';
import { lateSnapshot } from './late.js';
import type { LedInstant } from './leader.js';
import { checkCanBeOne, checkIsOne, ownMoment, tookTooLong, watchUnused } from './one-instant.js';
import type { Cut, HoldOptions, Member, Snapshot, SnapshotProvider, Standstill } from './ports.js';
import { FREEZE_DEADLINE_MS, HOOK_DEADLINE_MS, Rest, type RestOptions } from './quiesce/rest.js';
import { QuietMembers } from './quiet-members.js';
import { reachedKind } from './reached-kind.js';
import { stallOf, standstillOf } from './standstill.js';
import { all, answerIn, GRACE_MS, inTime, releaseAll } from './waiting.js';

export interface InstantOptions extends RestOptions {
  /**
   * For all of it, from the first hook until everybody may write again. Default: the sum of
   * what its parts may take.
   */
  readonly deadlineMs?: number | undefined;
  /** Where no instant was reached the members stay, as late snapshots need it (late.ts). Default false. */
  readonly keepsMembers?: boolean | undefined;
  /** The instant is common to several hosts. Undefined: to these members alone. */
  readonly led?: LedInstant | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Nothing is asked for, nothing is frozen. */
export const NO_REST: RestOptions = { name: '', hooks: [], freeze: 'none' };

/** What flushing may take, before a freeze. */
const FLUSH_MS = 120_000;
/** Gates may be closed for so long, at most: as long as a freeze. */
const CLOSED_MS = FREEZE_DEADLINE_MS;

/** Of a timer: a longer one ends at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

export type Prepare = () => Promise<Member>;

/** @returns all of them, or none is left. */
export async function prepareAll(preparations: readonly Prepare[]): Promise<Member[]> {
  const members: Member[] = [];
  try {
    for (const prepare of preparations) members.push(await prepare());
    return members;
  } catch (error) {
    await releaseAll(members);
    throw error;
  }
}

/**
 * The members are its own from here on: released where it fails, unless they are kept for another try. One
 * whose view fails is released in any case.
 * @returns a snapshot for each member, in their order; all of one instant.
 * @throws StillpointError of a hook, of a quiet that was not found, of a member; `usage` (a mount point that
 * is none), `cancelled`, `device-changed` (no common instant, or not in time). A file system that can't be
 * frozen is a warning.
 */
export async function takeInstant(members: readonly Member[], options: InstantOptions): Promise<Snapshot[]> {
  const instant = new Instant(members, options);
  await instant.rest();
  return instant.take();
}

/** Instants of one device, for sessions. */
export function snapshotsOf(
  name: string,
  prepare: (path: string, options: HoldOptions) => Promise<Member>,
  rest: RestOptions,
): SnapshotProvider {
  return {
    name,
    hold: async (path, options) => {
      const member = await prepare(path, options);
      const { signal } = options;
      const { passes } = member;
      const take = () => takeOne(member, { ...rest, signal });
      const late = (lead: () => Promise<Snapshot>) =>
        passes === undefined ? null : lateSnapshot(member, passes, lead);
      const lead = () => takeOne(member, { ...rest, signal, keepsMembers: true });
      return announcedHold(path, member, rest, { signal, take, lead, late });
    },
  };
}

async function takeOne(member: Member, options: InstantOptions): Promise<Snapshot> {
  const [snapshot] = await takeInstant([member], options);
  if (snapshot === undefined) throw new Error('an instant of one member has one snapshot');
  return snapshot;
}

/** As `takeInstant` says, in two steps. After the first, late members may still copy. */
export class Instant {
  readonly #members: readonly Member[];
  readonly #options: InstantOptions;
  readonly #thing: string;
  /** Others take part, here or elsewhere. */
  readonly #isCommon: boolean;
  readonly #rest: Rest;
  readonly #endsAtMs: number;
  readonly #deadlineMs: number;
  readonly #signal: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  /** Aborted at the deadline. */
  readonly #late = new AbortController();
  /** Of a common one: when the last had closed. */
  #instant = new Date();
  /** Null: it was not asked for. */
  readonly #quiet: QuietMembers | null;

  constructor(members: readonly Member[], options: InstantOptions) {
    this.#members = members;
    this.#options = options;
    this.#thing = members.map(({ path }) => path).join(', ');
    this.#isCommon = members.length > 1 || options.led !== undefined;
    this.#deadlineMs = Math.min(TIMER_MS_MAX, options.deadlineMs ?? sumOfParts(options));
    this.#endsAtMs = performance.now() + this.#deadlineMs;
    this.#timer = setTimeout(() => this.#late.abort(), this.#deadlineMs);
    const { signal, quiet } = options;
    this.#quiet = quiet === undefined ? null : new QuietMembers(members, quiet.quietMs);
    this.#signal = signal === undefined ? this.#late.signal : AbortSignal.any([signal, this.#late.signal]);
    this.#rest = new Rest(
      members.map(({ path, shownAt, writesBeside, cutting, barrier }) => ({
        ...{ path, shownAt, writesBeside, cut: cutting },
        cutsItself: barrier === 'cut',
      })),
      options,
      { cancelled: signal, over: this.#signal, isCommon: this.#isCommon },
    );
  }

  /** Hooks are ready; of several hosts, those of all. It is over where this fails. */
  async rest(): Promise<void> {
    try {
      checkCanBeOne(this.#members, this.#options.led !== undefined);
      await this.#rest.begin(() => this.#leftMs());
      await this.#restWithOthers();
    } catch (error) {
      throw await this.abandon(error);
    }
  }

  /** It is over then. */
  async take(): Promise<Snapshot[]> {
    try {
      return await this.#take();
    } finally {
      clearTimeout(this.#timer);
    }
  }

  /** It is over. @returns what is to be thrown in place of the error */
  async abandon(error: unknown): Promise<unknown> {
    // Before the thaw, which may have to write; one that does not answer opens at its limit.
    await inTime(Promise.allSettled(this.#members.map((member) => member.open())));
    const outranking = await this.#rest.abandon(this.#tooLate(error));
    await this.#letGo();
    clearTimeout(this.#timer);
    return outranking;
  }

  async #take(): Promise<Snapshot[]> {
    let cuts: Cut[];
    const warnings: string[] = [];
    try {
      const checkUnused = await watchUnused(this.#members, this.#isCommon);
      await this.#rest.freeze(() => this.#leftMs());
      await this.#closeAll();
      const told = await this.#awaitLeader();
      cuts = await this.#cutAll(told);
      await checkUnused();
      warnings.push(...((await this.#quiet?.whoWrote()) ?? []));
    } catch (error) {
      throw await this.abandon(error);
    }
    const rested = await this.#rest.end();
    try {
      if (this.#isCommon) checkIsOne(this.#members, cuts, rested);
    } catch (error) {
      await this.#letGo();
      throw error;
    }
    warnings.push(...rested.warnings);
    const wasQuiet = this.#options.quiet !== undefined && warnings.length === rested.warnings.length;
    const kind = reachedKind(this.#members, cuts, rested, wasQuiet);
    const { frozenMs } = rested;
    const snapshots = await this.#viewAll(cuts, kind, { warnings, frozenMs });
    this.#options.led?.cut(cuts.map(({ closedMs }) => stallOf({ frozenMs, closedMs }) ?? 0));
    return this.#isCommon ? this.#asOne(snapshots) : snapshots;
  }

  /** What a view has found out about its cut goes for all. */
  #asOne(snapshots: readonly Snapshot[]): Snapshot[] {
    const kind = worstKind(snapshots.map((snapshot) => snapshot.kind));
    return snapshots.map((snapshot) => ({ ...snapshot, kind, instant: this.#instant }));
  }

  async #letGo(): Promise<void> {
    if (this.#options.keepsMembers !== true) await releaseAll(this.#members);
  }

  /** A whole number: what it is given to counts in these. */
  #leftMs(): number {
    return Math.max(1, Math.ceil(this.#endsAtMs - performance.now()));
  }

  async #closeAll(): Promise<void> {
    const { quiet } = this.#options;
    const endsAtMs = performance.now() + Math.min(quiet?.deadlineMs ?? 0, this.#leftMs());
    for (;;) {
      await this.#waitUntilQuiet(endsAtMs);
      const quietsMs = await this.#close();
      // What was written while they closed is known only now.
      if (this.#quiet === null || this.#quiet.isQuiet(quietsMs)) return;
      await this.#answerIn(all(this.#members.map((member) => member.open())), this.#closedMs());
    }
  }

  async #waitUntilQuiet(endsAtMs: number): Promise<void> {
    if (this.#quiet === null) return;
    const deadlineMs = Math.max(0, endsAtMs - performance.now());
    await this.#answerIn(this.#quiet.wait(this.#thing, deadlineMs, this.#signal), deadlineMs + GRACE_MS);
  }

  /** What may take long is done before any host holds writes back. */
  async #restWithOthers(): Promise<void> {
    const { led, quiet } = this.#options;
    if (led === undefined) return;
    const endsAtMs = performance.now() + led.restMs;
    const leftMs = (): number => Math.max(1, Math.ceil(endsAtMs - performance.now()));
    await this.#answerIn(this.#rest.flush(), led.restMs, this.#notTold(led.restMs, 'at rest'));
    await this.#waitUntilQuiet(performance.now() + Math.min(quiet?.deadlineMs ?? 0, leftMs()));
    await this.#answerIn(led.rested(), leftMs(), this.#notTold(led.restMs, 'at rest'));
  }

  async #close(): Promise<(number | null)[]> {
    this.#throwIfAborted();
    const closedMs = this.#closedMs();
    return this.#answerIn(
      all(this.#members.map((member) => member.close({ closedMs }))),
      closedMs + GRACE_MS,
    );
  }

  /** A whole number, too. */
  #closedMs(): number {
    const { freezeDeadlineMs = CLOSED_MS, led } = this.#options;
    return Math.ceil(Math.min(CLOSED_MS, freezeDeadlineMs, led?.closedMs ?? CLOSED_MS, this.#leftMs()));
  }

  /** @returns the instant of all hosts; null: it is of this one alone */
  async #awaitLeader(): Promise<Date | null> {
    const { led } = this.#options;
    if (led === undefined) return null;
    this.#throwIfAborted();
    const withinMs = this.#closedMs();
    return this.#answerIn(led.closed(), withinMs, this.#notTold(withinMs, 'closed'));
  }

  /** Nobody before all are closed: see ports.ts. @param told the instant, by the leader */
  async #cutAll(told: Date | null): Promise<Cut[]> {
    this.#throwIfAborted();
    this.#instant = told ?? new Date();
    const standstill = { takeCuts: () => this.#rest.takeCuts() };
    const first = await this.#cutFirst(standstill);
    const ownMs = this.#members.map(({ cutMs = 0 }) => cutMs);
    const longestMs = Math.max(CLOSED_MS, this.#options.freezeDeadlineMs ?? 0, ...ownMs) + GRACE_MS;
    const cuts = this.#members.map((member) => first?.get(member) ?? member.cut(standstill));
    return this.#answerIn(all(cuts), longestMs);
  }

  /** The one whose moment is the instant of all: the others are closed until it has ended. */
  async #cutFirst(standstill: Standstill): Promise<ReadonlyMap<Member, Promise<Cut>> | null> {
    const own = ownMoment(this.#members);
    if (own === null) return null;
    const limitMs = this.#closedMs();
    const cut = own.cut(standstill);
    const late = Symbol('late');
    const over = new AbortController();
    const timer = sleep(limitMs, late, { signal: over.signal }).catch(() => late);
    const first = await this.#answerIn(Promise.race([cut, timer]), limitMs + GRACE_MS);
    over.abort();
    if (first === late) throw tookTooLong(own.path, limitMs);
    this.#instant = (await cut).instant;
    return new Map([[own, cut]]);
  }

  async #viewAll(
    cuts: readonly Cut[],
    kind: ConsistencyKind,
    { warnings, frozenMs }: { readonly warnings: readonly string[]; readonly frozenMs: number | null },
  ): Promise<Snapshot[]> {
    const snapshots: Snapshot[] = [];
    try {
      for (const cut of cuts) {
        const snapshot = await cut.view(kind);
        const facts = standstillOf({ frozenMs, closedMs: cut.closedMs });
        snapshots.push({
          ...snapshot,
          warnings: [...snapshot.warnings, ...warnings],
          conclude: async () => {
            const conclusion = await snapshot.conclude();
            const all = { ...conclusion.facts, ...facts };
            return Object.keys(all).length === 0 ? conclusion : { ...conclusion, facts: all };
          },
        });
      }
      return snapshots;
    } catch (error) {
      for (const snapshot of snapshots.reverse()) await snapshot.release().catch(() => undefined);
      // The one that failed has released itself.
      await releaseAll(this.#members.slice(snapshots.length + 1));
      throw error;
    }
  }

  #throwIfAborted(): void {
    if (this.#signal.aborted) throw cancelledError(this.#thing);
  }

  /** A member may be far away, or stopped, and never answer: hooks and file systems do not wait for that. */
  #answerIn<Result>(
    work: Promise<Result>,
    withinMs: number,
    unanswered = this.#unanswered(withinMs),
  ): Promise<Result> {
    const [signal, cancelled] = [this.#signal, cancelledError(this.#thing)];
    return answerIn(work, { withinMs, unanswered, signal, cancelled });
  }

  #unanswered(withinMs: number): StillpointError {
    return new StillpointError('device-changed', {
      thing: this.#thing,
      reason: `there was no answer within ${Math.round(withinMs)} ms; no instant was taken`,
      remedy: 'See what has become of the process that holds it, such as its tap.',
      permanent: false,
    });
  }

  #notTold(withinMs: number, what: string): StillpointError {
    return new StillpointError('device-changed', {
      thing: this.#thing,
      reason: `the receiver did not say within ${Math.round(withinMs)} ms that all hosts are ${what}; no instant was taken`,
      remedy: 'See whether all hosts of the group answer.',
      permanent: false,
    });
  }

  /** What was cancelled by the deadline has that for its reason. */
  #tooLate(error: unknown): unknown {
    const isCancelled = error instanceof StillpointError && error.code === 'cancelled';
    if (!isCancelled || !this.#late.signal.aborted || this.#options.signal?.aborted === true) return error;
    return new StillpointError('device-changed', {
      thing: this.#thing,
      reason: `the instant was not taken within ${this.#deadlineMs} ms`,
      remedy: 'See what it waited for, or give it longer.',
      permanent: false,
      cause: error,
    });
  }
}

function cancelledError(thing: string): StillpointError {
  return new StillpointError('cancelled', { thing, reason: 'it was cancelled' });
}

function sumOfParts(options: InstantOptions): number {
  const { hooks, hookDeadlineMs = HOOK_DEADLINE_MS, freezeDeadlineMs = FREEZE_DEADLINE_MS, quiet } = options;
  const ledMs = options.led === undefined ? 0 : options.led.restMs + options.led.closedMs;
  const restMs = hooks.length * hookDeadlineMs + FLUSH_MS + (quiet?.deadlineMs ?? 0);
  return restMs + freezeDeadlineMs + CLOSED_MS + ledMs;
}
