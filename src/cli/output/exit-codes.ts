/** Exit codes of every command: for scripts, so they never change their meaning. README.md documents them. */
import { type ErrorCode, isStillpointError } from '../../domain/base/errors.js';

export const EXIT_OK = 0;
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
/** Done, and a restore point is there, but part of the device could not be read, or something else deserves a look. */
export const EXIT_WARNINGS = 3;
/** `verify` found damage, or what came from the store did not give the digests that it should. */
export const EXIT_DAMAGED = 4;
/** The receiver can't be reached, or refuses this machine. */
export const EXIT_NO_ACCESS = 5;
/** `compare`: done, and the device differs from the point. */
export const EXIT_DIFFERS = 6;
/** 128 + signal number, as shells do. */
export const EXIT_SIGNALS_FROM = 128;
export const EXIT_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const;

const USAGE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'usage',
  'bad-name',
  'bad-geometry',
  'bad-point-name',
  'config',
]);
const DAMAGED: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['store-damaged', 'bad-digest']);
const NO_ACCESS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'not-enrolled',
  'unauthorized',
  'forbidden',
  'invite-invalid',
  'invite-expired',
  'identity-mismatch',
  'unreachable',
  'connection-lost',
  'timeout',
  'busy',
]);

export function exitCodeOf(error: unknown): number {
  if (!isStillpointError(error)) return EXIT_FAILED;
  if (USAGE.has(error.code)) return EXIT_USAGE;
  if (DAMAGED.has(error.code)) return EXIT_DAMAGED;
  if (NO_ACCESS.has(error.code)) return EXIT_NO_ACCESS;
  return EXIT_FAILED;
}

/** The command did not do what it was asked for, or found damage. The others say "done", each in its way. */
export function isFailure(exitCode: number): boolean {
  return exitCode !== EXIT_OK && exitCode !== EXIT_WARNINGS && exitCode !== EXIT_DIFFERS;
}

export const EXIT_CODE_HELP = `
Exit codes:
  0    done
  1    failed; no point and no new image stays half-done
  2    the command line, a name or a setting is wrong
  3    done, with warnings
  4    damage was found in what the store holds
  5    the receiver can't be reached or refuses access
  6    compare: the device differs from the point
  130  interrupted (SIGINT); 143: terminated (SIGTERM)`;
