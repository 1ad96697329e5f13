/**
 * Begins rounds when they are due. src/domain/order/schedule.ts computes that from two durable facts: when
 * the schedule was made, and when its last round began. The latter is on disk before the round begins, so a
 * receiver that was down, or died in a round, knows it.
 *
 * | a schedule | leaves by                                             | to                  |
 * |------------|-------------------------------------------------------|---------------------|
 * | waiting    | its due time                                          | running             |
 * | running    | its round ends, all is done                           | waiting             |
 * |            | its round ends, something failed, and retries are left | pausing            |
 * | pausing    | the pause ends before the next due time               | running, of the rest |
 * |            | the next due time comes first                         | waiting             |
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { LogEvent } from '../../domain/base/log-events.js';
import type { PlannedRound } from '../../domain/order/order.js';
import type { ReceiverGroup } from '../../domain/order/receiver-group.js';
import { type RoundSummary, toRetry, withRetried } from '../../domain/order/round.js';
import { type RoundLeft, reaches } from '../../domain/order/round-choice.js';
import { SET_BACK_MS } from '../../domain/order/run-plan.js';
import { describeSchedule, dueAfter } from '../../domain/order/schedule.js';
import { readLastRound, type Schedule, timingOf, writeLastRound } from './remote-settings.js';

export interface ScheduledRound {
  readonly schedule: Schedule;
  /** All that the receiver has, as of the last look at the settings. */
  readonly groups: readonly ReceiverGroup[];
  /** At a retry: only that; null: all. */
  readonly left: RoundLeft | null;
}

export interface SchedulerOptions {
  readonly dir: string;
  readonly readSchedules: () => Promise<readonly Schedule[]>;
  readonly readGroups: () => Promise<readonly ReceiverGroup[]>;
  readonly log: Logger;
  readonly now: () => Date;
  readonly runRound: (round: ScheduledRound, signal: AbortSignal) => Promise<RoundSummary>;
  /** How often the clock is looked at: it may be set. */
  readonly tickMs?: number;
  /** Before the first retry; doubles. */
  readonly retryAfterMs?: number;
}

interface Entry {
  readonly schedule: Schedule;
  /** When the last round began, or the schedule was made. */
  anchorMs: number;
}

