/**
 * This host's part in a group over several hosts (src/domain/group/steps.ts): what it reports to the
 * receiver, again and again, and what the receiver tells it to do with that.
 *
 * | state       | reports       | is told           | here                                                  |
 * |-------------|---------------|-------------------|-------------------------------------------------------|
 * | preparing   | `preparing`   | -                 | all are ready → ready                                 |
 * | ready       | `ready`       | `rest` → resting  | one is not ready any more → preparing                 |
 * | resting     | `ready`       | `open` → over     | all is at rest → rested; missed → preparing           |
 * | rested      | `rested`      | `close` → closing;| missed → preparing                                    |
 * |             |               | `open` → over     |                                                       |
 * | closing     | `rested`      | `open` → over     | all are closed → closed; missed → preparing           |
 * | closed      | `closed`      | `cut` → cutting;  | the link breaks → over; missed → preparing            |
 * |             |               | `open` → over     |                                                       |
 * | over        | nothing       | -                 | it is let go → preparing                              |
 * | cutting     | nothing       | -                 | all are cut → cut; missed → preparing                 |
 * | cut         | `cut`         | -                 | all have arrived → transferred                        |
 * | transferred | `transferred` | `commit` → ended  | -                                                     |
 * | ended       | nothing       | -                 | -                                                     |
 *
 * `abandon`, and a receiver that does not answer for long, end it in each state; a failure here does, too,
 * and is reported as `failed`. `missed` and `cut` are told once at least before what follows them. What a
 * state does not wait for, and commands of an earlier try, have no effect: they were late, or came before.
 */
import { type LedTry, TryOver } from '../../capture/leader.js';
import { StillpointError } from '../../domain/base/errors.js';
import { Backoff, isTemporary } from '../../domain/base/retry.js';
import type { GroupCommand, GroupReport, MemberStall } from '../../domain/group/steps.js';
import type { OrderPort } from '../../protocol/port/order.js';
import { RETRY_DEFAULT } from '../../protocol/retry.js';
import { failureOf } from '../common/failure.js';
import type { CommonCommit, GroupLeader, Transferred } from './options.js';
import { Waiting, waitFor } from './waiting.js';

export type GroupStepPort = Pick<OrderPort, 'groupStep'>;

export interface RemoteLeaderOptions {
  readonly steps: GroupStepPort;
  readonly runId: string;
  /** Of the group. */
  readonly name: string;
  readonly everyMs?: number;
  /** A receiver that does not answer for so long has given the group up. */
  readonly patienceMs?: number;
}

/** The receiver hears so often that this host is alive. */
const EVERY_MS = 20_000;
const PATIENCE_MS = 10 * 60_000;
/** An answer that came before its time, and says nothing. */
const PAUSE_MS = 200;
/** For the last report. */
const PARTING_MS = 5_000;

/** Reports that have to arrive before what follows them. */
const TOLD_FIRST: ReadonlySet<GroupReport['state']> = new Set(['missed', 'cut']);

export class RemoteLeader implements GroupLeader {
  readonly #options: RemoteLeaderOptions;
  readonly #thing: string;
  #report: GroupReport = { state: 'preparing' };
  /** The report has been answered. */
  #isTold = false;
  #next: GroupReport | null = null;
  /** Aborted when there is another report. */
  #changed = new AbortController();
  /** Of the last command to rest. */
  #try = 0;
  /** In `ready`, `rested` and `closed`: what was waited for has come, or can't come any more. */
  #isObeyed = false;
  /** The leader has ended the try. */
  #isOpened = false;
  #hasCut = false;
  #toRest: Waiting<LedTry> | null = null;
  #toClose: Waiting<void> | null = null;
  #toCut: Waiting<Date> | null = null;
  #toCommit: Waiting<CommonCommit> | null = null;
  #end: unknown = null;
  readonly #gaveUp = new AbortController();
  /** There is nothing more to report. */
  readonly #over = new AbortController();
  readonly #loop: Promise<void>;

  /** Begins to report. */
  constructor(options: RemoteLeaderOptions) {
    this.#options = options;
    this.#thing = `group ${options.name}`;
    this.#loop = this.#run();
  }

