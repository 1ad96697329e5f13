/**
 * Runs the backups of this machine's devices and groups: by schedule, on demand, and for orders of devices.
 * One session a device, a limit at once; a group counts as one. src/domain/order/run-plan.ts decides when;
 * its table has the states of a job.
 *
 * | a device  | is there, as configured | is missing                       | is no longer configured       |
 * |-----------|-------------------------|----------------------------------|-------------------------------|
 * | named     | runs when it is due     | told; due when it is back        | forgotten                     |
 * | a match   | the same                | told until it is back, or its    | forgotten                     |
 * | of a path |                         | wildcards are removed            |                               |
 * | a group   | runs when it is due,    | told; due when it is back, or    | forgotten                     |
 * |           | and no member runs      | runs without it                  |                               |
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceSettings } from '../../config/agent-config.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import type { DevicePlan } from '../../domain/order/order.js';
import {
  afterClock,
  decide,
  failed,
  failedOnDemand,
  type Pause,
  type RunDecision,
  type RunRecord,
} from '../../domain/order/run-plan.js';
import type { BackupResult } from '../backup/options.js';
import { Slots } from '../common/slots.js';
import type { GroupBackupResult } from '../group/options.js';
import { type Job, jobOfOrder, runSettings } from './jobs.js';
import { Matches } from './matches.js';
import type { DaemonConfig, DaemonOptions, JobResult, OnJobEvent, Work } from './options.js';
import { viewDaemon } from './overview.js';
import { perform, type RunWish } from './perform.js';
import { lookFor, missingOf } from './presence.js';
import { isScheduled, notRunning, unknownJob } from './running.js';
import { type DaemonMemory, recallMemory, writeMemory } from './state.js';
import { type Entry, entryOf, JobTable } from './table.js';
import { type BesideView, type DaemonView, planOf } from './view.js';

const TICK_MS = 1_000;
/** How often wildcards are looked at. */
const EXPAND_MS = 60_000;
const ALIVE_MS = 120_000;
const NOTHING_BESIDE: BesideView = { receivers: [], journals: [] };

