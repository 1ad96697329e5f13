/**
 * Runs the backups of this machine's devices: by schedule, on demand, and for orders, which come through
 * `perform` too. One session a device, a limit at once. src/domain/order/run-plan.ts decides when; its table
 * has the states of a device.
 *
 * | a device  | is there, as configured | is missing                       | is no longer configured       |
 * |-----------|-------------------------|----------------------------------|-------------------------------|
 * | named     | runs when it is due     | told; due when it is back        | forgotten                     |
 * | a match   | the same                | told until it is back, or its    | forgotten                     |
 * | of a path |                         | wildcards are removed            |                               |
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceSettings } from '../../config/agent-config.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import type { DevicePlan } from '../../domain/order/order.js';
import {
  afterClock,
  began,
  decide,
  failed,
  failedOnDemand,
  type Pause,
  type RunDecision,
  type RunRecord,
  succeeded,
} from '../../domain/order/run-plan.js';
import { pointLabel } from '../../domain/point/point.js';
import type { BackupResult } from '../backup/options.js';
import type { OnAgentEvent } from '../common/events.js';
import { Slots } from '../common/slots.js';
import { DeviceTable, type Entry } from './devices.js';
import { endOfFailed } from './ending.js';
import { Matches } from './matches.js';
import type { DaemonConfig, DaemonOptions, Work } from './options.js';
import { viewDaemon } from './overview.js';
import { deviceBusy, follow, isScheduled, lastRun, type Running, unknownDevice } from './running.js';
import { type DeviceMemory, type LastRun, type RunReason, recallMemory, writeMemory } from './state.js';
import { type DaemonView, planOf, runSettings } from './view.js';

const TICK_MS = 1_000;
/** How often wildcards are looked at, and a device that is missing. */
const EXPAND_MS = 60_000;
const LOOK_MS = 30_000;
const ALIVE_MS = 120_000;

