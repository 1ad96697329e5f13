/** Agents that wait for orders, in processes of their own, killed when the test ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { Receiver } from './receiver.js';
import {
  COMMAND,
  EXIT_OK,
  lastResult,
  type Machine,
  type Outcome,
  outcome,
  runExpecting,
  start,
} from './stillpoint.js';

export interface WaitingAgent {
  readonly machine: Machine;
  readonly process: ChildProcess;
  log: string;
}

/** @param prefix of the command, for a namespace. */
export function startAgent(
  t: ExecutionContext,
  machine: Machine,
  args: readonly string[],
  prefix: readonly string[] = [],
): WaitingAgent {
  const [program = process.execPath, ...rest] = [
    ...prefix,
    process.execPath,
    COMMAND,
    '--json',
    'agent',
    ...args,
  ];
  const child = spawn(program, rest, { env: machine.env, stdio: ['ignore', 'pipe', 'pipe'] });
  const agent: WaitingAgent = { machine, process: child, log: '' };
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      agent.log += chunk.toString('utf8');
    });
  t.teardown(() => endAgent(agent, 'SIGKILL'));
  return agent;
}

export async function logged(agent: { log: string }, text: string, from = 0): Promise<void> {
  for (const endMs = Date.now() + 60_000; !agent.log.slice(from).includes(text); await sleep(20)) {
    if (Date.now() > endMs) throw new Error(`never logged: ${text}\n${agent.log}`);
  }
}

/** @returns its exit code. */
export async function endAgent(
  { process: child }: WaitingAgent,
  signal: NodeJS.Signals,
): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
  return child.exitCode;
}

/** `stillpoint receiver …` on the receiver's machine. */
export async function order(
  t: ExecutionContext,
  receiver: Receiver,
  code: number,
  ...args: string[]
): Promise<Outcome> {
  return runExpecting(t, receiver.machine, code, 'receiver', ...args, '--store', receiver.store);
}

export function startOrder(
  receiver: Receiver,
  ...args: string[]
): { child: ChildProcess; end: Promise<Outcome> } {
  const child = start(receiver.machine, ['receiver', ...args, '--store', receiver.store]);
  return { child, end: outcome(child) };
}

export interface SeenAgent {
  readonly agent: string;
  readonly isConnected: boolean;
  readonly devices: readonly string[];
  readonly plans: readonly { readonly device: string; readonly schedule: string | null }[];
  readonly problem: string | null;
}

export async function agentsOf(t: ExecutionContext, receiver: Receiver): Promise<SeenAgent[]> {
  const { stdout } = await order(t, receiver, EXIT_OK, 'agents', '--json');
  return lastResult<{ agents: SeenAgent[] }>(stdout).agents;
}

/** Waits until the receiver sees it. */
export async function connected(t: ExecutionContext, receiver: Receiver, name: string): Promise<void> {
  for (const endMs = Date.now() + 60_000; Date.now() < endMs; await sleep(100)) {
    if ((await agentsOf(t, receiver)).some(({ agent, isConnected }) => agent === name && isConnected)) return;
  }
  throw new Error(`the agent ${name} is never connected`);
}
