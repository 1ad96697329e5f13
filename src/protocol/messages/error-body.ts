/** StillpointError <-> HTTP status and error body: the only place that converts between them. */
import { z } from 'zod';
import { ERRORS } from '../../domain/base/error-codes.js';
import { ERROR_CODES, type ErrorCode, isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { systemError } from '../../domain/base/system-errors.js';

export interface ErrorBody {
  readonly code: ErrorCode;
  readonly thing: string;
  readonly reason: string;
  readonly remedy?: string;
  readonly permanent: boolean;
}

const CODE_CHARS_MAX = 64;
const TEXT_CHARS_MAX = 8192;
const text = z.string().max(TEXT_CHARS_MAX);

/** A newer receiver may have more fields, and codes that this program does not know: its texts count. */
export const errorBodySchema: z.ZodType<ErrorBody> = z.object({
  code: z
    .string()
    .max(CODE_CHARS_MAX)
    .transform((code): ErrorCode => (isErrorCode(code) ? code : 'version')),
  thing: text,
  reason: text,
  remedy: text.exactOptional(),
  permanent: z.boolean(),
});

function isErrorCode(code: string): code is ErrorCode {
  return (ERROR_CODES as readonly string[]).includes(code);
}

/** Anything that is not a StillpointError is a defect here: its text stays in the receiver's log. */
export function toStillpointError(error: unknown): StillpointError {
  if (isStillpointError(error)) return error;
  const told = systemError(error, { thing: 'receiver', place: 'process' });
  if (told !== null) return told;
  return new StillpointError('internal', {
    thing: 'receiver',
    reason: 'it failed for an unknown reason',
    remedy: "See the receiver's log.",
    cause: error,
  });
}

export function encodeError(error: StillpointError): { status: number; body: ErrorBody } {
  const { code, remedy, permanent } = error;
  return {
    status: ERRORS[code].httpStatus,
    body: {
      code,
      thing: error.thing.slice(0, TEXT_CHARS_MAX),
      reason: error.reason.slice(0, TEXT_CHARS_MAX),
      ...(remedy === undefined ? {} : { remedy: remedy.slice(0, TEXT_CHARS_MAX) }),
      permanent,
    },
  };
}

export function decodeError(body: ErrorBody): StillpointError {
  const { code, ...details } = body;
  return new StillpointError(code, details);
}

/**
 * The error of an answer that is no success. A body that is none of ours comes from something in
 * between, or a closing server.
 */
export function errorOfAnswer(url: string, status: number, bytes: Buffer): StillpointError {
  try {
    const body = errorBodySchema.safeParse(JSON.parse(bytes.toString('utf8')));
    if (body.success) return decodeError(body.data);
  } catch {
    // not JSON: described by its status below
  }
  return new StillpointError(status === 503 ? 'busy' : 'bad-message', {
    thing: url,
    reason: `it answered with HTTP status ${status} and no error that this agent knows`,
    remedy: 'Check that the URL is that of a Stillpoint receiver of this version.',
    permanent: status !== 503,
  });
}
