/**
 * The runs of groups over several hosts that have not ended, and what hosts are told of them.
 * src/domain/group/run.ts decides. In memory: hosts of a run that is not known any more let everything go.
 *
 * A host has one open question in a run; its next one ends that, since its content is newer. A question is
 * answered as soon as there is a command for the report that it brought.
 */

import { commandFor } from '../../domain/group/commands.js';
import {
  advanceRun,
  isOver,
  kindOf,
  leftOut,
  newRun,
  type Run,
  type RunEvent,
  type RunSettings,
  sessionsOf,
} from '../../domain/group/run.js';
import type { GroupCommand, GroupReport, GroupStepRequest } from '../../domain/group/steps.js';
import type { OrderFailure } from '../../domain/order/order.js';
import type { ConsistencyKind } from '../../domain/point/point.js';

const TICK_MS = 500;
/** Hosts may ask again how a run ended. */
const ENDED_KEPT_MS = 10 * 60_000;

export interface GroupRunsOptions {
  readonly nowMs?: () => number;
  /** An open session of the agent, of this device. */
  readonly isOpen: (agent: string, sessionId: string, device: string) => boolean;
}

/** What the commits of a run must say, and what its points will. */
export interface ExpectedCommits {
  readonly name: string;
  /** Null: not all has been sent, or the run is over. */
  readonly commit: {
    readonly instant: string;
    readonly kind: ConsistencyKind;
    readonly sessions: readonly { readonly agent: string; readonly sessionId: string }[];
    /** As `AGENT/DEVICE`. */
    readonly missing: readonly string[];
  } | null;
}

interface Question {
  readonly report: GroupReport;
  readonly answer: (command: GroupCommand) => void;
}

interface Entry {
  run: Run;
  endedAtMs: number | null;
  /** By agent. */
  readonly questions: Map<string, Question>;
  readonly onChange: (run: Run, event: RunEvent) => void;
}

const UNKNOWN: GroupCommand = {
  do: 'abandon',
  reason: 'the receiver does not know this run: it has ended, or the receiver was restarted',
};

const STOPPED: OrderFailure = {
  code: 'cancelled',
  thing: 'the run',
  reason: 'the receiver stops',
  permanent: false,
};

export class GroupRuns {
  readonly #options: GroupRunsOptions;
  readonly #nowMs: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #endListeners = new Set<(runId: string) => void>();
  #ticking: NodeJS.Timeout | null = null;

  constructor(options: GroupRunsOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? Date.now;
  }

