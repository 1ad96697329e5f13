/** `stillpoint enroll URL CODE`: makes this machine an agent of a receiver. */
import { createInterface } from 'node:readline';
import type { Command } from 'commander';
import { unlessAborted } from '../../agent/common/cancel.js';
import type { CommandContext, Run } from '../common/context.js';
import { EXIT_OK } from '../output/exit-codes.js';

export function addEnroll(program: Command, run: Run): void {
  program
    .command('enroll')
    .description('make this machine an agent of a receiver')
    .argument('<url>', 'URL of the receiver, https://HOST:PORT')
    .argument(
      '<code>',
      'the one-time code that "stillpoint receiver invite" printed there; -: read it from standard input',
    )
    .option('--default', 'use this receiver if --store names none; the first one is the default anyway')
    .action((url: string, code: string, options: { default?: boolean }) =>
      run((context) => enroll(context, url, code, options.default === true)),
    );
}

async function enroll(
  { output, signal, stateDirectory }: CommandContext,
  url: string,
  code: string,
  makeDefault: boolean,
): Promise<number> {
  const { enroll: enrollWith } = await import('../../protocol/enroll.js');
  const { saveEnrolment } = await import('../../agent/state/enrolment.js');
  const given = code === '-' ? await unlessAborted(signal, firstLineOfStdin()) : code;
  const enrolment = await unlessAborted(signal, enrollWith(url, given));
  const isDefault = await saveEnrolment(stateDirectory, enrolment, { makeDefault });
  const { agent, receiverId } = enrolment;
  output.result({ agent, url: enrolment.url, receiverId, isDefault }, [
    `Enrolled as ${agent} with the receiver ${enrolment.url}`,
    ...(isDefault ? [] : [`  another one stays the default: name this one with --store ${enrolment.url}`]),
  ]);
  return EXIT_OK;
}

/** So that the code is not seen in the list of processes, nor kept in the shell's history. */
async function firstLineOfStdin(): Promise<string> {
  for await (const line of createInterface({ input: process.stdin.setEncoding('utf8') })) return line.trim();
  return '';
}
