/** Hooks for tests: shell scripts that tell in a file what happens to them. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryDirectory } from '../disks/loop-device.js';

export interface HookScene {
  /** @param body after `log()` is defined, which notes a line. @returns the path of the executable. */
  script(name: string, body: string): Promise<string>;
  /** What was noted, in order. */
  log(): Promise<string[]>;
}

/** Quiesces, waits, lets go: what a hook ought to do. */
export const WELL_BEHAVED = `
  log quiesced
  echo ready
  read -r word || word=aborted
  log "$word"
`;

export async function hookScene(t: ExecutionContext): Promise<HookScene> {
  const directory = await temporaryDirectory(t, 'hooks');
  const logPath = join(directory, 'log');
  await writeFile(logPath, '');
  return {
    script: async (name, body) => {
      const path = join(directory, name);
      const head = `#!/bin/sh\nset -eu\nlog() { echo "${name} $*" >>"${logPath}"; }\n`;
      await writeFile(path, `${head}${body}\n`, { mode: 0o755 });
      return path;
    },
    log: async () => (await readFile(logPath, 'utf8')).split('\n').slice(0, -1),
  };
}
