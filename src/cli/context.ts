/** What every command gets: the global options, made ready to use. */
import { Option } from 'commander';
import type { Output } from './output.js';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface CommandContext {
  /** Absolute. */
  readonly stateDirectory: string;
  readonly output: Output;
  readonly logLevel: LogLevel;
  /** Aborted by SIGINT and SIGTERM: the command cleans up and throws `cancelled`. */
  readonly signal: AbortSignal;
}

/** Runs a command's work and remembers the exit code that it resolves to. */
export type Run = (work: (context: CommandContext) => Promise<number>) => Promise<void>;

/** The same on every command that talks to a receiver. */
export function storeOption(): Option {
  return new Option(
    '--store <url|dir>',
    'the receiver: URL of an enrolled one, or a directory to use without network (default: the one enrolled with)',
  );
}
