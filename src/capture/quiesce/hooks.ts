/**
 * Hooks: the user's programs that bring an application into a state worth an instant, and let it go on
 * afterwards. One process does both, so that it can hold a session open, and it ends with us:
 *
 * | hook                        | Stillpoint                                                                |
 * |-----------------------------|---------------------------------------------------------------------------|
 * |                             | starts it, in a process group of its own                                  |
 * | quiesces; prints `ready`    | starts the next hook; takes the instant                                   |
 * | reads its stdin             | `release`: the instant is taken. End of input without it: there was none, |
 * |                             | or Stillpoint died                                                        |
 * | lets the application go on; | status 0: the application's state at the instant was as the hook promised |
 * | exits                       |                                                                           |
 *
 * Each of the two phases has the same deadline; then the hook's group gets SIGTERM, and soon SIGKILL.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { systemError } from '../../domain/base/system-errors.js';

export interface HookOptions {
  /** Given to it as STILLPOINT_DEVICE and STILLPOINT_NAME. */
  readonly device: string;
  readonly name: string;
  /** For each of the two phases. */
  readonly deadlineMs: number;
  /** For the first, where less is left. */
  readonly readyMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RunningHook {
  readonly path: string;
  /**
   * @param taken false: there was no instant.
   * @returns null if all went well, else a sentence for a warning. Never rejects.
   */
  release(taken: boolean): Promise<string | null>;
}

const KILL_GRACE_MS = 2_000;
/** After its exit, for what is still in the pipes: a process that it left behind may hold them open. */
const DRAIN_MS = 200;
const OUTPUT_CHARS_MAX = 1_000;

type Exit = { readonly status: number | null; readonly signal: NodeJS.Signals | null };

/**
 * Starts a hook, and waits until it is ready.
 * @param path of an executable; it gets no arguments and no shell.
 * @throws StillpointError `config`: it can't be started; `hook`: it failed, or was too slow; `cancelled`. It
 * has ended then.
 */
export async function startHook(path: string, options: HookOptions): Promise<RunningHook> {
  const { device, name, deadlineMs, signal } = options;
  // Timeouts refuse parts of a millisecond; and nothing may fail between the start and the wait.
  const readyMs = Math.ceil(Math.min(deadlineMs, options.readyMs ?? deadlineMs));
  const deadline = AbortSignal.timeout(readyMs);
  const hook = new Hook(path, { STILLPOINT_DEVICE: device, STILLPOINT_NAME: name });
  const either = signal === undefined ? deadline : AbortSignal.any([deadline, signal]);
  const outcome = await Promise.race([hook.ready, hook.exited, aborted(either)]);
  if (outcome === 'ready') return { path, release: (taken) => hook.release(taken, deadlineMs) };
  const thing = `hook ${path}`;
  if (outcome === 'aborted') {
    // It gets the time to undo what it has begun.
    const trouble = await hook.release(false, deadline.aborted ? 0 : deadlineMs);
    if (!deadline.aborted) throw new StillpointError('cancelled', { thing, reason: 'it was cancelled' });
    throw new StillpointError('hook', {
      thing,
      reason: `it was not ready within ${readyMs} ms${hook.said()}`,
      remedy: 'See why it takes so long, or raise its deadline.',
      permanent: false,
      cause: trouble,
    });
  }
  await hook.drained();
  if (outcome instanceof Error) {
    const told = systemError(outcome, { thing, place: 'hook' });
    throw new StillpointError('config', {
      thing,
      reason: `it can't be started: ${told?.reason ?? outcome.message}`,
      remedy: told?.remedy ?? 'Name an executable file.',
      cause: outcome,
    });
  }
  throw new StillpointError('hook', {
    thing,
    reason: `it ended before it was ready, ${describe(outcome)}${hook.said()}`,
    remedy: 'There is no backup without it. See docs/quiesce.md for what a hook has to do.',
    permanent: false,
  });
}

