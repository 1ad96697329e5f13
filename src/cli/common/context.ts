/** What every command gets: the global options, ready to use. */
import type { Output, TextSink } from '../output/output.js';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface CommandContext {
  /** Absolute. @throws StillpointError `config` where none is named and this user has no home */
  readonly stateDirectory: string;
  /** agent.toml, receiver.toml and their drop-ins. @throws StillpointError `config` as above */
  readonly configDirectory: string;
  /** For commands that do without. */
  readonly stateDirectoryIfAny: string | null;
  readonly output: Output;
  /** Standard output itself, for output other than results: data, a log. */
  readonly stdout: TextSink;
  readonly logLevel: LogLevel;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly userId: number;
  /** Aborted by SIGINT and SIGTERM: the command cleans up and throws `cancelled`. */
  readonly signal: AbortSignal;
}

/** Runs a command's work and remembers the exit code that it resolves to. */
export type Run = (work: (context: CommandContext) => Promise<number>) => Promise<void>;
