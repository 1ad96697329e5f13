/**
 * Our own side, as a user runs it: a receiver that serves in a process of its own, an
 * agent that is a command.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Point } from '../src/domain/point/point.js';
import { end, type Measured, measure, occupiedBytes, type Usage, UsageSampler } from './process.js';

export const COMMAND = fileURLToPath(new URL('../../../bin/stillpoint.js', import.meta.url));
const EXIT_DIFFERS = 6;
const START_DEADLINE_MS = 30_000;

export interface BackupOutcome extends Measured {
  readonly point: Point;
}

/** Put before the agent's `node`, or between it and the command: how a profiler gets in. */
export interface AgentLauncher {
  readonly prefix: readonly string[];
  readonly nodeOptions: readonly string[];
}

const PLAIN: AgentLauncher = { prefix: [], nodeOptions: [] };

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('127.0.0.1: no free port');
  return address.port;
}

/** A fresh receiver and a fresh agent that is enrolled with it, in a directory of their own. */
export class Installation {
  readonly directory: string;
  readonly port: number;
  readonly store: string;
  readonly #receiverEnv: NodeJS.ProcessEnv;
  readonly #agentEnv: NodeJS.ProcessEnv;
  #process: ChildProcess | null = null;
  #sampler: UsageSampler | null = null;
  #said = '';

  private constructor(directory: string, port: number) {
    this.directory = directory;
    this.port = port;
    this.store = join(directory, 'store');
    const environment = (name: string) => ({
      ...process.env,
      STILLPOINT_STATE: join(directory, name),
      HOME: directory,
      NO_COLOR: '1',
    });
    this.#receiverEnv = environment('receiver-state');
    this.#agentEnv = environment('agent-state');
  }

  /**
   * @param url where the agent is to find the receiver; default: where it listens.
   * @param receiverNodeOptions for a profiler.
   */
  static async make(
    directory: string,
    options: {
      readonly url?: (port: number) => string;
      readonly receiverNodeOptions?: readonly string[];
    } = {},
  ): Promise<Installation> {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(join(directory, 'agent-state'), { recursive: true });
    mkdirSync(join(directory, 'receiver-state'));
    const made = new Installation(directory, await freePort());
    try {
      await made.#receiver('init', made.store);
      await made.#serve(options.receiverNodeOptions ?? []);
      const { stdout } = await made.#receiver('invite', 'bench', '--store', made.store);
      const code = stdout.trim().split('\n').at(-1)?.trim() ?? '';
      await made.agent('enroll', (options.url ?? ((port) => `https://127.0.0.1:${port}`))(made.port), code);
      return made;
    } catch (error) {
      await made.remove();
      throw error;
    }
  }

  get receiverPid(): number {
    const pid = this.#process?.pid;
    if (pid === undefined) throw new Error('the receiver does not run');
    return pid;
  }

  async backup(
    device: string,
    launcher: AgentLauncher = PLAIN,
    options: readonly string[] = [],
  ): Promise<BackupOutcome> {
    const args = ['backup', device, '--name', 'disk', '--json', ...options];
    const measured = await this.#agent(args, launcher);
    const last = measured.stdout.trimEnd().split('\n').at(-1) ?? '';
    return { ...measured, point: (JSON.parse(last) as { point: Point }).point };
  }

  restore(target: string, launcher: AgentLauncher = PLAIN): Promise<Measured> {
    return this.#agent(['restore', 'disk@latest', target], launcher);
  }

  agent(...args: string[]): Promise<Measured> {
    return this.#agent(args, PLAIN);
  }

  /** That the device differs is an exit code of its own. */
  compare(device: string, ...args: string[]): Promise<Measured> {
    return measure(process.execPath, [COMMAND, 'compare', device, ...args, '--json'], {
      env: this.#agentEnv,
      alsoDone: EXIT_DIFFERS,
    });
  }

  storeBytes(): number {
    return occupiedBytes(this.store);
  }

  /** What the receiver has used since it began to serve. */
  async stop(): Promise<Usage> {
    if (this.#process === null || this.#sampler === null) throw new Error('the receiver does not run');
    const usage = this.#sampler.stop();
    await end(this.#process, 'SIGTERM');
    this.#process = null;
    return usage;
  }

  /** Ends whatever still runs and removes everything. */
  async remove(): Promise<void> {
    this.#sampler?.stop();
    if (this.#process !== null) await end(this.#process, 'SIGTERM');
    rmSync(this.directory, { recursive: true, force: true });
  }

  #agent(args: readonly string[], { prefix, nodeOptions }: AgentLauncher): Promise<Measured> {
    const [command, ...rest] = [...prefix, process.execPath, ...nodeOptions, COMMAND, ...args] as [string];
    return measure(command, rest, { env: this.#agentEnv });
  }

  #receiver(...args: string[]): Promise<Measured> {
    return measure(process.execPath, [COMMAND, 'receiver', ...args], { env: this.#receiverEnv });
  }

  async #serve(nodeOptions: readonly string[]): Promise<void> {
    const args = [
      ...nodeOptions,
      COMMAND,
      'receiver',
      'serve',
      this.store,
      '--listen',
      `127.0.0.1:${this.port}`,
    ];
    const child = spawn(process.execPath, args, {
      env: this.#receiverEnv,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = child;
    process.once('exit', () => child.kill());
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => {
        this.#said = (this.#said + chunk.toString('utf8')).slice(-100_000);
      });
    }
    const deadline = performance.now() + START_DEADLINE_MS;
    while (!this.#said.includes('serving')) {
      if (child.exitCode !== null || performance.now() > deadline) {
        throw new Error(`the receiver does not serve:\n${this.#said}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    this.#sampler = new UsageSampler(this.receiverPid);
  }
}
