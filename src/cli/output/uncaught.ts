/**
 * The last safety net: an error that no code catches ends the process with one error line and exit code 1.
 * The stack is shown on request.
 */
import { writeSync } from 'node:fs';
import { EXIT_FAILED } from './exit-codes.js';
import { printable } from './format.js';
import type { StandardStream } from './standard-output.js';
import { toldError } from './told-error.js';

/** Set to anything: the stack of what nobody caught is shown, for who mends the program. */
const STACK_VARIABLE = 'STILLPOINT_STACK';

export function tellUncaught(
  stderr: StandardStream,
  environment: Readonly<Record<string, string | undefined>>,
): void {
  const tell = (error: unknown): void => {
    // One cause may come out at several places: the first of them is told.
    if (!stderr.hasToldError) tellNow(`error: ${printable(toldError(error, null).message)}\n`);
    const showsStack = (environment[STACK_VARIABLE] ?? '') !== '' && error instanceof Error;
    if (showsStack) tellNow(`${printable(error.stack ?? '')}\n`);
    process.exit(EXIT_FAILED);
  };
  process.on('uncaughtException', tell).on('unhandledRejection', tell);
}

/** The process ends now, and waits for no stream. */
function tellNow(text: string): void {
  try {
    writeSync(2, text);
  } catch {
    // Nobody can be told; the exit code says it.
  }
}
