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
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import type { DevicePlan } from '../../domain/order/order.js';
import {
  afterClock,
  began,
  decide,
  deferred,
  failed,
  type Pause,
  type RunRecord,
  succeeded,
} from '../../domain/order/run-plan.js';
import { pointLabel } from '../../domain/point/point.js';
import type { BackupResult } from '../backup/options.js';
import type { OnAgentEvent } from '../common/events.js';
import { failureOf, failureText } from '../common/failure.js';
import { DeviceTable, type Entry } from './devices.js';
import type { DaemonConfig, DaemonOptions, Work } from './options.js';
import { deviceBusy, follow, lastRun, type Running, runningView, unknownDevice } from './running.js';
import { Slots } from './slots.js';
import { type DeviceMemory, type LastRun, type RunReason, recallMemory, writeMemory } from './state.js';
import { type DaemonView, type DeviceView, planOf, runSettings, viewDevice, viewVanished } from './view.js';

const TICK_MS = 1_000;
/** How often wildcards are looked at, and a device that is missing. */
const EXPAND_MS = 60_000;
const LOOK_MS = 30_000;
const ALIVE_MS = 120_000;
const REASON_CHARS_MAX = 1_000;

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
  #expandAtMs = Number.NEGATIVE_INFINITY;
  #saved: Promise<void> = Promise.resolve();

  private constructor(options: DaemonOptions, config: DaemonConfig, pause: Pause | null) {
    this.#options = options;
    this.#config = config;
    this.#pause = pause;
    this.#slots = new Slots(config.parallel);
    this.#table = new DeviceTable(options.log);
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
    await daemon.#expand(memory.devices);
    // What ran when the last process ended goes on soon: blocks that had arrived are not sent again.
    for (const entry of daemon.#table.entries) {
      const { last, record } = entry.memory;
      if (last?.endedAt !== null || last === null) continue;
      const reason = 'the agent ended meanwhile';
      entry.memory = {
        ...entry.memory,
        last: { ...last, state: 'interrupted', endedAt: last.startedAt, reason },
        record: failed(record, runSettings(entry.settings), nowMs(), random),
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

  /** Looks at the clock once, and begins what is due. */
  async tick(): Promise<void> {
    this.#tickedAtMs = performance.now();
    const nowMs = this.#options.nowMs();
    if (nowMs >= this.#expandAtMs || this.#expandAtMs - nowMs > EXPAND_MS) await this.#expand();
    const waiting = this.#table.entries.filter(({ running }) => running === null);
    // The longest waiting is first where there are more than may run.
    for (const entry of waiting.sort((a, b) => a.memory.record.anchorMs - b.memory.record.anchorMs)) {
      const settings = runSettings(entry.settings);
      const record = afterClock(entry.memory.record, settings, nowMs);
      if (record !== entry.memory.record) entry.memory = { ...entry.memory, record };
      const facts = { nowMs, isRunning: entry.running !== null, isThere: true, pause: this.#pause };
      const decision = decide(record, settings, facts);
      if (decision.kind !== 'run' || this.#slots.free === 0) continue;
      if (!(await this.#look(entry, nowMs)) || entry.running !== null) continue;
      const { full, why } = decision;
      const work: Work = (signal, onEvent) => this.#options.backUp(entry.settings, { full, signal, onEvent });
      this.#track(this.#perform(entry, why, full, this.#options.signal, work).catch(() => undefined));
    }
  }

  /** @throws StillpointError `config`; then nothing is changed */
  async reload(): Promise<void> {
    const { load, log } = this.#options;
    try {
      this.#config = await load();
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
    await this.#expand();
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

  async view(receivers: DaemonView['receivers']): Promise<DaemonView> {
    const nowMs = this.#options.nowMs();
    const devices: DeviceView[] = [];
    for (const entry of this.#table.entries) {
      const isThere = entry.running !== null || (await this.#options.isThere(entry.settings.path));
      const running = entry.running === null ? null : runningView(entry.running);
      devices.push(viewDevice(entry.settings, entry.memory, { nowMs, isThere, pause: this.#pause, running }));
    }
    devices.push(...[...this.#table.vanished.values()].map(viewVanished));
    const { untilMs = null } = this.#pause ?? {};
    return {
      startedAt: this.#startedAt,
      parallel: this.#config.parallel,
      isPaused: this.#pause !== null && (untilMs === null || nowMs < untilMs),
      pausedUntil: untilMs === null ? null : new Date(untilMs).toISOString(),
      devices: devices.sort((a, b) => (a.name < b.name ? -1 : 1)),
      receivers,
      problems: [...(this.#configProblem === null ? [] : [this.#configProblem]), ...this.#table.problems],
    };
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
      const began_ = began(entry.memory.record, why === 'ordered' ? 'asked' : why, nowMs());
      entry.memory = { ...entry.memory, record: began_, last: lastRun(running) };
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
      log.info(
        {
          event: 'backup-done' satisfies LogEvent,
          point: pointLabel(point),
          wireBytes,
          warnings: warnings.length,
        },
        'backup done',
      );
      return result;
    } catch (error) {
      const { code, thing, reason } = failureOf(error);
      const told = failureText({ thing, reason }).slice(0, REASON_CHARS_MAX);
      const isScheduled = why === 'due' || why === 'retry';
      const { record } = entry.memory;
      const ended = { ...lastRun(running), endedAt: new Date(nowMs()).toISOString(), reason: told };
      if (signal.aborted && isStillpointError(error, 'cancelled')) {
        // Parked: the next process goes on with it soon.
        const isParked = stop.aborted;
        const next = isParked && isScheduled ? { ...record, retryAtMs: nowMs() } : record;
        const because = isParked ? 'the agent was stopped meanwhile' : 'it was cancelled';
        this.#end(entry, next, {
          ...ended,
          state: isParked ? 'interrupted' : 'cancelled',
          reason: because,
        });
      } else if (code === 'session-busy' && isScheduled) {
        log.info({ reason }, 'another command works on it; it is looked at again soon');
        this.#end(entry, deferred(record, nowMs()), { ...ended, state: 'cancelled' });
      } else {
        log.warn({ event: 'backup-failed' satisfies LogEvent, code, thing, reason }, 'backup failed');
        const next = isScheduled
          ? failed(record, settings, nowMs(), random)
          : { ...record, failures: record.failures + 1 };
        this.#end(entry, next, { ...ended, state: 'failed' });
      }
      throw error;
    } finally {
      release();
      entry.running = null;
      await this.#save();
    }
  }

  #end(entry: Entry, record: RunRecord, last: LastRun): void {
    // A pause may have come meanwhile.
    const { pause } = entry.memory.record;
    entry.memory = { ...entry.memory, record: { ...record, pause }, last };
  }

  async #look(entry: Entry, nowMs: number): Promise<boolean> {
    if (!entry.isThere && nowMs < entry.lookAtMs && entry.lookAtMs - nowMs <= LOOK_MS) return false;
    const { path, name } = entry.settings;
    const isThere = await this.#options.isThere(path);
    if (isThere !== entry.isThere) {
      if (isThere)
        this.#options.log.info(
          { event: 'device-back' satisfies LogEvent, device: name, path },
          'the device is back',
        );
      else
        this.#options.log.warn(
          { event: 'device-missing' satisfies LogEvent, device: name, path },
          'the device is not there; its backup waits for it',
        );
    }
    entry.isThere = isThere;
    entry.lookAtMs = nowMs + LOOK_MS;
    return isThere;
  }

  async #expand(remembered?: readonly DeviceMemory[]): Promise<void> {
    const nowMs = this.#options.nowMs();
    this.#expandAtMs = nowMs + EXPAND_MS;
    await this.#table.expand(this.#config.devices, nowMs, remembered);
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