/** A group that a receiver leads: its devices here. */
export interface GroupOrderWish {
  /** Of the group. */
  readonly name: string;
  readonly devices: readonly DeviceSettings[];
  readonly full: boolean;
}

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #slots: Slots;
  readonly #startedAt: string;
  readonly #ends = new Set<Promise<unknown>>();
  #config: DaemonConfig;
  readonly #table: JobTable;
  #pause: Pause | null;
  #configProblem: string | null = null;
  #tickedAtMs = performance.now();
  readonly #matches: Matches;
  #expandAtMs = Number.NEGATIVE_INFINITY;
  #reloaded: Promise<unknown> = Promise.resolve();
  #saved: Promise<void> = Promise.resolve();

  private constructor(options: DaemonOptions, config: DaemonConfig, pause: Pause | null) {
    this.#options = options;
    this.#config = config;
    this.#pause = pause;
    this.#slots = new Slots(config.parallel);
    this.#table = new JobTable(options.log);
    this.#matches = options.matches ?? new Matches();
    this.#startedAt = new Date(options.nowMs()).toISOString();
  }

  /** @throws StillpointError `config` */
  static async open(options: DaemonOptions): Promise<Daemon> {
    const { stateDirectory, log, nowMs, random } = options;
    const config = await options.load();
    const memory = await recallMemory(stateDirectory, (reason) =>
      log.error({ reason }, 'what was remembered of runs is damaged: schedules count from now on'),
    );
    const daemon = new Daemon(options, config, memory.pause);
    await config.apply?.();
    await daemon.#expand(memory);
    // What ran when the last process ended goes on soon: blocks that had arrived are not sent again.
    for (const entry of daemon.#table.entries) {
      const { last, record } = entry.memory;
      if (last?.endedAt !== null || last === null) continue;
      const reason = 'the agent ended meanwhile';
      entry.memory = {
        ...entry.memory,
        last: { ...last, state: 'interrupted', endedAt: last.startedAt, reason },
        record: isScheduled(last.why)
          ? failed(record, runSettings(entry.job), nowMs(), random)
          : failedOnDemand(record),
      };
    }
    return daemon;
  }

  /** Until the signal is aborted; then what runs is parked. */
  async run(): Promise<void> {
    const { signal, tickMs = TICK_MS } = this.#options;
    while (!signal.aborted) {
      await this.tick().catch((error: Error) => this.#options.log.error({ err: error }, 'schedules failed'));
      await sleep(tickMs, undefined, { signal }).catch(() => undefined);
    }
    for (const { running } of [...this.#table.entries, ...this.#table.guests]) running?.cancel.abort();
    await Promise.all(this.#ends);
    await this.#saved;
  }

  /** Looks at the clock once, and begins what is due. What does not answer takes some seconds, no more. */
  async tick(): Promise<void> {
    this.#tickedAtMs = performance.now();
    const nowMs = this.#options.nowMs();
    if (nowMs >= this.#expandAtMs || this.#expandAtMs - nowMs > EXPAND_MS) await this.#expand();
    if (this.#slots.free === 0) return;
    const due = this.#table.entries.filter((entry) => this.#decide(entry, nowMs).kind === 'run');
    const { isThere, log, signal, backUp } = this.#options;
    const looked = await Promise.all(
      due.map(async (entry) => ({ entry, canRun: await lookFor(entry, isThere, nowMs, log) })),
    );
    // The longest waiting is first where there are more than may run.
    looked.sort((a, b) => a.entry.memory.record.anchorMs - b.entry.memory.record.anchorMs);
    for (const { entry, canRun } of looked) {
      // Meanwhile it may have been paused, begun on demand, or removed; or another with one of its devices.
      const decision = this.#decide(entry, nowMs);
      const isOurs = this.#table.entries.includes(entry);
      if (!canRun || !isOurs || decision.kind !== 'run' || this.#slots.free === 0) continue;
      const { full, why } = decision;
      const work: Work<JobResult> = (inner, onEvent) => backUp(entry.job, { full, signal: inner, onEvent });
      this.#perform(entry, { why, full, signal }, work).catch(() => undefined);
    }
  }

  #decide(entry: Entry, nowMs: number): RunDecision {
    const settings = runSettings(entry.job);
    const record = afterClock(entry.memory.record, settings, nowMs);
    if (record !== entry.memory.record) entry.memory = { ...entry.memory, record };
    const isRunning = this.#table.occupantOf(entry) !== null;
    return decide(record, settings, { nowMs, isRunning, isThere: true, pause: this.#pause });
  }

  /** @throws StillpointError `config`; then nothing is changed */
  reload(): Promise<void> {
    const done = this.#reloaded.then(() => this.#reload());
    this.#reloaded = done.catch(() => undefined);
    return done;
  }

  async #reload(): Promise<void> {
    const { load, log, nowMs } = this.#options;
    try {
      const config = await load();
      const found = await this.#matches.of(config.devices, this.#table.present());
      await config.apply?.();
      this.#config = config;
      this.#table.apply(config, found, nowMs());
    } catch (error) {
      this.#configProblem = (error as Error).message;
      log.error(
        { event: 'config-refused' satisfies LogEvent, reason: this.#configProblem },
        'the new configuration is refused; the old one stays',
      );
      throw error;
    }
    this.#configProblem = null;
    this.#slots.limit = this.#config.parallel;
    await this.#save();
    log.info(
      { event: 'config-applied' satisfies LogEvent, devices: this.#table.devices.length },
      'configuration applied',
    );
  }

  get parallel(): number {
    return this.#config.parallel;
  }

  /** For a watchdog: it still looks at the clock, or ends. */
  get isAlive(): boolean {
    return this.#options.signal.aborted || performance.now() - this.#tickedAtMs < ALIVE_MS;
  }

  /** For the receivers to show. */
  plans(): DevicePlan[] {
    const nowMs = this.#options.nowMs();
    return this.#table.entries.flatMap(({ job, memory }) => {
      if (job.group !== null) return [];
      const [{ enabled, orders }] = job.devices;
      return enabled && orders ? [planOf(job, memory, this.#pause, nowMs)] : [];
    });
  }

  /** Those that receivers may order backups of. */
  get devices(): readonly DeviceSettings[] {
    return this.#table.devices.filter(({ enabled }) => enabled);
  }

  get jobs(): readonly Job[] {
    return this.#table.entries.map(({ job }) => job);
  }

  /** A backup that somebody asks for now. @throws its error, `device-unknown`, `session-busy` */
  async backUpNow(name: string, full: boolean, signal: AbortSignal, onEvent: OnJobEvent): Promise<JobResult> {
    const entry = this.#table.entry(name);
    return this.#perform(entry, { why: 'asked', full, signal }, (inner, onInner) =>
      this.#options.backUp(entry.job, {
        ...{ full, signal: inner },
        onEvent: (event, device) => {
          onInner(event, device);
          onEvent(event, device);
        },
      }),
    );
  }

  /** A backup that a receiver has ordered. @throws StillpointError as above */
  async performOrder(
    device: DeviceSettings,
    full: boolean,
    signal: AbortSignal,
    work: Work<BackupResult>,
  ): Promise<BackupResult> {
    return this.#perform(this.#table.entry(device.name), { why: 'ordered', full, signal }, work);
  }

  /** The part of this machine in a group over several hosts. @throws StillpointError as above */
  async performGroupOrder(
    { name, devices, full }: GroupOrderWish,
    signal: AbortSignal,
    work: Work<GroupBackupResult>,
  ): Promise<GroupBackupResult> {
    for (const device of devices) this.#table.entry(device.name);
    const [first, ...others] = devices;
    if (first === undefined) throw unknownJob(name, 'the group has no device here');
    const entry = entryOf(jobOfOrder(name, [first, ...others]), this.#options.nowMs());
    this.#table.guests.add(entry);
    try {
      return await this.#perform(entry, { why: 'ordered', full, signal }, work);
    } finally {
      this.#table.guests.delete(entry);
    }
  }

  /** @throws StillpointError `device-unknown`, `session-unknown` if it does not run */
  cancel(name: string): void {
    const entry = this.#table.guest(name) ?? this.#table.entry(name);
    if (entry.running === null) throw notRunning(entry.job, this.#table.occupantOf(entry)?.job ?? null);
    entry.running.cancel.abort();
  }

  /** Scheduled runs only. @param name null: all. @param forMs null: until it is resumed */
  async pause(name: string | null, forMs: number | null): Promise<void> {
    const fromMs = this.#options.nowMs();
    await this.#setPause(name, { fromMs, untilMs: forMs === null ? null : fromMs + forMs });
  }

  async resume(name: string | null): Promise<void> {
    await this.#setPause(name, null);
    if (name !== null) return;
    for (const entry of this.#table.entries) this.#keep(entry, { pause: null });
    await this.#save();
  }

  /** A match of wildcards that is gone for good. @throws StillpointError `device-unknown` */
  async forget(name: string): Promise<void> {
    if (!this.#table.vanished.delete(name)) throw unknownJob(name, 'it has not vanished');
    await this.#save();
  }

  /** @param look whether devices are there now; default: as the last look found them */
  async view(beside: BesideView = NOTHING_BESIDE, look = true): Promise<DaemonView> {
    const { isThere } = this.#options;
    return viewDaemon(this.#table, {
      ...{ nowMs: this.#options.nowMs(), pause: this.#pause, startedAt: this.#startedAt, ...beside },
      parallel: this.#config.parallel,
      missing: async ({ job, running, missing }) =>
        running !== null ? [] : look ? missingOf(job, isThere) : missing,
      problems: this.#configProblem === null ? [] : [this.#configProblem],
    });
  }

  async #setPause(name: string | null, pause: Pause | null): Promise<void> {
    if (name === null) this.#pause = pause;
    else this.#keep(this.#table.entry(name), { pause });
    await this.#save();
  }

  /** @param remembered of the last process; default: of this one */
  async #expand(remembered?: DaemonMemory): Promise<void> {
    const config = this.#config;
    const nowMs = this.#options.nowMs();
    this.#expandAtMs = nowMs + EXPAND_MS;
    const found = await this.#matches.of(config.devices, remembered?.devices ?? this.#table.present());
    // Another configuration may have come meanwhile.
    if (config === this.#config) this.#table.apply(config, found, nowMs, remembered);
  }

  #keep(entry: Entry, change: Partial<RunRecord>): void {
    entry.memory = { ...entry.memory, record: { ...entry.memory.record, ...change } };
  }

  /** In turn. A state that can't be written keeps no backup from being made. */
  #save(): Promise<void> {
    this.#saved = this.#saved.then(() => {
      const memory = { ...this.#table.memories(), pause: this.#pause };
      return writeMemory(this.#options.stateDirectory, memory).catch((error: Error) =>
        this.#options.log.error({ reason: error.message }, 'what is remembered of runs could not be written'),
      );
    });
    return this.#saved;
  }

  #perform<T extends JobResult>(entry: Entry, wish: RunWish, work: Work<T>): Promise<T> {
    const { nowMs, random, signal, log } = this.#options;
    const context = { nowMs, random, signal, log, slots: this.#slots, table: this.#table };
    const run = perform(entry, wish, work, { ...context, save: () => this.#save() });
    const end = run.then(
      () => undefined,
      () => undefined,
    );
    this.#ends.add(end);
    void end.then(() => this.#ends.delete(end));
    return run;
  }
}