function aborted(signal: AbortSignal): Promise<'aborted'> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve('aborted');
    signal.addEventListener('abort', () => resolve('aborted'), { once: true });
  });
}

function describe({ status, signal }: Exit): string {
  return signal === null ? `with status ${status}` : `killed by ${signal}`;
}

class Hook {
  readonly ready: Promise<'ready'>;
  /** An error: it could not be started. */
  readonly exited: Promise<Exit | Error>;
  readonly #path: string;
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown>;
  #output = '';
  #over = false;
  #released: Promise<string | null> | null = null;

  constructor(path: string, environment: Readonly<Record<string, string>>) {
    this.#path = path;
    this.#child = spawn(path, [], {
      // A session of its own: the terminal's ^C is for us; the hook is told through its stdin.
      detached: true,
      env: { ...process.env, ...environment },
      stdio: 'pipe',
    });
    this.exited = new Promise((resolve) => {
      const end = (outcome: Exit | Error): void => {
        this.#over = true;
        resolve(outcome);
      };
      this.#child.once('exit', (status, signal) => end({ status, signal }));
      this.#child.once('error', end);
    });
    this.#closed = new Promise((resolve) => this.#child.once('close', resolve));
    // EPIPE: it does not read; its exit tells.
    this.#child.stdin?.on('error', () => undefined);
    this.ready = new Promise((resolve) => {
      let line = '';
      this.#child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
        this.#keep(chunk);
        const lines = (line + chunk).split('\n');
        line = (lines.pop() ?? '').slice(0, OUTPUT_CHARS_MAX);
        if (lines.includes('ready')) resolve('ready');
      });
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (chunk: string) => this.#keep(chunk));
  }

  /** What it printed last, as the tail of a clause; empty if nothing. */
  said(): string {
    const text = this.#output
      .replace(/^ready$/m, '')
      .trim()
      .replace(/\s*\n\s*/g, ' / ');
    return text === '' ? '' : `: ${text}`;
  }

  async drained(): Promise<void> {
    await Promise.race([this.#closed, sleep(DRAIN_MS)]);
    this.#child.stdout?.destroy();
    this.#child.stderr?.destroy();
  }

  release(taken: boolean, deadlineMs: number): Promise<string | null> {
    this.#released ??= this.#release(taken, deadlineMs);
    return this.#released;
  }

  async #release(taken: boolean, deadlineMs: number): Promise<string | null> {
    const tooEarly = this.#over;
    this.#child.stdin?.end(taken ? 'release\n' : undefined);
    const inTime = await this.#exitWithin(deadlineMs);
    if (!inTime) {
      this.#killGroup('SIGTERM');
      if (!(await this.#exitWithin(KILL_GRACE_MS))) this.#killGroup('SIGKILL');
    }
    // Stuck in the kernel, even SIGKILL has to wait; we do not.
    const outcome = (await this.#exitWithin(KILL_GRACE_MS)) ? await this.exited : null;
    await this.drained();
    const hook = `hook ${this.#path}`;
    if (!inTime) return `${hook} did not end within ${deadlineMs} ms and was killed${this.said()}`;
    if (outcome === null || outcome instanceof Error) return `${hook} can't be waited for`;
    if (tooEarly) return `${hook} ended before it was released, ${describe(outcome)}${this.said()}`;
    return outcome.status === 0 ? null : `${hook} ended ${describe(outcome)}${this.said()}`;
  }

  async #exitWithin(durationMs: number): Promise<boolean> {
    const timer = new AbortController();
    const late = sleep(durationMs, false, { signal: timer.signal }).catch(() => false);
    const exited = await Promise.race([this.exited.then(() => true), late]);
    timer.abort();
    return exited;
  }

  #killGroup(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // Gone.
    }
  }

  /** The last of it: that is where the reason stands. */
  #keep(chunk: string): void {
    this.#output = (this.#output + chunk).slice(-OUTPUT_CHARS_MAX);
  }
}
