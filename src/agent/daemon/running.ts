/** A backup that runs: what is told of it, and what is kept when it ends. */
import type { Logger } from 'pino';
import { StillpointError } from '../../domain/base/errors.js';
import type { AgentEvent } from '../common/events.js';
import { type Job, thingOf } from './jobs.js';
import type { LastRun, RunReason } from './state.js';
import type { DeviceView } from './view.js';

export interface Running {
  readonly why: RunReason;
  readonly startedAt: string;
  readonly cancel: AbortController;
  /** The names of the devices that it reads. */
  readonly devices: readonly string[];
  /** How far each is, by name. */
  readonly parts: Map<string, { readonly doneBytes: number; readonly totalBytes: number }>;
  phase: string | null;
}

export function isScheduled(why: RunReason): why is 'due' | 'retry' {
  return why === 'due' || why === 'retry';
}

export function lastRun({ why, startedAt }: Running): LastRun {
  return {
    ...{ why, startedAt, endedAt: null, state: 'running', point: null, warningCount: 0, wireBytes: 0 },
    reason: null,
  };
}

/** @param device whose event it is; undefined: of the job as a whole */
export function follow(running: Running, event: AgentEvent, log: Logger, device?: string): void {
  const told = device === undefined ? {} : { device };
  if (event.type === 'notice') log.info(told, event.text);
  else if (event.type === 'warning') log.warn(told, event.text);
  else if (event.type === 'phase') running.phase = event.phase;
  else if (event.type === 'progress') {
    const { doneBytes, totalBytes } = event;
    running.parts.set(device ?? '', { doneBytes, totalBytes });
  }
}

export function runningView({ why, startedAt, phase, parts }: Running): DeviceView['running'] {
  const sum = (of: 'doneBytes' | 'totalBytes') =>
    [...parts.values()].reduce((bytes, part) => bytes + part[of], 0);
  return { why, startedAt, phase, doneBytes: sum('doneBytes'), totalBytes: sum('totalBytes') };
}

export function unknownJob(name: string, reason: string): StillpointError {
  return new StillpointError('device-unknown', {
    thing: `device ${name}`,
    reason,
    remedy: 'See "stillpoint status".',
  });
}

/** @param occupant another job that has one of its devices; null: there is none */
export function notRunning(job: Job, occupant: Job | null): StillpointError {
  return new StillpointError('session-unknown', {
    thing: thingOf(job),
    reason: `no backup of it${occupant === null ? '' : ' alone'} runs`,
    ...(occupant === null
      ? {}
      : { remedy: `One of the ${thingOf(occupant)} does, which has to be cancelled as a whole.` }),
  });
}

/** @param occupant what runs: itself, or another job with one of its devices */
export function jobBusy(job: Job, occupant: Job): StillpointError {
  const shared = job.devices.find(({ name }) => occupant.devices.some((device) => device.name === name));
  const reason =
    occupant.name === job.name
      ? 'a backup of it is running'
      : job.group === null
        ? `a backup of its group ${occupant.name} is running`
        : `a backup of its member ${shared?.name ?? occupant.name} is running`;
  return new StillpointError('session-busy', {
    ...{ thing: thingOf(job), reason },
    remedy: 'Wait until it has ended. "stillpoint status" shows how far it is.',
    permanent: false,
  });
}