const TICK_MS = 1_000;
const SHOWN_CHARS_MAX = 400;
const RETRY_AFTER_MS = 10 * 60_000;

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #stop = new AbortController();
  /** By name, and so are the rounds that run. */
  #entries = new Map<string, Entry>();
  #groups: readonly ReceiverGroup[] = [];
  readonly #rounds = new Map<string, Promise<void>>();
  #timer: NodeJS.Timeout | null = null;

  private constructor(options: SchedulerOptions) {
    this.#options = options;
  }

  static async start(options: SchedulerOptions): Promise<Scheduler> {
    const scheduler = new Scheduler(options);
    await scheduler.reload();
    scheduler.#timer = setInterval(() => scheduler.#tick(), options.tickMs ?? TICK_MS);
    return scheduler;
  }

  /** Schedules or groups were changed. Rounds that run go on. */
  async reload(): Promise<void> {
    const { dir, log, readSchedules, readGroups } = this.#options;
    const groups = await readGroups();
    const entries = new Map<string, Entry>();
    for (const schedule of await readSchedules()) {
      const last = await readLastRound(dir, schedule.name);
      const lastMs = last === null ? 0 : Date.parse(last.startedAt);
      const anchorMs = Math.max(lastMs, Date.parse(schedule.setAt));
      const nextMs = dueAfter(timingOf(schedule), anchorMs);
      entries.set(schedule.name, { schedule, anchorMs });
      log.info(
        {
          schedule: schedule.name,
          timing: describeSchedule(timingOf(schedule)),
          next: nextMs === null ? null : new Date(nextMs).toISOString(),
        },
        'rounds are scheduled',
      );
    }
    this.#entries = entries;
    this.#groups = groups;
  }

  /** Those that an agent is a part of, for devices of its own or for a group. */
  planned(agent: string): PlannedRound[] {
    return [...this.#entries.values()]
      .filter(({ schedule }) => reaches(schedule, this.#groups, agent))
      .map(({ schedule, anchorMs }) => {
        const timing = timingOf(schedule);
        const nextMs = dueAfter(timing, anchorMs);
        const nextAt = nextMs === null ? null : new Date(nextMs).toISOString();
        return { name: schedule.name, schedule: timing.text.slice(0, SHOWN_CHARS_MAX), nextAt };
      });
  }

  /** Rounds that run are stopped; their backups are cancelled. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#stop.abort();
    await Promise.all(this.#rounds.values());
  }

  #tick(): void {
    const now = this.#options.now();
    for (const [name, entry] of this.#entries) {
      // The clock was set back by much: what seems to lie in the future does not count.
      if (entry.anchorMs - now.getTime() > SET_BACK_MS) entry.anchorMs = now.getTime();
      if (this.#rounds.has(name) || !isDue(entry, now.getTime())) continue;
      // From its beginning: what was missed meanwhile is made up for once.
      entry.anchorMs = now.getTime();
      const round = this.#run(entry, now)
        .catch((error: Error) => this.#options.log.error({ err: error, schedule: name }, 'the round failed'))
        .finally(() => this.#rounds.delete(name));
      this.#rounds.set(name, round);
    }
  }

  async #run(entry: Entry, started: Date): Promise<void> {
    const { dir, now, runRound, retryAfterMs = RETRY_AFTER_MS } = this.#options;
    const { schedule } = entry;
    const log = this.#options.log.child({ schedule: schedule.name });
    const startedAt = started.toISOString();
    await writeLastRound(dir, schedule.name, { startedAt, endedAt: null, summary: null });
    log.info({ event: 'round-begun' satisfies LogEvent, parallel: schedule.parallel }, 'round begins');
    const run = (left: RoundLeft | null) =>
      runRound({ schedule, groups: this.#groups, left }, this.#stop.signal);
    let summary = await run(null);
    for (let retries = 0; retries < schedule.retries; retries += 1) {
      const untilMs = now().getTime() + retryAfterMs * 2 ** retries;
      const left = toRetry(summary);
      if (left.agents.size + left.groups.size === 0) break;
      // It may end in the pause: what is known by then is kept.
      await writeLastRound(dir, schedule.name, { startedAt, endedAt: null, summary });
      if (!(await this.#pause(entry, untilMs))) break;
      const [agents, groups] = [[...left.agents.keys()], [...left.groups]];
      log.info({ agents, groups, retry: retries + 1 }, 'round goes back to what failed');
      summary = withRetried(summary, await run(left));
    }
    await writeLastRound(dir, schedule.name, { startedAt, endedAt: now().toISOString(), summary });
    const { items, ...figures } = summary;
    for (const { agent, device, group, state, reason } of items) {
      const of = group === null ? { agent, device } : { group };
      if (state !== 'done')
        log.warn({ event: 'round-item-failed' satisfies LogEvent, ...of, reason }, `round: ${state}`);
    }
    const level = figures.failed + figures.skipped > 0 ? 'warn' : 'info';
    log[level]({ event: 'round-ended' satisfies LogEvent, ...figures }, 'round ended');
  }

  /** @returns false if the next round is due before, or the receiver closes. */
  async #pause(entry: Entry, untilMs: number): Promise<boolean> {
    const { now, tickMs = TICK_MS } = this.#options;
    const { signal } = this.#stop;
    const nextMs = dueAfter(timingOf(entry.schedule), entry.anchorMs) ?? Number.POSITIVE_INFINITY;
    if (untilMs >= nextMs) return false;
    while (now().getTime() < untilMs && now().getTime() < nextMs && !signal.aborted)
      await sleep(tickMs, undefined, { signal }).catch(() => undefined);
    return !this.#stop.signal.aborted && now().getTime() < nextMs;
  }
}

function isDue({ schedule, anchorMs }: Entry, nowMs: number): boolean {
  const dueMs = dueAfter(timingOf(schedule), anchorMs);
  return dueMs !== null && dueMs <= nowMs;
}
