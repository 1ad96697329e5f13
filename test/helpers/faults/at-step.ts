/** Runs stillpoint with a fault at its Nth durable step (durable-steps.ts). */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { killReceiver, type Receiver, serve } from '../machines/receiver.js';
import { COMMAND, type Machine, type Outcome, outcome } from '../machines/stillpoint.js';

const PRELOAD = new URL('./durable-steps.js', import.meta.url).href;

export interface Fault {
  readonly fault: 'kill' | 'EIO' | 'ENOSPC';
  /** From 1. */
  readonly at: number;
  /** Later steps fail too. */
  readonly forever?: boolean;
}

export function startFaulty(
  machine: Machine,
  fault: Fault | null,
  args: readonly string[],
  reportPath?: string,
): ChildProcess {
  const env: NodeJS.ProcessEnv = { ...machine.env };
  if (fault !== null) {
    env.STEPS_FAULT = fault.fault;
    env.STEPS_AT = String(fault.at);
    if (fault.forever === true) env.STEPS_FOREVER = '1';
  }
  if (reportPath !== undefined) env.STEPS_REPORT = reportPath;
  return spawn(process.execPath, ['--import', PRELOAD, COMMAND, ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

export async function runFaulty(machine: Machine, fault: Fault, args: readonly string[]): Promise<Outcome> {
  return outcome(startFaulty(machine, fault, args));
}

/** Runs without a fault. @returns the names of the durable steps, in order. */
export async function listSteps(machine: Machine, args: readonly string[]): Promise<string[]> {
  const reportPath = join(machine.directory, 'steps');
  await rm(reportPath, { force: true });
  const result = await outcome(startFaulty(machine, null, args, reportPath));
  if (result.code !== 0) throw new Error(`stillpoint ${args.join(' ')}: ${result.stdout}\n${result.stderr}`);
  const text = await readFile(reportPath, 'utf8');
  return text.trimEnd().split('\n');
}

/** Serves, and counts the durable steps while `work` runs. */
export async function listServeSteps(receiver: Receiver, work: () => Promise<void>): Promise<string[]> {
  const reportPath = join(receiver.machine.directory, 'steps');
  await rm(reportPath, { force: true });
  await serve(receiver, (args) => startFaulty(receiver.machine, null, args, reportPath));
  await work();
  await killReceiver(receiver);
  return (await readFile(reportPath, 'utf8')).trimEnd().split('\n');
}

/**
 * Starts serving with a fault ahead.
 * @returns whether it came so far; a fault at one of its first steps ends it before.
 */
export async function serveWithFault(receiver: Receiver, fault: Fault): Promise<boolean> {
  return serve(receiver, (args) => startFaulty(receiver.machine, fault, args)).then(
    () => true,
    () => false,
  );
}

/** Waits for the end of the serving process. */
export async function receiverEnd(receiver: Receiver): Promise<void> {
  const child = receiver.process;
  if (child !== null && child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}
