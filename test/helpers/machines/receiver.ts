/** A receiver in a process of its own, on a port of its own, killed when the test ends. */
import type { ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { EXIT_OK, type Machine, makeMachine, runExpecting, start } from './stillpoint.js';

export interface Receiver {
  readonly machine: Machine;
  readonly store: string;
  readonly url: string;
  /** The serving process; null after `killReceiver`. */
  process: ChildProcess | null;
  log: string;
}

/**
 * Below those that the kernel gives to clients: one of these could have it while a receiver is started again.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_768);
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

export async function startReceiver(t: ExecutionContext, parent?: string): Promise<Receiver> {
  const machine = await makeMachine(t, 'receiver', parent);
  const store = join(machine.directory, 'store');
  await runExpecting(t, machine, EXIT_OK, 'receiver', 'init', store);
  const port = await freePort();
  const receiver: Receiver = { machine, store, url: `https://127.0.0.1:${port}`, process: null, log: '' };
  await serve(receiver);
  t.teardown(() => killReceiver(receiver));
  return receiver;
}

/** Starts the process, again after a kill, and waits until it answers. */
export async function serve(
  receiver: Receiver,
  spawnWith: (args: readonly string[]) => ChildProcess = (args) => start(receiver.machine, args),
): Promise<void> {
  const { host } = new URL(receiver.url);
  const child = spawnWith(['receiver', 'serve', receiver.store, '--listen', host]);
  receiver.process = child;
  child.stdout?.on('data', (chunk: Buffer) => {
    receiver.log += chunk.toString('utf8');
  });
  child.stderr?.on('data', (chunk: Buffer) => {
    receiver.log += chunk.toString('utf8');
  });
  // One that was killed three times makes its index again.
  const deadline = Date.now() + 120_000;
  const from = receiver.log.length;
  while (!receiver.log.slice(from).includes('serving')) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
      throw new Error(`the receiver does not serve:\n${receiver.log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** SIGKILL, and waits for the end. */
export async function killReceiver(receiver: Receiver): Promise<void> {
  const child = receiver.process;
  receiver.process = null;
  if (child === null || child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** @returns the one-time code. */
export async function invite(t: ExecutionContext, receiver: Receiver, name: string): Promise<string> {
  const { stdout } = await runExpecting(
    t,
    receiver.machine,
    EXIT_OK,
    'receiver',
    'invite',
    name,
    '--store',
    receiver.store,
  );
  return stdout.trim().split('\n').at(-1)?.trim() ?? '';
}

export async function enroll(
  t: ExecutionContext,
  receiver: Receiver,
  machine: Machine,
  name: string,
): Promise<void> {
  const code = await invite(t, receiver, name);
  await runExpecting(t, machine, EXIT_OK, 'enroll', receiver.url, code);
}
