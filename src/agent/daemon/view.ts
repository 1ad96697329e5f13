/** What `status` shows, of a daemon that runs and of one that does not. */
import { hostname } from 'node:os';
import { z } from 'zod';
import type { DeviceSettings } from '../../config/agent-config.js';
import type { DevicePlan } from '../../domain/order/order.js';
import {
  afterClock,
  decide,
  delayOf,
  isPaused,
  newRecord,
  type Pause,
  type RunSettings,
} from '../../domain/order/run-plan.js';
import type { DeviceMemory } from './state.js';

const text = z.string();
const time = text.nullable();

export const deviceViewSchema = z.strictObject({
  name: text,
  path: text,
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
  /** Of the configuration, and of what matches wildcards. */
  problems: z.array(text),
});
export type DaemonView = z.infer<typeof daemonViewSchema>;

export function runSettings(device: DeviceSettings): RunSettings {
  const { schedule, randomDelayMs, retriesMax, fullEveryMs, enabled } = device;
  return {
    schedule: enabled ? schedule : null,
    delayMs: delayOf(`${hostname()}/${device.name}`, randomDelayMs),
    ...{ retriesMax, fullEveryMs },
  };
}

const isoOf = (ms: number | null): string | null => (ms === null ? null : new Date(ms).toISOString());

interface ViewFacts {
  readonly nowMs: number;
  readonly isThere: boolean;
  readonly pause: Pause | null;
  readonly running: DeviceView['running'];
}

/** @param device null: it is not configured (any more), or nothing matches its wildcards. */
export function viewDevice(
  device: DeviceSettings,
  memory: DeviceMemory | null,
  facts: ViewFacts,
): DeviceView {
  const { nowMs, isThere, running } = facts;
  const settings = runSettings(device);
  const record = afterClock(memory?.record ?? newRecord(nowMs), settings, nowMs);
  const pause = [record.pause, facts.pause].find((each) => isPaused(each, nowMs)) ?? null;
  const decision = decide(record, settings, {
    nowMs,
    isRunning: running !== null,
    isThere,
    pause: facts.pause,
  });
  const state = ((): DeviceView['state'] => {
    if (running !== null) return 'running';
    if (!device.enabled) return 'disabled';
    if (pause !== null) return 'paused';
    if (!isThere) return 'absent';
    if (decision.kind === 'wait' && decision.why === 'retry') return 'retrying';
    return settings.schedule === null ? 'on-demand' : 'waiting';
  })();
  return {
    ...{ name: device.name, path: device.path, schedule: settings.schedule?.text ?? null, state, running },
    nextAt:
      decision.kind === 'run' ? isoOf(nowMs) : decision.why === 'paused' ? null : isoOf(decision.untilMs),
    pausedUntil: isoOf(pause?.untilMs ?? null),
    failures: record.failures,
    last: memory?.last ?? null,
    lastGood: memory?.lastGood ?? null,
    problem: problemOf(device, memory, isThere),
  };
}

const SHOWN_CHARS_MAX = 400;

export function planOf(
  device: DeviceSettings,
  memory: DeviceMemory,
  pause: Pause | null,
  nowMs: number,
): DevicePlan {
  const view = viewDevice(device, memory, { nowMs, isThere: true, pause, running: null });
  return {
    device: device.name,
    schedule: view.schedule?.slice(0, SHOWN_CHARS_MAX) ?? null,
    nextAt: view.nextAt,
    failures: view.failures,
    isPaused: view.state === 'paused',
  };
}

function problemOf(
  { enabled }: DeviceSettings,
  memory: DeviceMemory | null,
  isThere: boolean,
): string | null {
  if (!enabled) return null;
  if (!isThere) return 'it is not there';
  const last = memory?.last ?? null;
  if (last === null || (last.state !== 'failed' && last.state !== 'interrupted')) return null;
  const failures = memory?.record.failures ?? 0;
  const often = failures > 1 ? `${failures} failures in a row, the last: ` : '';
  return `${often}${last.reason ?? 'it failed'}`;
}

/** Of a device that wildcards matched before. */
export function viewVanished(memory: DeviceMemory): DeviceView {
  return {
    ...{ name: memory.name, path: memory.path, schedule: null, state: 'vanished', nextAt: null },
    ...{ pausedUntil: null, failures: memory.record.failures, running: null },
    ...{ last: memory.last, lastGood: memory.lastGood },
    problem: `nothing is at this path any more, which ${memory.pattern} matched`,
  };
}