export class Daemon {
  readonly #options: DaemonOptions;
  readonly #slots: Slots;
  readonly #startedAt: string;
  readonly #ends = new Set<Promise<unknown>>();
  #config: DaemonConfig;
  readonly #table: DeviceTable;
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
    this.#table = new DeviceTable(options.log);
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
    await daemon.#expand(memory.devices);
    // What ran when the last process ended goes on soon: blocks that had arrived are not sent again.
    for (const entry of daemon.#table.entries) {
      const { last, record } = entry.memory;
      if (last?.endedAt !== null || last === null) continue;
      const reason = 'the agent ended meanwhile';
      entry.memory = {
        ...entry.memory,
        last: { ...last, state: 'interrupted', endedAt: last.startedAt, reason },
        record: isScheduled(last.why)
          ? failed(record, runSettings(entry.settings), nowMs(), random)
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
    for (const { running } of this.#table.entries) running?.cancel.abort();
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
    const looked = await Promise.all(
      due.map(async (entry) => ({ entry, isThere: await this.#look(entry, nowMs) })),
    );
    // The longest waiting is first where there are more than may run.
    looked.sort((a, b) => a.entry.memory.record.anchorMs - b.entry.memory.record.anchorMs);
    for (const { entry, isThere } of looked) {
      // Meanwhile it may have been paused, begun on demand, or removed.
      const decision = this.#decide(entry, nowMs);
      const isOurs = this.#table.entries.includes(entry);
      if (!isThere || !isOurs || decision.kind !== 'run' || this.#slots.free === 0) continue;
      const { full, why } = decision;
      const work: Work = (signal, onEvent) => this.#options.backUp(entry.settings, { full, signal, onEvent });
      this.#track(this.#perform(entry, why, full, this.#options.signal, work).catch(() => undefined));
    }
  }

  #decide(entry: Entry, nowMs: number): RunDecision {
    const settings = runSettings(entry.settings);
    const record = afterClock(entry.memory.record, settings, nowMs);
    if (record !== entry.memory.record) entry.memory = { ...entry.memory, record };
    const isRunning = entry.running !== null;
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
      this.#table.apply(config.devices, found, nowMs());
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
      { event: 'config-applied' satisfies LogEvent, devices: this.#table.entries.length },
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
    return this.#table.entries
      .filter(({ settings }) => settings.enabled && settings.orders)
      .map(({ settings, memory }) => planOf(settings, memory, this.#pause, nowMs));
  }

  /** Those that receivers may order backups of. */
  get devices(): readonly DeviceSettings[] {
    return this.#table.entries.map(({ settings }) => settings).filter(({ enabled }) => enabled);
  }

  /** A backup that somebody asks for now. @throws its error, `device-unknown`, `session-busy` */
  async backUpNow(
    name: string,
    full: boolean,
    signal: AbortSignal,
    onEvent: OnAgentEvent,
  ): Promise<BackupResult> {
    const entry = this.#entry(name);
    const work: Work = (inner, onInner) =>
      this.#options.backUp(entry.settings, {
        ...{ full, signal: inner },
        onEvent: (event) => {
          onInner(event);
          onEvent(event);
        },
      });
    return this.#track(this.#perform(entry, 'asked', full, signal, work));
  }

  /** A backup that a receiver has ordered. @throws StillpointError as above */
  async performOrder(
    device: DeviceSettings,
    full: boolean,
    signal: AbortSignal,
    work: Work,
  ): Promise<BackupResult> {
    return this.#track(this.#perform(this.#entry(device.name), 'ordered', full, signal, work));
  }

  /** @throws StillpointError `device-unknown`, `session-unknown` if it does not run */
  cancel(name: string): void {
    const { running } = this.#entry(name);
    if (running === null) {
      throw new StillpointError('session-unknown', {
        thing: `device ${name}`,
        reason: 'no backup of it runs',
      });
    }
    running.cancel.abort();
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
    if (!this.#table.vanished.delete(name)) throw unknownDevice(name, 'it has not vanished');
    await this.#save();
  }

  /** @param look whether devices are there now; default: as the last look found them */
  async view(receivers: DaemonView['receivers'], look = true): Promise<DaemonView> {
    const { isThere } = this.#options;
    return viewDaemon(this.#table, {
      ...{ nowMs: this.#options.nowMs(), pause: this.#pause, startedAt: this.#startedAt, receivers },
      parallel: this.#config.parallel,
      isThere: async (entry) =>
        entry.running !== null || (look ? isThere(entry.settings.path) : entry.isThere),
      problems: this.#configProblem === null ? [] : [this.#configProblem],
    });
  }

  async #setPause(name: string | null, pause: Pause | null): Promise<void> {
    if (name === null) this.#pause = pause;
    else this.#keep(this.#entry(name), { pause });
    await this.#save();
  }

  async #perform(
    entry: Entry,
    why: RunReason,
    full: boolean,
    outer: AbortSignal,
    work: Work,
  ): Promise<BackupResult> {
    const { nowMs, random, signal: stop } = this.#options;
    const { name } = entry.settings;
    if (entry.running !== null) throw deviceBusy(name);
    const log = this.#options.log.child({ device: name });
    const running: Running = {
      ...{ why, startedAt: new Date(nowMs()).toISOString(), cancel: new AbortController() },
      ...{ phase: null, doneBytes: 0, totalBytes: 0 },
    };
    entry.running = running;
    const signal = AbortSignal.any([outer, stop, running.cancel.signal]);
    const settings = runSettings(entry.settings);
    let release: () => void = () => undefined;
    try {
      release = await this.#slots.take(signal);
      const { record } = entry.memory;
      const begun = isScheduled(why) ? began(record, settings, why, nowMs()) : record;
      entry.memory = { ...entry.memory, record: begun, last: lastRun(running) };
      await this.#save();
      log.info({ event: 'backup-begun' satisfies LogEvent, why, full }, 'backup begins');
      const result = await work(signal, (event) => follow(running, event, log));
      const { point, warnings, wireBytes, tracking } = result;
      const wasFull = full || tracking?.used !== true;
      this.#end(entry, succeeded(entry.memory.record, wasFull, nowMs()), {
        ...lastRun(running),
        ...{ state: 'done', endedAt: new Date(nowMs()).toISOString(), point: pointLabel(point) },
        ...{ warningCount: warnings.length, wireBytes },
      });
      entry.memory = { ...entry.memory, lastGood: { point: pointLabel(point), instant: point.instant } };
      const told = { point: pointLabel(point), wireBytes, warnings: warnings.length };
      log.info({ event: 'backup-done' satisfies LogEvent, ...told }, 'backup done');
      return result;
    } catch (error) {
      const clock = { nowMs: nowMs(), random, isAborted: signal.aborted, isStopped: stop.aborted };
      const { record, busySinceMs, ...end } = endOfFailed(entry, why, error, clock, log);
      this.#end(entry, record, { ...lastRun(running), ...end });
      entry.busySinceMs = busySinceMs;
      throw error;
    } finally {
      release();
      entry.running = null;
      await this.#save();
    }
  }

  #end(entry: Entry, record: RunRecord, last: LastRun): void {
    entry.busySinceMs = null;
    // A pause may have come meanwhile.
    const { pause } = entry.memory.record;
    entry.memory = { ...entry.memory, record: { ...record, pause }, last };
  }

  async #look(entry: Entry, nowMs: number): Promise<boolean> {
    if (!entry.isThere && nowMs < entry.lookAtMs && entry.lookAtMs - nowMs <= LOOK_MS) return false;
    const { path, name } = entry.settings;
    const isThere = await this.#options.isThere(path);
    if (isThere !== entry.isThere) {
      const { log } = this.#options;
      const told = { device: name, path };
      if (isThere) log.info({ event: 'device-back' satisfies LogEvent, ...told }, 'the device is back');
      else
        log.warn(
          { event: 'device-missing' satisfies LogEvent, ...told },
          'the device is not there; its backup waits for it',
        );
    }
    entry.isThere = isThere;
    entry.lookAtMs = nowMs + LOOK_MS;
    return isThere;
  }

  /** @param remembered of the last process; default: of this one */
  async #expand(remembered?: readonly DeviceMemory[]): Promise<void> {
    const config = this.#config;
    const nowMs = this.#options.nowMs();
    this.#expandAtMs = nowMs + EXPAND_MS;
    const found = await this.#matches.of(config.devices, remembered ?? this.#table.present());
    // Another configuration may have come meanwhile.
    if (config === this.#config) this.#table.apply(config.devices, found, nowMs, remembered);
  }

  #entry(name: string): Entry {
    return this.#table.entry(name);
  }

  #keep(entry: Entry, change: Partial<RunRecord>): void {
    entry.memory = { ...entry.memory, record: { ...entry.memory.record, ...change } };
  }

  /** In turn. A state that can't be written keeps no backup from being made. */
  #save(): Promise<void> {
    this.#saved = this.#saved.then(() => {
      const devices = this.#table.memories();
      return writeMemory(this.#options.stateDirectory, { devices, pause: this.#pause }).catch(
        (error: Error) =>
          this.#options.log.error(
            { reason: error.message },
            'what is remembered of runs could not be written',
          ),
      );
    });
    return this.#saved;
  }

  #track<T>(work: Promise<T>): Promise<T> {
    const end = work.then(
      () => undefined,
      () => undefined,
    );
    this.#ends.add(end);
    void end.then(() => this.#ends.delete(end));
    return work;
  }
}
