/** A backup that runs: what is told of it, and what is kept when it ends. */
import type { Logger } from 'pino';
import { StillpointError } from '../../domain/base/errors.js';
import type { AgentEvent } from '../common/events.js';
import type { LastRun, RunReason } from './state.js';
import type { DeviceView } from './view.js';

export interface Running {
  readonly why: RunReason;
  readonly startedAt: string;
  readonly cancel: AbortController;
  phase: string | null;
  doneBytes: number;
  totalBytes: number;
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

export function follow(running: Running, event: AgentEvent, log: Logger): void {
  if (event.type === 'notice') log.info(event.text);
  else if (event.type === 'warning') log.warn(event.text);
  else if (event.type === 'phase') running.phase = event.phase;
  else if (event.type === 'progress') {
    running.doneBytes = event.doneBytes;
    running.totalBytes = event.totalBytes;
  }
}

export function runningView({
  why,
  startedAt,
  phase,
  doneBytes,
  totalBytes,
}: Running): DeviceView['running'] {
  return { why, startedAt, phase, doneBytes, totalBytes };
}

export function unknownDevice(name: string, reason: string): StillpointError {
  return new StillpointError('device-unknown', {
    thing: `device ${name}`,
    reason,
    remedy: 'See "stillpoint status".',
  });
}

export function deviceBusy(name: string): StillpointError {
  return new StillpointError('session-busy', {
    thing: `device ${name}`,
    reason: 'a backup of it is running',
    remedy: 'Wait until it has ended. "stillpoint status" shows how far it is.',
    permanent: false,
  });
}
