/**
 * Begins rounds when they are due. src/domain/order/schedule.ts computes that from two durable facts: when
 * the schedule was made, and when the last round began. The latter is on disk before the round begins, so a
 * receiver that was down, or died in a round, knows it.
 */
import type { Logger } from 'pino';
import type { RoundSummary } from '../../domain/order/round.js';
import { type Calendar, describeTiming, dueAfter } from '../../domain/order/schedule.js';
import { readLastRound, readSchedule, type Schedule, writeLastRound } from './remote-settings.js';

export interface SchedulerOptions {
  readonly dir: string;
  readonly log: Logger;
  readonly now: () => Date;
  readonly runRound: (schedule: Schedule, signal: AbortSignal) => Promise<RoundSummary>;
  /** How often the clock is looked at: it may be set. */
  readonly tickMs?: number;
}

const TICK_MS = 1_000;
const DAY_MS = 86_400_000;

/** Of this machine's time zone. A day's number is that of its date, counted as if there were no zones. */
export const LOCAL_CALENDAR: Calendar = {
  dayOf: (instantMs) => {
    const date = new Date(instantMs);
    return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / DAY_MS;
  },
  instantOf: (day, minute) => {
    const date = new Date(day * DAY_MS);
    const [year, month, dayOfMonth] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
    return new Date(year, month, dayOfMonth, Math.floor(minute / 60), minute % 60).getTime();
  },
};

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #stop = new AbortController();
  #schedule: Schedule | null = null;
  #nextMs = Number.POSITIVE_INFINITY;
  #round: Promise<void> | null = null;
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

  /** The schedule was changed. A round that runs goes on. */
  async reload(): Promise<void> {
    const { dir, log } = this.#options;
    this.#schedule = await readSchedule(dir);
    if (this.#schedule === null) return;
    const last = await readLastRound(dir);
    const lastMs = last === null ? 0 : Date.parse(last.startedAt);
    this.#plan(Math.max(lastMs, Date.parse(this.#schedule.setAt)));
    log.info(
      { timing: describeTiming(this.#schedule.timing), next: new Date(this.#nextMs).toISOString() },
      'rounds are scheduled',
    );
  }

  /** A round that runs is stopped; its backups are cancelled. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#stop.abort();
    await this.#round;
  }

  #plan(afterMs: number): void {
    if (this.#schedule !== null) this.#nextMs = dueAfter(this.#schedule.timing, afterMs, LOCAL_CALENDAR);
  }

  #tick(): void {
    const now = this.#options.now();
    if (this.#schedule === null || this.#round !== null || now.getTime() < this.#nextMs) return;
    // From its beginning: what was missed meanwhile is made up for once.
    this.#plan(now.getTime());
    this.#round = this.#run(this.#schedule, now)
      .catch((error: Error) => this.#options.log.error({ err: error }, 'the round failed'))
      .finally(() => {
        this.#round = null;
      });
  }

  async #run(schedule: Schedule, started: Date): Promise<void> {
    const { dir, log, now, runRound } = this.#options;
    const startedAt = started.toISOString();
    await writeLastRound(dir, { startedAt, endedAt: null, summary: null });
    log.info({ parallel: schedule.parallel }, 'round begins');
    const summary = await runRound(schedule, this.#stop.signal);
    await writeLastRound(dir, { startedAt, endedAt: now().toISOString(), summary });
    const { items, ...figures } = summary;
    for (const { agent, device, state, reason } of items) {
      if (state !== 'done') log.warn({ agent, device, reason }, `round: ${state}`);
    }
    const level = figures.failed + figures.skipped > 0 ? 'warn' : 'info';
    log[level](figures, 'round ended');
  }
}
