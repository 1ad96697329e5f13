/**
 * The one error type that crosses module borders. A message names the thing, the reason and the remedy:
 *   `thing: reason. remedy.`
 * Rules: `code` is one of the table in error-codes.ts, stable and for programs; `permanent: false` says that
 * the same request may succeed if it is tried again; a foreign error is kept as `cause`.
 */
import { ERRORS, type ErrorCode } from './error-codes.js';

export { ERROR_CODES, type ErrorCode } from './error-codes.js';

export interface ErrorDetails {
  /** What failed: a path, device, point or URL. */
  readonly thing: string;
  /** Why, as a clause. */
  readonly reason: string;
  /** What the user can do about it, as a sentence. */
  readonly remedy?: string;
  /** False if trying again may help. Default: as the table says of the code. */
  readonly permanent?: boolean;
  readonly cause?: unknown;
}

export class StillpointError extends Error {
  override readonly name = 'StillpointError';
  readonly code: ErrorCode;
  readonly thing: string;
  readonly reason: string;
  readonly remedy: string | undefined;
  readonly permanent: boolean;

  constructor(code: ErrorCode, details: ErrorDetails) {
    super(
      `${details.thing}: ${details.reason}.${details.remedy === undefined ? '' : ` ${details.remedy}`}`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.code = code;
    this.thing = details.thing;
    this.reason = details.reason;
    this.remedy = details.remedy;
    this.permanent = details.permanent ?? ERRORS[code].permanent;
  }
}

export function isStillpointError(error: unknown, code?: ErrorCode): error is StillpointError {
  return error instanceof StillpointError && (code === undefined || error.code === code);
}
