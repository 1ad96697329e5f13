/** Refusals, said the one way in which errors cross rooms. */
import type { ExecutionContext } from 'ava';
import { type ErrorCode, isStillpointError, type StillpointError } from '../../src/domain/base/errors.js';

/** Requires that the work fails with this code, and that the message says so much. */
export async function refused(
  t: ExecutionContext,
  work: Promise<unknown>,
  code: ErrorCode,
  text = /./,
): Promise<StillpointError> {
  const error = await t.throwsAsync(work);
  if (!isStillpointError(error, code)) throw new Error(`${code} expected: ${error?.stack}`);
  t.regex(error.message, text);
  return error;
}
