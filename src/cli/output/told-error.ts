/**
 * Errors that reach the top, in the words of the user: our errors as they are, the system's by the table;
 * anything else is a defect.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { errnoNameOf, placeOf, systemError } from '../../domain/base/system-errors.js';
import { checkoutPath } from '../../native/checkout.js';
import { pathFacts } from '../../native/path-facts.js';

/** What the paths of the program's own files begin with. */
const PROGRAM_FILES = ['build/', 'node_modules/', 'package.json'].map(checkoutPath);

/** @param stateDirectory null: it is not known. */
export function toldError(error: unknown, stateDirectory: string | null): StillpointError {
  if (isStillpointError(error)) return error;
  const errno = errnoNameOf(error);
  if (errno !== null) {
    const { path } = error as NodeJS.ErrnoException;
    const isOwn = path === undefined || PROGRAM_FILES.some((own) => path.startsWith(own));
    const told = systemError(
      error,
      isOwn
        ? { thing: 'stillpoint', place: 'process' }
        : {
            thing: path,
            place: placeOf(path, { stateDirectory, otherwise: 'file' }),
            facts: pathFacts(path, errno),
          },
    );
    if (told !== null) return told;
  }
  return new StillpointError('internal', {
    thing: 'stillpoint',
    reason: describeUnknown(error),
    remedy: 'This is a defect; please report it.',
    cause: error,
  });
}

function describeUnknown(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  return code === undefined || error.message.includes(code) ? error.message : `${error.message} (${code})`;
}
