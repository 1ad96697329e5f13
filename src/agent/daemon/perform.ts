/** One run of a job, from its beginning to what is remembered of it. */
import type { LogEvent } from '../../domain/base/log-events.js';
import { began, type RunRecord, succeeded } from '../../domain/order/run-plan.js';
import { pointLabel } from '../../domain/point/point.js';
import type { BackupResult } from '../backup/options.js';
import { failureOf, failureText } from '../common/failure.js';
import type { Slots } from '../common/slots.js';
import { endOfFailed, REASON_CHARS_MAX } from './ending.js';
import { runSettings } from './jobs.js';
import type { DaemonOptions, JobResult, Work } from './options.js';
import { follow, isScheduled, jobBusy, lastRun, type Running } from './running.js';
import type { LastRun, RunReason } from './state.js';
import type { Entry, JobTable } from './table.js';

export interface RunContext extends Pick<DaemonOptions, 'nowMs' | 'random' | 'signal' | 'log'> {
  readonly slots: Slots;
  readonly table: JobTable;
  readonly save: () => Promise<void>;
}

export interface RunWish {
  readonly why: RunReason;
  readonly full: boolean;
  /** Beside that of the daemon. */
  readonly signal: AbortSignal;
}

/** @throws the error of the work; StillpointError `session-busy` */
export async function perform<T extends JobResult>(
  entry: Entry,
  { why, full, signal: outer }: RunWish,
  work: Work<T>,
  { nowMs, random, signal: stop, log: parent, slots, table, save }: RunContext,
): Promise<T> {
  const { job } = entry;
  const occupant = table.occupantOf(entry);
  if (occupant !== null) throw jobBusy(job, occupant.job);
  const log = parent.child(job.group === null ? { device: job.name } : { group: job.name });
  const running: Running = {
    ...{ why, startedAt: new Date(nowMs()).toISOString(), cancel: new AbortController() },
    ...{ devices: job.devices.map(({ name }) => name), parts: new Map(), phase: null },
  };
  entry.running = running;
  const signal = AbortSignal.any([outer, stop, running.cancel.signal]);
  let release: () => void = () => undefined;
  try {
    release = await slots.take(signal);
    const { record } = entry.memory;
    const begun = isScheduled(why) ? began(record, runSettings(job), why, nowMs()) : record;
    entry.memory = { ...entry.memory, record: begun, last: lastRun(running) };
    await save();
    log.info({ event: 'backup-begun' satisfies LogEvent, why, full }, 'backup begins');
    const result = await work(signal, (event, device) => follow(running, event, log, device));
    const { points, leftOut, lastGood, ...outcome } = outcomeOf(result);
    const wasFull = full || points.every(readAll);
    end(entry, succeeded(entry.memory.record, wasFull, nowMs()), {
      ...{ ...lastRun(running), ...outcome, state: 'done', endedAt: new Date(nowMs()).toISOString() },
      point: lastGood.point,
    });
    entry.memory = { ...entry.memory, lastGood };
    if (job.group !== null) for (const each of points) keepOfMember(table, each, full, nowMs());
    for (const { device, ...failure } of leftOut) {
      const told = { event: 'member-left-out' satisfies LogEvent, device, ...failure };
      log.warn(told, 'the backup was made without the device');
    }
    const { wireBytes, warningCount } = outcome;
    const told = { point: lastGood.point, wireBytes, warnings: warningCount };
    log.info({ event: 'backup-done' satisfies LogEvent, ...told }, 'backup done');
    return result;
  } catch (error) {
    const clock = { nowMs: nowMs(), random, isAborted: signal.aborted, isStopped: stop.aborted };
    const { record, busySinceMs, ...failedEnd } = endOfFailed(entry, why, error, clock, log);
    end(entry, record, { ...lastRun(running), ...failedEnd });
    entry.busySinceMs = busySinceMs;
    throw error;
  } finally {
    release();
    entry.running = null;
    await save();
  }
}

function end(entry: Entry, record: RunRecord, last: LastRun): void {
  entry.busySinceMs = null;
  // A pause may have come meanwhile.
  const { pause } = entry.memory.record;
  entry.memory = { ...entry.memory, record: { ...record, pause }, last };
}

const readAll = ({ tracking }: BackupResult): boolean => tracking?.used !== true;

/** A device has a new point, whichever of its jobs made it. Its own schedule goes on as it was. */
function keepOfMember(table: JobTable, result: BackupResult, full: boolean, nowMs: number): void {
  const { point } = result;
  const entry = table.find(point.device);
  if (entry === undefined) return;
  const { record } = entry.memory;
  entry.memory = {
    ...entry.memory,
    record: full || readAll(result) ? { ...record, fullAtMs: nowMs } : record,
    lastGood: { point: pointLabel(point), instant: point.instant },
  };
}

/** What a device's backup and a group's have alike. */
function outcomeOf(result: JobResult) {
  if (!('group' in result)) {
    const { point, warnings, wireBytes } = result;
    const lastGood = { point: pointLabel(point), instant: point.instant };
    return {
      ...{ points: [result], leftOut: [], lastGood },
      ...{ wireBytes, warningCount: warnings.length, reason: null },
    };
  }
  const { group, results } = result;
  const leftOut = result.leftOut.map(({ device, error }) => ({ device, ...failureOf(error) }));
  const sum = (of: (each: BackupResult) => number) => results.reduce((total, each) => total + of(each), 0);
  const without = leftOut.map((each) => `${each.device} was left out: ${failureText(each)}`);
  return {
    ...{ points: results, leftOut },
    lastGood: {
      point: pointLabel({ device: group.name, sequence: group.sequence }),
      instant: results[0]?.point.instant ?? '',
    },
    wireBytes: sum(({ wireBytes }) => wireBytes),
    warningCount: sum(({ warnings }) => warnings.length) + leftOut.length,
    reason: without.length === 0 ? null : without.join('; ').slice(0, REASON_CHARS_MAX),
  };
}
