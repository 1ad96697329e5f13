/**
 * Whether a device is there. A path on a file system that does not answer counts as missing. It is asked for
 * by a child process, once at a time: questions that hang in this one would use up the few threads that read
 * files, and with them the agent.
 */
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Logger } from 'pino';
import type { LogEvent } from '../../domain/base/log-events.js';
import { canRun, type Job } from './jobs.js';
import type { Entry } from './table.js';

const ANSWER_MS = 5_000;
/** How often a device is looked for that is missing. */
const LOOK_MS = 30_000;
/** The answer of test(1), beside which there are failures to ask. */
const NOT_THERE = 1;

async function lookByChild(path: string): Promise<void> {
  try {
    await promisify(execFile)('test', ['-e', path], { timeout: ANSWER_MS, killSignal: 'SIGKILL' });
  } catch (error) {
    const { code, killed } = error as { code?: unknown; killed?: boolean };
    // If nobody can be asked, the backup itself says what is wrong.
    if (killed === true || code === NOT_THERE) throw error;
  }
}

/** @param look rejects if the path is not there; for tests */
export function presenceOf(
  look: (path: string) => Promise<unknown> = lookByChild,
  answerMs = ANSWER_MS,
): (path: string) => Promise<boolean> {
  const asked = new Map<string, Promise<boolean>>();
  return (path) => {
    const before = asked.get(path);
    if (before !== undefined) return before;
    const answer = look(path)
      .then(
        () => true,
        () => false,
      )
      .finally(() => asked.delete(path));
    const over = new AbortController();
    const late = sleep(answerMs, false, { signal: over.signal }).catch(() => false);
    const inTime = Promise.race([answer, late]).finally(() => over.abort());
    asked.set(path, inTime);
    return inTime;
  };
}

type IsThere = (path: string) => Promise<boolean>;

/** @returns the names of its devices that are not there. */
export async function missingOf({ devices }: Job, isThere: IsThere): Promise<string[]> {
  const looked = await Promise.all(
    devices.map(async ({ name, path }) => ((await isThere(path)) ? [] : [name])),
  );
  return looked.flat();
}

/** What has changed is told. @returns whether it can run now */
export async function lookFor(entry: Entry, isThere: IsThere, nowMs: number, log: Logger): Promise<boolean> {
  const { job, missing: before, lookAtMs } = entry;
  if (!canRun(job, before) && nowMs < lookAtMs && lookAtMs - nowMs <= LOOK_MS) return false;
  const missing = await missingOf(job, isThere);
  for (const { name: device, path } of job.devices) {
    const isMissing = missing.includes(device);
    if (isMissing === before.includes(device)) continue;
    const told = { ...(job.group === null ? {} : { group: job.name }), device, path };
    if (!isMissing) log.info({ event: 'device-back' satisfies LogEvent, ...told }, 'the device is back');
    else log.warn({ event: 'device-missing' satisfies LogEvent, ...told }, whatWaits(job));
  }
  entry.missing = missing;
  entry.lookAtMs = nowMs + LOOK_MS;
  return canRun(job, missing);
}

function whatWaits({ group }: Job): string {
  if (group === null) return 'the device is not there; its backup waits for it';
  return group.missing === 'fail'
    ? 'the device is not there; the backup of its group waits for it'
    : 'the device is not there; its group is backed up without it';
}
