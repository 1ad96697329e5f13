/** Programs of util-linux that do things to a target that Node can't. */
import { execFile } from 'node:child_process';

const TIMEOUT_MS = 30_000;

export interface ToolResult {
  /** Null: it could not be run, or did not end. */
  readonly code: number | null;
  readonly stdout: string;
  /** What it says of its failure, in one line; empty where it did not fail. */
  readonly message: string;
}

export function runTool(program: string, args: readonly string[]): Promise<ToolResult> {
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`, LC_ALL: 'C' };
  return new Promise((resolve) => {
    execFile(program, args, { env, timeout: TIMEOUT_MS }, (error, stdout, stderr) => {
      if (error === null) return resolve({ code: 0, stdout, message: '' });
      const code = typeof error.code === 'number' ? error.code : null;
      const said = stderr.trim().split('\n').at(-1) ?? '';
      resolve({ code, stdout, message: said === '' ? `${program} could not be run` : said });
    });
  });
}
