/** An NBD export as a file, and so as a loop device, on machines whose kernel has no `nbd`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { Requirement } from '../requirements.js';
import { run } from './loop-device.js';

export const NBD_FUSE_REQUIREMENTS: readonly Requirement[] = ['root', 'loop', { program: 'nbdfuse' }];

export interface NbdFile {
  /** `<mountPoint>/disk` */
  readonly path: string;
  /** Returns when all that was written has reached the server. Nobody may have it open. */
  unmount(): Promise<void>;
}

export interface NbdFileOptions {
  readonly readOnly?: boolean;
  /** To a URI. */
  readonly connections?: number;
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * Unmounted when the test ends.
 * @param peer a URI, or `--command` and a server that serves on its standard input.
 */
export async function nbdFile(
  t: ExecutionContext,
  mountPoint: string,
  peer: readonly string[],
  { readOnly = false, connections = 1, env = {} }: NbdFileOptions = {},
): Promise<NbdFile> {
  await mkdir(mountPoint);
  const path = join(mountPoint, 'disk');
  const many = connections === 1 ? [] : ['--connections', String(connections)];
  const child = spawn('nbdfuse', [...(readOnly ? ['--readonly'] : []), ...many, path, ...peer], {
    env: { ...process.env, ...env },
    stdio: 'ignore',
  });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    try {
      run('umount', '--lazy', mountPoint);
    } catch {
      child.kill('SIGKILL');
    }
    await ended;
  });
  while (!existsSync(path)) {
    if (child.exitCode !== null) throw new Error('nbdfuse does not start');
    await sleep(20);
  }
  return {
    path,
    unmount: async () => {
      run('umount', mountPoint);
      await ended;
    },
  };
}
