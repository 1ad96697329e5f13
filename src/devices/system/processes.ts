/** What /proc tells of other processes. */
import { basename } from 'node:path';
import { readFact } from './block-sysfs.js';

/** What Node, since version 24, calls its main thread: no name of a program. */
const NODE_MAIN_THREAD = 'MainThread';

/** As `ps` has it; "a process" where it can't be read. */
export async function processName(processId: number | string): Promise<string> {
  const name = (await readFact('/proc', String(processId), 'comm')) ?? 'a process';
  if (name !== NODE_MAIN_THREAD) return name;
  const [program = ''] = await readCommandLine(processId);
  return basename(program) || name;
}

/** Empty where it can't be read. */
export async function readCommandLine(processId: number | string): Promise<string[]> {
  return ((await readFact('/proc', String(processId), 'cmdline')) ?? '').split('\0');
}

/** @param word of a command line */
export const isStillpoint = (word: string): boolean => /(^|\/)stillpoint(\.js)?$/.test(word);
