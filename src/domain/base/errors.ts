/**
 * The one error type that crosses module borders. A message names the thing, the reason and the remedy:
 *   `thing: reason. remedy.`
 * Rules: `code` is stable and for programs; `permanent` says whether the same request may succeed when it is tried again;
 * a foreign error is kept as `cause`.
 */
export const ERROR_CODES = [
  // input
  'usage',
  'bad-name',
  'bad-geometry',
  'bad-point-name',
  'config',
  // device
  'device-not-found',
  'device-in-use',
  'device-changed',
  'device-identity',
  'device-io',
  'device-too-small',
  'device-sector-size',
  'half-restored',
  'hook',
  'frozen',
  'snapshot-lost',
  // protocol and session
  'bad-message',
  'bad-batch',
  'bad-digest',
  'bad-patch',
  'too-large',
  'out-of-order',
  'session-unknown',
  'session-closed',
  'session-busy',
  'root-mismatch',
  'base-mismatch',
  'version',
  // access
  'not-enrolled',
  'unauthorized',
  'forbidden',
  'invite-invalid',
  'invite-expired',
  'identity-mismatch',
  // store
  'store-locked',
  'store-missing',
  'store-changed',
  'store-damaged',
  'store-full',
  'store-io',
  'point-unknown',
  'device-unknown',
  // link
  'unreachable',
  'connection-lost',
  'timeout',
  'busy',
  'cancelled',
  // of this process: what the system refused, and no other code says
  'system',
  'internal',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

export interface ErrorDetails {
  /** What failed: a path, device, point or URL. */
  readonly thing: string;
  /** Why, as a clause. */
  readonly reason: string;
  /** What the user can do about it, as a sentence. */
  readonly remedy?: string;
  /** False if trying again may help. */
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
    this.permanent = details.permanent ?? true;
  }
}

export function isStillpointError(error: unknown, code?: ErrorCode): error is StillpointError {
  return error instanceof StillpointError && (code === undefined || error.code === code);
}
