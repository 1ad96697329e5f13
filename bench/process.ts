/**
 * Runs commands and measures them from outside, through /proc: what a user would see,
 * whatever the command is made of.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';

export interface Usage {
  /** User and system time of all threads. */
  readonly cpuMs: number;
  /** Peak of all resident pages, mapped files included. */
  readonly peakResidentBytes: number;
  /**
   * Peak of the pages that are the process's own: no mapped files. Sampled, so that a
   * short peak may be missed.
   */
  readonly peakPrivateBytes: number;
}

export interface Measured extends Usage {
  readonly wallMs: number;
  readonly stdout: string;
}

export interface RunOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Standard output goes to this file, not into `Measured.stdout`. */
  readonly stdoutPath?: string;
  /** Another exit code than 0 that says no more than what was found. */
  readonly alsoDone?: number;
}

const SAMPLE_MS = 20;
/** Of the kernel's clock in /proc/PID/stat: USER_HZ, 100 on every Linux that Node runs on. */
const TICK_MS = 10;

/** Samples a living process until `stop`. */
export class UsageSampler {
  readonly #pid: number;
  readonly #timer: NodeJS.Timeout;
  #cpuMs = 0;
  #startCpuMs: number | null = null;
  #peakResidentBytes = 0;
  #peakPrivateBytes = 0;

  constructor(pid: number) {
    this.#pid = pid;
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), SAMPLE_MS);
  }

  /**
   * @returns CPU time since the sampler was made, peak of private bytes since then, peak of resident bytes of
   * its life.
   */
  stop(): Usage {
    clearInterval(this.#timer);
    this.#sample();
    return {
      cpuMs: this.#cpuMs - (this.#startCpuMs ?? 0),
      peakResidentBytes: this.#peakResidentBytes,
      peakPrivateBytes: this.#peakPrivateBytes,
    };
  }

  #sample(): void {
    let status: string;
    let stat: string;
    try {
      status = readFileSync(`/proc/${this.#pid}/status`, 'utf8');
      stat = readFileSync(`/proc/${this.#pid}/stat`, 'utf8');
    } catch {
      return; // It has ended: the last sample counts.
    }
    const kibibytes = (name: string) =>
      Number(new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
    const privateBytes = (kibibytes('RssAnon') + kibibytes('RssShmem')) * 1024;
    this.#peakPrivateBytes = Math.max(this.#peakPrivateBytes, privateBytes);
    this.#peakResidentBytes = Math.max(this.#peakResidentBytes, kibibytes('VmHWM') * 1024);
    // Fields after the command's name, which may itself hold blanks and brackets; 14 and 15
    // count from the process id.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const cpuMs = (Number(fields[11]) + Number(fields[12])) * TICK_MS;
    this.#startCpuMs ??= cpuMs;
    this.#cpuMs = Math.max(this.#cpuMs, cpuMs);
  }
}

/** Runs to the end and measures. Fails with all that the command said if its exit code is not 0. */
export async function measure(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Measured> {
  const file = options.stdoutPath === undefined ? null : openSync(options.stdoutPath, 'w');
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  try {
    const started = performance.now();
    const child = spawn(command, args, {
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      stdio: ['ignore', file ?? 'pipe', 'pipe'],
    });
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    const sampler = child.pid === undefined ? null : new UsageSampler(child.pid);
    let wallMs = 0;
    child.once('exit', () => {
      wallMs = performance.now() - started;
    });
    const [code] = (await once(child, 'close').catch((error: unknown) => {
      sampler?.stop();
      throw error;
    })) as [number | null];
    const usage = sampler?.stop();
    const text = Buffer.concat(stdout).toString('utf8');
    if ((code !== 0 && code !== options.alsoDone) || usage === undefined) {
      const said = `${text.slice(-2000)}\n${Buffer.concat(stderr).toString('utf8').slice(-4000)}`;
      throw new Error(`${command} ${args.join(' ')}: exit code ${code ?? 'none'}\n${said}`);
    }
    return { wallMs, stdout: text, ...usage };
  } finally {
    if (file !== null) closeSync(file);
  }
}

/** Runs to the end, unmeasured. @returns what it printed. */
export function shell(command: string, ...args: string[]): string {
  return execFileSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 256 * 1024 * 1024,
  });
}

/** Ends a process and waits for its end. */
export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

/** Bytes that a file or directory occupies on disk, holes not counted. */
export function occupiedBytes(path: string): number {
  return Number(shell('du', '--summarize', '--block-size=1', path).split('\t')[0]);
}
