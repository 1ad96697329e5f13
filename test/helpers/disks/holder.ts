/** A process that holds file systems frozen, to be killed, stopped or blocked. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { FreezeTarget } from '../../../src/capture/quiesce/freeze.js';

export interface Holder {
  readonly process: ChildProcessWithoutNullStreams;
  readonly freezerPid: number;
  say(command: string): void;
  nextLine(): Promise<string>;
}

/** @param hasOwnMounts in a mount namespace of its own, as a service */
export async function startHolder(
  t: ExecutionContext,
  deadlineMs: number,
  targets: readonly FreezeTarget[],
  { hasOwnMounts = false } = {},
): Promise<Holder> {
  const program = fileURLToPath(new URL('../../capture/quiesce/children/holder.js', import.meta.url));
  const args = targets.map(({ id, path }) => `${hasOwnMounts ? '' : id}:${path}`);
  const [command = '', ...before] = [...(hasOwnMounts ? ['unshare', '--mount'] : []), process.execPath];
  const child = spawn(command, [...before, program, String(deadlineMs), ...args]);
  t.teardown(() => child.kill('SIGKILL'));
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const nextLine = async (): Promise<string> => {
    const { value } = (await lines.next()) as { value?: string };
    if (value === undefined) throw new Error(`the holder ended: ${errors}`);
    return value;
  };
  const [word, pid] = (await nextLine()).split(' ');
  t.is(word, 'frozen');
  const freezerPid = Number(pid);
  t.true(freezerPid > 1);
  return { process: child, freezerPid, nextLine, say: (command) => child.stdin.write(`${command}\n`) };
}

/** Both of them: what it holds stays frozen. */
export async function killWithFreezer(holder: Holder): Promise<void> {
  // Stopped, the freezer does not thaw when the other one dies.
  process.kill(holder.freezerPid, 'SIGSTOP');
  const ended = once(holder.process, 'close');
  holder.process.kill('SIGKILL');
  process.kill(holder.freezerPid, 'SIGKILL');
  await ended;
}