  /** @param onChange with each change of it; the last one is its end */
  start(settings: RunSettings, onChange: (run: Run, event: RunEvent) => void): Run {
    const run = newRun(settings, this.#nowMs());
    this.#entries.set(settings.id, { run, endedAtMs: null, questions: new Map(), onChange });
    this.#ticking ??= setInterval(() => this.#tick(), TICK_MS).unref();
    return run;
  }

  /** A host reports. A run that it is not a part of is as unknown to it as none. */
  step(agent: string, request: GroupStepRequest, signal?: AbortSignal): Promise<GroupCommand> {
    const { runId, report, waitMs } = request;
    const entry = this.#of(agent, runId);
    if (entry === null) return Promise.resolve(UNKNOWN);
    entry.questions.get(agent)?.answer({ do: 'wait' });
    return new Promise((resolve) => {
      const giveUp = () => answer({ do: 'wait' });
      const answer = (command: GroupCommand) => {
        if (entry.questions.get(agent) !== question) return;
        entry.questions.delete(agent);
        clearTimeout(timer);
        signal?.removeEventListener('abort', giveUp);
        resolve(command);
      };
      const timer = setTimeout(giveUp, waitMs);
      const question: Question = { report, answer };
      entry.questions.set(agent, question);
      signal?.addEventListener('abort', giveUp, { once: true });
      this.#apply(entry, {
        type: 'report',
        agent,
        report: this.#checked(entry, agent, report),
        nowMs: this.#nowMs(),
      });
      if (signal?.aborted === true) giveUp();
    });
  }

  /** Its order has ended without a point. */
  gone(runId: string, agent: string, failure: OrderFailure): void {
    const entry = this.#entries.get(runId);
    if (entry !== undefined) this.#apply(entry, { type: 'gone', agent, failure, nowMs: this.#nowMs() });
  }

  /** Null: the agent is not a part of such a run. */
  expected(agent: string, runId: string): ExpectedCommits | null {
    const entry = this.#of(agent, runId);
    if (entry === null) return null;
    const { run } = entry;
    const { name } = run.settings;
    const isOut = run.hosts.some((host) => host.agent === agent && host.state === 'out');
    if (run.phase !== 'committing' || run.instant === null || isOut) return { name, commit: null };
    const { instant } = run;
    return { name, commit: { instant, kind: kindOf(run), sessions: sessionsOf(run), missing: leftOut(run) } };
  }

  /**
   * All commits have come: from now on only `committed` or `fail` end it.
   * @returns false: it is over
   */
  deciding(runId: string): boolean {
    this.#applyTo(runId, { type: 'deciding' });
    return this.#entries.get(runId)?.run.phase === 'deciding';
  }

  committed(runId: string): void {
    this.#applyTo(runId, { type: 'committed' });
  }

  fail(runId: string, failure: OrderFailure): void {
    this.#applyTo(runId, { type: 'failed', failure });
  }

  /**
   * Somebody stops it.
   * @returns false: it is too late, its commits are with the store
   */
  cancel(runId: string, failure: OrderFailure): boolean {
    if (this.#entries.get(runId)?.run.phase === 'deciding') return false;
    this.fail(runId, failure);
    return true;
  }

  /** Called when a run is over, however that came. */
  onEnd(listener: (runId: string) => void): void {
    this.#endListeners.add(listener);
  }

  close(): void {
    if (this.#ticking !== null) clearInterval(this.#ticking);
    this.#ticking = null;
    for (const entry of this.#entries.values()) {
      this.#apply(entry, { type: 'failed', failure: STOPPED });
      for (const { answer } of entry.questions.values()) answer({ do: 'wait' });
    }
    this.#entries.clear();
  }

  #of(agent: string, runId: string): Entry | null {
    const entry = this.#entries.get(runId);
    return entry?.run.settings.hosts.some((host) => host.agent === agent) === true ? entry : null;
  }

  #applyTo(runId: string, event: RunEvent): void {
    const entry = this.#entries.get(runId);
    if (entry !== undefined) this.#apply(entry, event);
  }

  #apply(entry: Entry, event: RunEvent): void {
    const before = entry.run;
    entry.run = advanceRun(before, event);
    if (isOver(entry.run)) entry.endedAtMs ??= this.#nowMs();
    for (const [agent, { report, answer }] of [...entry.questions]) {
      const command = commandFor(entry.run, agent, report);
      if (command !== null) answer(command);
    }
    if (entry.run !== before) entry.onChange(entry.run, event);
    if (isOver(entry.run) && !isOver(before))
      for (const listener of this.#endListeners) listener(entry.run.settings.id);
  }

  /** Sessions that are not the agent's, or not of its members, are a failure of that host. */
  #checked({ run }: Entry, agent: string, report: GroupReport): GroupReport {
    const host = run.hosts.find((each) => each.agent === agent);
    // Said again, they may be points already.
    if (report.state !== 'transferred' || host === undefined || host.sent !== null) return report;
    const areOpen = host.devices.every((device, at) =>
      this.#options.isOpen(agent, report.sessionIds[at] ?? '', device),
    );
    if (areOpen && report.sessionIds.length === host.devices.length) return report;
    const reason = 'its sessions are not open, or not those of its members';
    return {
      state: 'failed',
      error: { code: 'bad-message', thing: `agent ${agent}`, reason, permanent: true },
    };
  }

  #tick(): void {
    const nowMs = this.#nowMs();
    for (const [id, entry] of this.#entries) {
      this.#apply(entry, { type: 'tick', nowMs });
      if (entry.endedAtMs !== null && nowMs - entry.endedAtMs >= ENDED_KEPT_MS) this.#entries.delete(id);
    }
    if (this.#entries.size > 0 || this.#ticking === null) return;
    clearInterval(this.#ticking);
    this.#ticking = null;
  }
}
