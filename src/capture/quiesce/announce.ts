/**
 * Tells users of an instant: before it, then there is a grace time; and when it is over, or is not going to
 * be, so that nobody waits. By `wall`, or by a program of the user's.
 *
 * | state     | before                   | over, failed                  |
 * |-----------|--------------------------|-------------------------------|
 * | untold    | tells, waits → told;     | nothing → over                |
 * |           | nobody could be told     |                               |
 * |           | → over                   |                               |
 * | told      | nothing                  | tells → over                  |
 * | over      | nothing                  | nothing                       |
 *
 * One use for each instant: whatever is tried again in between, each message goes out once. A program that
 * fails or is too slow gives a warning, and nobody is waited for; or an error, if that was asked for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { systemError } from '../../domain/base/system-errors.js';
import type { AnnounceWish } from '../../domain/device/announce-wish.js';

/** For one message. */
const ANNOUNCE_DEADLINE_MS = 10_000;
const KILL_GRACE_MS = 1_000;
const LAST_WORDS_MS = 200;
const OUTPUT_CHARS_MAX = 500;

interface Announced {
  readonly device: string;
  readonly name: string;
  /** How long writing may pause, at most. */
  readonly pauseMs: number;
  readonly deadlineMs?: number | undefined;
}

type AnnounceEvent = 'before' | 'over' | 'failed';

export class Announcement {
  readonly #wish: AnnounceWish;
  readonly #what: Announced;
  #state: 'untold' | 'told' | 'over' = 'untold';
  readonly #warnings: string[] = [];

  constructor(wish: AnnounceWish, what: Announced) {
    this.#wish = wish;
    this.#what = what;
  }

  /** Nobody has been told, or tried to be. */
  get isUntold(): boolean {
    return this.#state === 'untold';
  }

  /** Of all messages so far, as sentences without their ends. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /**
   * Resolves after the grace time.
   * @throws StillpointError `hook`: nobody could be told, and that is required; `cancelled`
   */
  async before(signal?: AbortSignal): Promise<void> {
    if (this.#state !== 'untold') return;
    const { graceMs, isRequired } = this.#wish;
    const { name, device, pauseMs } = this.#what;
    const at = new Date(Date.now() + graceMs).toTimeString().slice(0, 8);
    // Before it runs: one that is cancelled, or fails after it told somebody, must be taken back.
    this.#state = 'told';
    const trouble = await this.#tell(
      'before',
      `Backup of ${name} (${device}) at ${at}, in ${durationOf(graceMs)}. Programs that write to it may pause for up to ${durationOf(pauseMs)}.`,
      signal,
    );
    this.#throwIfCancelled(signal);
    if (trouble !== null) {
      if (isRequired) throw notTold(this.#wish.program, trouble);
      this.#state = 'over';
      this.#warnings.push(`nobody could be told of the backup: ${trouble}`);
      return;
    }
    await sleep(graceMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
    this.#throwIfCancelled(signal);
  }

  /** The instant was taken. Never rejects. */
  over(): Promise<void> {
    return this.#end('over', 'the instant is taken, work can go on.');
  }

  /** There will be none. Never rejects. */
  failed(): Promise<void> {
    return this.#end('failed', 'no instant was taken, work can go on.');
  }

  async #end(event: AnnounceEvent, text: string): Promise<void> {
    const wasTold = this.#state === 'told';
    this.#state = 'over';
    if (!wasTold) return;
    const { name, device } = this.#what;
    const trouble = await this.#tell(event, `Backup of ${name} (${device}): ${text}`);
    if (trouble !== null) this.#warnings.push(`nobody could be told that the instant is over: ${trouble}`);
  }

  #throwIfCancelled(signal: AbortSignal | undefined): void {
    if (signal?.aborted !== true) return;
    throw new StillpointError('cancelled', { thing: this.#what.device, reason: 'it was cancelled' });
  }

  #tell(event: AnnounceEvent, message: string, signal?: AbortSignal): Promise<string | null> {
    const { program, graceMs } = this.#wish;
    const { device, name, deadlineMs = ANNOUNCE_DEADLINE_MS } = this.#what;
    const environment = {
      ...{ STILLPOINT_EVENT: event, STILLPOINT_MESSAGE: message, STILLPOINT_DEVICE: device },
      ...{ STILLPOINT_NAME: name, STILLPOINT_GRACE_S: String(graceMs / 1000) },
    };
    return tell(program, message, environment, deadlineMs, signal);
  }
}

/** @returns null: it was told; else why not, a clause. Never rejects. */
async function tell(
  program: string,
  message: string,
  environment: Readonly<Record<string, string>>,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<string | null> {
  let child: ChildProcess;
  try {
    child = spawn(program, [message], {
      // A group of its own, so that what it starts ends with it.
      detached: true,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  } catch (error) {
    // Without memory, for one: most other troubles come as an event.
    return cantStart(program, error as Error);
  }
  let output = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    output = (output + chunk).slice(-OUTPUT_CHARS_MAX);
  });
  const ended = new Promise<string | null>((resolve) => {
    child.once('error', (error) => resolve(cantStart(program, error)));
    child.once('exit', async (status, killedBy) => {
      // What it said may still be on its way; what it has started may hold the pipe open.
      const isClosed = new Promise((closed) => child.once('close', closed));
      if (status !== 0) await Promise.race([isClosed, sleep(LAST_WORDS_MS)]);
      const how = killedBy === null ? `with status ${status}` : `killed by ${killedBy}`;
      const said = output.trim().replace(/\s*\n\s*/g, ' / ');
      resolve(status === 0 ? null : `${program} ended ${how}${said === '' ? '' : `: ${said}`}`);
    });
  });
  const timer = new AbortController();
  const limits = [AbortSignal.timeout(deadlineMs), timer.signal, ...(signal === undefined ? [] : [signal])];
  const late = new Promise<'late'>((resolve) => {
    const limit = AbortSignal.any(limits);
    if (limit.aborted) resolve('late');
    else limit.addEventListener('abort', () => resolve('late'), { once: true });
  });
  const outcome = await Promise.race([ended, late]);
  timer.abort();
  if (outcome !== 'late') {
    child.stderr?.destroy();
    return outcome;
  }
  kill(child.pid, 'SIGTERM');
  const gone = await Promise.race([ended.then(() => true), sleep(KILL_GRACE_MS, false, { ref: false })]);
  if (!gone) kill(child.pid, 'SIGKILL');
  child.stderr?.destroy();
  child.unref();
  return signal?.aborted === true
    ? 'it was cancelled'
    : `${program} did not end within ${deadlineMs} ms and was killed`;
}

function kill(pid: number | undefined, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // Gone.
  }
}

function cantStart(program: string, error: Error): string {
  const known = systemError(error, { thing: 'announcement', place: 'hook' });
  return `${program} can't be started: ${known?.reason ?? error.message}`;
}

function notTold(program: string, trouble: string): StillpointError {
  return new StillpointError('hook', {
    thing: `announcement by ${program}`,
    reason: trouble,
    remedy: 'See why, or omit --announce-required.',
    permanent: false,
  });
}

function durationOf(ms: number): string {
  const seconds = Math.round(ms / 100) / 10;
  if (seconds < 120) return `${seconds} s`;
  return `${Math.round(seconds / 6) / 10} min`;
}
