/** What `status` shows, of a daemon that runs and of one that does not. */
import { z } from 'zod';
import type { DevicePlan } from '../../domain/order/order.js';
import { afterClock, decide, isPaused, type Pause } from '../../domain/order/run-plan.js';
import { journalViewSchema } from '../journal/view.js';
import { canRun, type DeviceJob, type Job, runSettings } from './jobs.js';
import type { DeviceMemory, JobMemory } from './state.js';

const text = z.string();
const time = text.nullable();

/** Of a device, or of a group. */
export const deviceViewSchema = z.strictObject({
  name: text,
  /** Null: a group. */
  path: time,
  /** The devices of a group; null: a device. */
  members: z.array(text).nullable(),
  /** Null: only on demand. */
  schedule: time,
  state: z.enum(['running', 'waiting', 'retrying', 'paused', 'absent', 'vanished', 'disabled', 'on-demand']),
  nextAt: time,
  pausedUntil: time,
  failures: z.int(),
  running: z
    .strictObject({
      why: text,
      startedAt: text,
      phase: text.nullable(),
      doneBytes: z.number(),
      totalBytes: z.number(),
    })
    .nullable(),
  last: z
    .strictObject({
      ...{ why: text, startedAt: text, endedAt: time, state: text, point: time },
      ...{ warningCount: z.number(), wireBytes: z.number(), reason: time },
    })
    .nullable(),
  lastGood: z.strictObject({ point: text, instant: text }).nullable(),
  /** What is wrong, as a clause; null: nothing. */
  problem: time,
});
export type DeviceView = z.infer<typeof deviceViewSchema>;

export const daemonViewSchema = z.strictObject({
  startedAt: text,
  parallel: z.int(),
  pausedUntil: time,
  isPaused: z.boolean(),
  devices: z.array(deviceViewSchema),
  receivers: z.array(
    z.strictObject({
      ...{ url: text, problem: time },
      /** That it begins by itself, as it last told. */
      rounds: z.array(z.strictObject({ name: text, schedule: text, nextAt: time })),
    }),
  ),
  /** Of taps whose source is one of the devices. */
  journals: z.array(journalViewSchema),
  /** Of the configuration, and of what matches wildcards. */
  problems: z.array(text),
});
export type DaemonView = z.infer<typeof daemonViewSchema>;
/** What runs beside the schedules. */
export type BesideView = Pick<DaemonView, 'receivers' | 'journals'>;

const isoOf = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

interface ViewFacts {
  readonly nowMs: number;
  /** The names of its devices that are not there. */
  readonly missing: readonly string[];
  readonly pause: Pause | null;
  readonly running: DeviceView['running'];
}

export function viewJob(job: Job, memory: JobMemory, facts: ViewFacts): DeviceView {
  const { nowMs, missing, running } = facts;
  const settings = runSettings(job);
  const isThere = running !== null || canRun(job, missing);
  const record = afterClock(memory.record, settings, nowMs);
  const pause = [record.pause, facts.pause].find((each) => isPaused(each, nowMs)) ?? null;
  const decision = decide(record, settings, {
    nowMs,
    isRunning: running !== null,
    isThere,
    pause: facts.pause,
  });
  const state = ((): DeviceView['state'] => {
    if (running !== null) return 'running';
    if (!job.enabled) return 'disabled';
    if (pause !== null) return 'paused';
    if (!isThere) return 'absent';
    if (decision.kind === 'wait' && decision.why === 'retry') return 'retrying';
    return settings.schedule === null ? 'on-demand' : 'waiting';
  })();
  return {
    ...{ name: job.name, schedule: settings.schedule?.text ?? null, state, running },
    path: job.group === null ? job.devices[0].path : null,
    members: job.group?.members.slice() ?? null,
    nextAt:
      decision.kind === 'run' ? isoOf(nowMs) : decision.why === 'paused' ? null : isoOf(decision.untilMs),
    pausedUntil: isoOf(pause?.untilMs ?? null),
    failures: record.failures,
    last: memory.last,
    lastGood: memory.lastGood,
    problem: problemOf(job, memory, missing),
  };
}

const SHOWN_CHARS_MAX = 400;

export function planOf(job: DeviceJob, memory: JobMemory, pause: Pause | null, nowMs: number): DevicePlan {
  const view = viewJob(job, memory, { nowMs, missing: [], pause, running: null });
  return {
    device: job.name,
    schedule: view.schedule?.slice(0, SHOWN_CHARS_MAX) ?? null,
    nextAt: view.nextAt,
    failures: view.failures,
    isPaused: view.state === 'paused',
  };
}

function problemOf({ enabled, group }: Job, memory: JobMemory, missing: readonly string[]): string | null {
  if (!enabled) return null;
  if (missing.length > 0) {
    if (group === null) return 'it is not there';
    return missing.length === 1
      ? `its member ${missing[0]} is not there`
      : `its members ${missing.join(', ')} are not there`;
  }
  const { last } = memory;
  if (last?.state === 'done') return last.reason;
  if (last === null || (last.state !== 'failed' && last.state !== 'interrupted')) return null;
  const { failures } = memory.record;
  const often = failures > 1 ? `${failures} failures in a row, the last: ` : '';
  return `${often}${last.reason ?? 'it failed'}`;
}

/** Of a device that wildcards matched before. */
export function viewVanished(memory: DeviceMemory): DeviceView {
  return {
    ...{ name: memory.name, path: memory.path, members: null, state: 'vanished', nextAt: null },
    schedule: null,
    ...{ pausedUntil: null, failures: memory.record.failures, running: null },
    ...{ last: memory.last, lastGood: memory.lastGood },
    problem: `nothing is at this path any more, which ${memory.pattern} matched`,
  };
}
