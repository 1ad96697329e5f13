/** `stillpoint enroll URL CODE`: makes this machine an agent of a receiver. */
import type { Command } from 'commander';
import { unlessAborted } from '../../agent/common/cancel.js';
import type { CommandContext, Run } from '../common/context.js';
import { EXIT_OK } from '../output/exit-codes.js';

export function addEnroll(program: Command, run: Run): void {
  program
    .command('enroll')
    .description('make this machine an agent of a receiver')
    .argument('<url>', 'URL of the receiver, https://HOST:PORT')
    .argument('<code>', 'the one-time code that "stillpoint receiver invite" printed there')
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
  const enrolment = await unlessAborted(signal, enrollWith(url, code));
  await saveEnrolment(stateDirectory, enrolment, { makeDefault });
  output.result({ agent: enrolment.agent, url: enrolment.url, receiverId: enrolment.receiverId }, [
    `Enrolled as ${enrolment.agent} with the receiver ${enrolment.url}`,
  ]);
  return EXIT_OK;
}
