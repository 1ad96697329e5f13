/** Turns errors of files, native code and the index into errors for users of the store. */
import { type ErrorCode, isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { errnoNameOf, NO_FACTS, systemError } from '../../domain/base/system-errors.js';
import { pathFacts } from '../../native/path-facts.js';
import { errnoOf } from './disk.js';
import { NoRoom } from './room.js';

/** @param thing what the store was working on, for errors that don't say it */
export function toStoreError(error: unknown, thing: string): StillpointError {
  if (isStillpointError(error)) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (error instanceof NoRoom || /ENOSPC|no space left/i.test(text)) {
    return new StillpointError('store-full', {
      thing,
      reason: `the disk of the store is full${error instanceof NoRoom ? `: ${text}` : ''}`,
      remedy: 'Make room on it and try again; nothing that was committed is affected.',
      cause: error,
    });
  }
  const errno = errnoNameOf(error);
  const path = (error as NodeJS.ErrnoException).path;
  const facts = errno === null || path === undefined ? NO_FACTS : pathFacts(path, errno);
  const told =
    errno === 'ETRUNCATED' ? null : systemError(error, { thing: path ?? thing, place: 'store', facts });
  if (told !== null) return told;
  return new StillpointError('store-io', {
    thing,
    reason: `the store can't be read or written: ${text}`,
    remedy: 'Look at the disk of the store.',
    cause: error,
  });
}

/** Runs a step of the store and translates what it throws. */
export async function asStoreStep<T>(thing: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw toStoreError(error, thing);
  }
}

const CONTENT_CODES: Record<string, ErrorCode> = { 'bad-digest': 'bad-digest' };

/** What native.decodeBatch says of a body, as an answer to its sender. */
export function toBatchError(error: unknown, thing: string): StillpointError {
  if (isStillpointError(error)) return error;
  const code = errnoOf(error);
  const isAboutContent = code !== undefined && (/^bad-/.test(code) || code === 'truncated');
  if (!isAboutContent) return toStoreError(error, thing);
  return new StillpointError(CONTENT_CODES[code] ?? 'bad-batch', {
    thing,
    reason: `the batch is refused (${code}): ${(error as Error).message}`,
    remedy: 'The sender or the link is faulty; nothing of the batch was kept.',
    cause: error,
  });
}
