/**
 * Runs the command as a user does, `node bin/stillpoint.js ...`, on machines that
 * share nothing but the kernel.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { main } from '../../../src/cli/main.js';
import { EXIT_OK } from '../../../src/cli/output/exit-codes.js';
import type { Point } from '../../../src/domain/point/point.js';
import { temporaryDirectory } from '../disks/loop-device.js';
import { withinNamespace } from './namespaces.js';

export const COMMAND = fileURLToPath(new URL('../../../../../bin/stillpoint.js', import.meta.url));

export { EXIT_DAMAGED, EXIT_OK, EXIT_WARNINGS } from '../../../src/cli/output/exit-codes.js';

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A machine with a state directory of its own: what an agent knows about its devices and its receiver. */
export interface Machine {
  readonly directory: string;
  readonly stateDirectory: string;
  readonly env: NodeJS.ProcessEnv;
  /** The network namespace that it is in; undefined: that of the test. */
  readonly namespace?: string;
}

/** Where a sync costs nothing: for tests that sync thousands of times and pull no plug. */
export const IN_MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

export async function makeMachine(
  t: ExecutionContext,
  prefix: string = 'machine',
  parent: string = tmpdir(),
): Promise<Machine> {
  const directory = await temporaryDirectory(t, prefix, parent);
  const stateDirectory = join(directory, 'state');
  await mkdir(stateDirectory);
  const env = { ...process.env, STILLPOINT_STATE: stateDirectory, HOME: directory, NO_COLOR: '1' };
  return { directory, stateDirectory, env };
}

/** @param stdout an open file that takes standard output instead of a pipe. */
export function start(
  machine: Machine,
  args: readonly string[],
  stdout: 'pipe' | number = 'pipe',
): ChildProcess {
  const command = [process.execPath, COMMAND, ...args];
  const inside = machine.namespace === undefined ? [] : withinNamespace(machine.namespace);
  const [program = '', ...rest] = [...inside, ...command];
  return spawn(program, rest, { env: machine.env, stdio: ['ignore', stdout, 'pipe'] });
}

/** Waits for the end of a child and gathers what it printed. */
export async function outcome(child: ChildProcess): Promise<Outcome> {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString('utf8');
  return { code, signal, stdout: text(stdout), stderr: text(stderr) };
}

export async function run(machine: Machine, ...args: string[]): Promise<Outcome> {
  return outcome(start(machine, args));
}

/** Runs and requires the exit code; a failure shows all that was printed. */
export async function runExpecting(
  t: ExecutionContext,
  machine: Machine,
  code: number,
  ...args: string[]
): Promise<Outcome> {
  const result = await run(machine, ...args);
  if (result.code !== code) {
    t.fail(
      `stillpoint ${args.join(' ')}: exit code ${result.code ?? result.signal}, not ${code}\n${result.stdout}\n${result.stderr}`,
    );
  }
  return result;
}

/** @returns the point that the backup made. */
export async function backup(
  t: ExecutionContext,
  machine: Machine,
  store: string | null,
  device: string,
  ...args: string[]
): Promise<Point> {
  return backupExpecting(t, machine, EXIT_OK, store, device, ...args);
}

export async function backupExpecting(
  t: ExecutionContext,
  machine: Machine,
  code: number,
  store: string | null,
  device: string,
  ...args: string[]
): Promise<Point> {
  const to = store === null ? [] : ['--store', store];
  const { stdout } = await runExpecting(t, machine, code, 'backup', device, ...to, '--json', ...args);
  return lastResult<{ point: Point }>(stdout).point;
}

export async function points(t: ExecutionContext, machine: Machine, store: string | null): Promise<Point[]> {
  const to = store === null ? [] : ['--store', store];
  const { stdout } = await runExpecting(t, machine, EXIT_OK, 'points', ...to, '--json');
  return lastResult<{ points: Point[] }>(stdout).points;
}

export async function restore(
  t: ExecutionContext,
  machine: Machine,
  store: string | null,
  pointName: string,
  target: string,
  ...args: string[]
): Promise<void> {
  await restoreExpecting(t, machine, EXIT_OK, store, pointName, target, ...args);
}

export async function restoreExpecting(
  t: ExecutionContext,
  machine: Machine,
  code: number,
  store: string | null,
  pointName: string,
  target: string,
  ...args: string[]
): Promise<void> {
  const to = store === null ? [] : ['--store', store];
  await runExpecting(t, machine, code, 'restore', pointName, target, ...to, ...args);
}

/** Under `--json` a command prints one object per line; the last one is the result. */
export function lastResult<Result>(stdout: string): Result {
  const line = stdout.trimEnd().split('\n').at(-1) ?? '';
  return JSON.parse(line) as Result;
}

/** The same command inside the test's own process: for tests that run hundreds of them. */
export async function runHere(machine: Machine, ...args: string[]): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  const code = await main(args, {
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write: (text: string) => (stderr += text) },
    environment: machine.env,
    userId: process.getuid?.() ?? 0,
  });
  return { code, signal: null, stdout, stderr };
}
