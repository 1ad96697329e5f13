/** StillpointError <-> HTTP status and error body: the only place that maps one to the other. */
import { z } from 'zod';
import { ERROR_CODES, type ErrorCode, isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { systemError } from '../../domain/base/system-errors.js';

/** HTTP statuses are for proxies and logs; programs read the code in the body. */
const STATUS: Record<ErrorCode, number> = {
  usage: 400,
  'bad-name': 400,
  'bad-geometry': 400,
  'bad-point-name': 400,
  config: 500,
  'device-not-found': 404,
  'device-in-use': 409,
  'device-changed': 409,
  'device-identity': 409,
  'device-io': 500,
  'device-too-small': 409,
  'device-sector-size': 409,
  'half-restored': 409,
  hook: 500,
  frozen: 500,
  'snapshot-lost': 500,
  'bad-message': 400,
  'bad-batch': 422,
  'bad-digest': 422,
  'bad-patch': 422,
  'too-large': 413,
  'out-of-order': 409,
  'session-unknown': 404,
  'session-closed': 409,
  'session-busy': 409,
  'root-mismatch': 422,
  'base-mismatch': 409,
  version: 426,
  'not-enrolled': 401,
  unauthorized: 401,
  forbidden: 403,
  'invite-invalid': 403,
  'invite-expired': 403,
  'identity-mismatch': 409,
  'store-locked': 503,
  'store-missing': 500,
  'store-changed': 409,
  'store-damaged': 500,
  'store-full': 507,
  'store-io': 500,
  'point-unknown': 404,
  'device-unknown': 404,
  unreachable: 503,
  'connection-lost': 400,
  timeout: 408,
  busy: 503,
  cancelled: 409,
  system: 500,
  internal: 500,
};

export interface ErrorBody {
  readonly code: ErrorCode;
  readonly thing: string;
  readonly reason: string;
  readonly remedy?: string;
  readonly permanent: boolean;
}

const TEXT_CHARS_MAX = 8192;
const text = z.string().max(TEXT_CHARS_MAX);

export const errorBodySchema: z.ZodType<ErrorBody> = z.strictObject({
  code: z.enum(ERROR_CODES),
  thing: text,
  reason: text,
  remedy: text.exactOptional(),
  permanent: z.boolean(),
});

/** Anything that is not a StillpointError is a defect here: its text stays in the receiver's log. */
export function toStillpointError(error: unknown): StillpointError {
  if (isStillpointError(error)) return error;
  const told = systemError(error, { thing: 'receiver', place: 'process' });
  if (told !== null) return told;
  return new StillpointError('internal', {
    thing: 'receiver',
    reason: 'it failed in a way that it does not know',
    remedy: "Look into the receiver's log.",
    cause: error,
  });
}

export function encodeError(error: StillpointError): { status: number; body: ErrorBody } {
  const { code, remedy, permanent } = error;
  return {
    status: STATUS[code],
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

/** The error of an answer that is no success. A body that is none of ours comes from something in between, or a closing server. */
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
