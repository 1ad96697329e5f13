/**
 * The files that commands write into agent.d/: each has one thing, and is named after it. It
 * is written as a whole (temporary file, fsync, rename, fsync of the directory), and removed durably.
 */
import { lstat, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StillpointError } from '../domain/base/errors.js';
import { replaceFile, syncDirectory } from '../native/files.js';
import { makeDirectory } from './state-file.js';

/** The first words of such a file. Without them it is somebody's own. */
const MARK = '# Written by "stillpoint ';

export function dropInPath(directory: string, name: string): string {
  return join(directory, 'agent.d', `${name}.toml`);
}

/**
 * @param commands that wrote it, and the one that removes it, without `stillpoint`
 * @throws StillpointError `config` if somebody's own file has this name
 */
export async function writeDropIn(
  path: string,
  commands: { readonly writes: string; readonly removes: string },
  lines: readonly string[],
): Promise<void> {
  await requireOwn(path);
  const folder = dirname(path);
  await makeDirectory(folder);
  const head = `${MARK}${commands.writes}"; "stillpoint ${commands.removes}" removes it.`;
  await replaceFile(path, `${[head, ...lines].join('\n')}\n`, 0o640);
}

/** Whether a command wrote it. */
export async function isDropIn(path: string): Promise<boolean> {
  return (await readFile(path, 'utf8').catch(() => '')).startsWith(MARK);
}

async function requireOwn(path: string): Promise<void> {
  const isThere = await lstat(path).then(
    () => true,
    ({ code }: NodeJS.ErrnoException) => code !== 'ENOENT',
  );
  if (!isThere || (await isDropIn(path))) return;
  throw new StillpointError('config', {
    thing: path,
    reason: 'no command wrote this file, and its name is that of the one to be changed',
    remedy: 'Rename it: it counts under any name that ends with .toml.',
  });
}

/** @returns false if there was none. @throws StillpointError `config` if it is somebody's own */
export async function removeDropIn(path: string): Promise<boolean> {
  await requireOwn(path);
  try {
    await rm(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  await syncDirectory(dirname(path));
  return true;
}