  /** Aborted when the group is given up: `end` says why. */
  get signal(): AbortSignal {
    return this.#gaveUp.signal;
  }

  /** Null: it goes on, or has ended well. */
  get end(): unknown {
    return this.#end;
  }

  get hasCut(): boolean {
    return this.#hasCut;
  }

  ready(signal: AbortSignal): Promise<LedTry> {
    const toRest = new Waiting<LedTry>();
    this.#toRest = toRest;
    this.#tell({ state: 'ready', try: this.#try + 1 });
    const withdraw = (): void => {
      if (this.#toRest !== toRest || this.#hasCut) return;
      toRest.reject(this.#tryOver('a member here is not ready any more'));
      this.#tell({ state: 'preparing' });
    };
    signal.addEventListener('abort', withdraw, { once: true });
    if (this.#end !== null) toRest.reject(this.#end);
    else if (signal.aborted) withdraw();
    return toRest.promise;
  }

  transferred(facts: Transferred): Promise<CommonCommit> {
    const toCommit = new Waiting<CommonCommit>();
    this.#toCommit = toCommit;
    this.#tell({ state: 'transferred', ...facts });
    if (this.#end !== null) toCommit.reject(this.#end);
    return toCommit.promise;
  }

  /** The run is over here. @param error why; null: all have committed. Does not reject */
  async close(error: unknown): Promise<void> {
    if (error !== null && this.#end === null) {
      this.#tell({ state: 'failed', error: failureOf(error) });
      await waitFor(PARTING_MS, this.#over.signal);
    }
    this.#over.abort();
    this.#changed.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { everyMs = EVERY_MS, patienceMs = PATIENCE_MS } = this.#options;
    const backoff = new Backoff(RETRY_DEFAULT, Math.random);
    let heardAtMs = performance.now();
    while (!this.#over.signal.aborted) {
      if (this.#isSilent) {
        await waitFor(everyMs, this.#changed.signal);
        continue;
      }
      const [report, changed, fromMs] = [this.#report, this.#changed.signal, performance.now()];
      try {
        const command = await this.#ask(report, changed);
        heardAtMs = performance.now();
        backoff.reset();
        if (command.do === 'abandon') this.#giveUp(abandoned(this.#thing, command.reason));
        else if (report === this.#report) this.#answered(command);
        if (report !== this.#report || this.#isSilent) continue;
        const leftMs = fromMs + everyMs - performance.now();
        await waitFor(Math.max(this.#isWaiting ? Math.min(PAUSE_MS, leftMs) : leftMs, 1), changed);
      } catch (error) {
        if (changed.aborted) continue;
        if (report.state === 'closed') this.#linkBroke(error as Error);
        else if (!isTemporary(error) || performance.now() - heardAtMs > patienceMs) this.#giveUp(error);
        else await waitFor(Math.min(backoff.next(), everyMs), changed);
      }
    }
  }

  #ask(report: GroupReport, changed: AbortSignal): Promise<GroupCommand> {
    const { steps, runId, everyMs = EVERY_MS } = this.#options;
    const isUrgent = this.#next !== null || (TOLD_FIRST.has(report.state) && !this.#isTold);
    const waitMs = isUrgent || this.#isObeyed || report.state === 'failed' ? 0 : everyMs;
    return steps.groupStep({ runId, report, waitMs }, changed);
  }

  /** What it has told to the receiver does not hold any more, and what holds is not known yet. */
  get #isSilent(): boolean {
    const { state } = this.#report;
    return this.#isObeyed && (state === 'closed' || (isBeforeClosed(state) && this.#isOpened));
  }

  /** It waits for a command other than `abandon`. */
  get #isWaiting(): boolean {
    const { state } = this.#report;
    return !this.#isObeyed && (isBeforeClosed(state) || state === 'closed' || state === 'transferred');
  }

  #answered(command: GroupCommand): void {
    this.#isTold = true;
    if (this.#report.state === 'failed') this.#over.abort();
    else if (this.#next !== null) this.#become(this.#next);
    this.#obey(command);
  }

  #obey(command: GroupCommand): void {
    const { state } = this.#report;
    if (command.do === 'commit' && state === 'transferred') this.#commit(command);
    else if (command.do === 'rest' && state === 'ready') this.#rest(command);
    else if (command.do === 'open' && command.try >= this.#try && this.#isInTry) this.#open();
    else if (!('try' in command) || command.try !== this.#try || this.#isObeyed) return;
    else if (command.do === 'close' && state === 'rested') {
      this.#isObeyed = true;
      this.#toClose?.resolve();
    } else if (command.do === 'cut' && state === 'closed') {
      this.#isObeyed = true;
      this.#toCut?.resolve(new Date(command.instant));
    }
  }

  /** Between the command to rest and the one to cut. */
  get #isInTry(): boolean {
    const { state } = this.#report;
    return state === 'rested' || (state === 'ready' ? this.#isObeyed : state === 'closed' && !this.#isObeyed);
  }

  #open(): void {
    this.#isOpened = true;
    this.#isObeyed = true;
    const over = this.#tryOver('the receiver has ended this try: another host was not ready');
    for (const waiting of [this.#toClose, this.#toCut]) waiting?.reject(over);
  }

  #rest(command: Extract<GroupCommand, { do: 'rest' }>): void {
    if (this.#isObeyed || command.try <= this.#try) return;
    this.#try = command.try;
    if (command.try !== this.#reportedTry) this.#report = { state: 'ready', try: command.try };
    this.#isObeyed = true;
    this.#isOpened = false;
    this.#toRest?.resolve(this.#ledTry(command));
  }

  #commit({ kind, group }: CommonCommit): void {
    this.#toCommit?.resolve({ kind, group });
    this.#over.abort();
  }

  #ledTry({ try: number, restMs, closedMs }: Extract<GroupCommand, { do: 'rest' }>): LedTry {
    const says = <Told>(report: GroupReport, waiting: Waiting<Told>): Promise<Told> => {
      if (this.#end !== null) waiting.reject(this.#end);
      else if (this.#isOpened) waiting.reject(this.#tryOver('the receiver has ended this try'));
      else this.#tell(report);
      return waiting.promise;
    };
    return {
      ...{ restMs, closedMs },
      rested: () => {
        this.#toClose = new Waiting();
        return says({ state: 'rested', try: number }, this.#toClose);
      },
      closed: () => {
        this.#toCut = new Waiting();
        return says({ state: 'closed', try: number }, this.#toCut);
      },
      cut: (stalls: readonly MemberStall[]) => {
        this.#hasCut = true;
        this.#tell({ state: 'cut', try: number, stalls });
      },
      missed: (error, again) => {
        if (!this.#isOpened) this.#tell({ state: 'missed', try: number, again, error: failureOf(error) });
        this.#tell({ state: 'preparing' });
      },
    };
  }

  /** The command to cut may have been on its way: the receiver hears that this host has missed it. */
  #linkBroke({ message }: Error): void {
    this.#toCut?.reject(this.#tryOver(`the link to the receiver broke while all were closed: ${message}`));
    this.#isObeyed = true;
  }

  get #reportedTry(): number {
    return 'try' in this.#report ? this.#report.try : 0;
  }

  #tell(report: GroupReport): void {
    if (this.#over.signal.aborted) return;
    if (TOLD_FIRST.has(this.#report.state) && !this.#isTold) this.#next = report;
    else this.#become(report);
  }

  #become(report: GroupReport): void {
    this.#report = report;
    [this.#next, this.#isTold, this.#isObeyed] = [null, false, false];
    const before = this.#changed;
    this.#changed = new AbortController();
    before.abort();
  }

  #giveUp(error: unknown): void {
    this.#end ??= error;
    this.#gaveUp.abort();
    this.#over.abort();
    for (const waiting of [this.#toRest, this.#toClose, this.#toCut, this.#toCommit]) waiting?.reject(error);
  }

  #tryOver(reason: string): TryOver {
    return new TryOver(this.#thing, reason);
  }
}

function isBeforeClosed(state: GroupReport['state']): boolean {
  return state === 'ready' || state === 'rested';
}

function abandoned(thing: string, reason: string): StillpointError {
  return new StillpointError('group-failed', {
    thing,
    reason: `the receiver gave it up: ${reason}`,
    permanent: false,
  });
}
