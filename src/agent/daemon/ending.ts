/** What a run that did not end well leaves: whether it failed, and whether it is tried again. */
import type { Logger } from 'pino';
import { isStillpointError } from '../../domain/base/errors.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import {
  deferred,
  failed,
  failedOnDemand,
  isBusyTooLong,
  type RunRecord,
} from '../../domain/order/run-plan.js';
import { failureOf, failureText } from '../common/failure.js';
import { runSettings } from './jobs.js';
import { isScheduled } from './running.js';
import type { LastRun, RunReason } from './state.js';
import type { Entry } from './table.js';

export const REASON_CHARS_MAX = 1_000;

interface EndFacts {
  readonly nowMs: number;
  readonly random: () => number;
  readonly isAborted: boolean;
  /** The agent itself is. */
  readonly isStopped: boolean;
}

interface FailedEnd extends Pick<LastRun, 'state' | 'endedAt' | 'reason'>, Pick<Entry, 'busySinceMs'> {
  readonly record: RunRecord;
}

export function endOfFailed(
  { memory: { record }, job, busySinceMs }: Entry,
  why: RunReason,
  error: unknown,
  { nowMs, random, isAborted, isStopped }: EndFacts,
  log: Logger,
): FailedEnd {
  const { code, thing, reason } = failureOf(error);
  const told = failureText({ thing, reason }).slice(0, REASON_CHARS_MAX);
  const isOwn = isScheduled(why);
  const end = { record, endedAt: new Date(nowMs).toISOString(), reason: told, busySinceMs: null };
  if (isAborted && isStillpointError(error, 'cancelled')) {
    if (!isStopped) return { ...end, state: 'cancelled', reason: 'it was cancelled' };
    // Parked: the next process goes on with it soon.
    const next = isOwn ? { ...record, retryAtMs: nowMs } : record;
    return { ...end, record: next, state: 'interrupted', reason: 'the agent was stopped meanwhile' };
  }
  const sinceMs = code === 'session-busy' && isOwn ? (busySinceMs ?? nowMs) : null;
  if (sinceMs !== null && !isBusyTooLong(sinceMs, nowMs)) {
    log.info({ reason }, 'another command works on it; it is looked at again soon');
    return { ...end, record: deferred(record, nowMs), state: 'cancelled', busySinceMs: sinceMs };
  }
  log.warn({ event: 'backup-failed' satisfies LogEvent, code, thing, reason }, 'backup failed');
  const next = isOwn ? failed(record, runSettings(job), nowMs, random) : failedOnDemand(record);
  return { ...end, record: next, state: 'failed', busySinceMs: sinceMs };
}
