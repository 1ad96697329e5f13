/**
 * The exit codes of all commands. They are for scripts, so they never change their meaning. README.md shows
 * the table; a test compares the two.
 */
import { ERRORS, type FailureKind } from '../../domain/base/error-codes.js';
import { isStillpointError } from '../../domain/base/errors.js';

export interface ExitRow {
  readonly code: number;
  /** The command did what it was asked for, each in its way. */
  readonly isDone: boolean;
  readonly meaning: string;
}

export const EXITS = {
  ok: { code: 0, isDone: true, meaning: 'done' },
  failed: { code: 1, isDone: false, meaning: 'failed; no point and no new image is left half-done' },
  usage: { code: 2, isDone: false, meaning: 'the command line, a name or a setting is wrong' },
  /**
   * A restore point is there, but part of the device could not be read, or something else deserves a look.
   */
  warnings: { code: 3, isDone: true, meaning: 'done, with warnings' },
  /** `verify` found damage, or what came from the store did not give the digests that it should. */
  damaged: { code: 4, isDone: false, meaning: 'damage was found in what the store holds' },
  noAccess: { code: 5, isDone: false, meaning: "the receiver can't be reached or refuses access" },
  differs: { code: 6, isDone: true, meaning: 'compare: the device differs from the point' },
  /** What the store can give is there; the ranges that it can't give are named, and hold zeros. */
  incomplete: {
    code: 7,
    isDone: true,
    meaning: 'restore --skip-bad: done, without the ranges that are damaged in the store',
  },
  // 128 + signal number, as shells do.
  interrupted: { code: 130, isDone: false, meaning: 'interrupted (SIGINT)' },
  terminated: { code: 143, isDone: false, meaning: 'terminated (SIGTERM)' },
} satisfies Readonly<Record<FailureKind, ExitRow> & Record<string, ExitRow>>;

export const EXIT_OK = EXITS.ok.code;
export const EXIT_FAILED = EXITS.failed.code;
export const EXIT_USAGE = EXITS.usage.code;
export const EXIT_WARNINGS = EXITS.warnings.code;
export const EXIT_DAMAGED = EXITS.damaged.code;
export const EXIT_NO_ACCESS = EXITS.noAccess.code;
export const EXIT_DIFFERS = EXITS.differs.code;
export const EXIT_INCOMPLETE = EXITS.incomplete.code;
export const EXIT_SIGNALS_FROM = 128;
export const EXIT_SIGNAL = { SIGINT: EXITS.interrupted.code, SIGTERM: EXITS.terminated.code } as const;

export function exitCodeOf(error: unknown): number {
  return isStillpointError(error) ? EXITS[ERRORS[error.code].exit].code : EXIT_FAILED;
}

/** The command did not do what it was asked for, or found damage. The others say "done", each in its way. */
export function isFailure(exitCode: number): boolean {
  return !Object.values(EXITS).some(({ code, isDone }) => isDone && code === exitCode);
}

export const EXIT_CODE_HELP = `
Exit codes:
${Object.values(EXITS)
  .map(({ code, meaning }) => `  ${String(code).padEnd(5)}${meaning}`)
  .join('\n')}`;
