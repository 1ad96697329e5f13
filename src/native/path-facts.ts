/**
 * What the file system says about a path after a call failed: the reason, beyond the errno. It is asked only
 * after a failure.
 */
import { accessSync, constants, lstatSync, readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { native } from './addon.js';

export interface PathFacts {
  readonly obstacle: string | null;
  readonly flagged: { readonly path: string; readonly flag: 'immutable' | 'append-only' } | null;
  readonly isDanglingLink: boolean;
  readonly isReadOnlyDevice: boolean;
}

/** @param errno what the call failed with */
export function pathFacts(path: string, errno: string): PathFacts {
  const at = resolve(path);
  const isDenied = errno === 'EPERM' || errno === 'EACCES' || errno === 'EROFS';
  return {
    obstacle: obstacleOf(at, errno),
    flagged: isDenied ? flaggedOf(at) : null,
    isDanglingLink: errno === 'ENOENT' && isThere(at, lstatSync) && !isThere(at, statSync),
    isReadOnlyDevice: isDenied && isReadOnlyDevice(at),
  };
}

function isThere(path: string, ask: typeof statSync | typeof lstatSync): boolean {
  return quietly(() => ask(path)) !== null;
}

/** The first directory above the path, from the root, that is to blame. */
function obstacleOf(path: string, errno: string): string | null {
  for (const directory of directoriesAbove(path)) {
    if (errno === 'ENOENT' && !isThere(directory, statSync)) return directory;
    if (errno === 'ENOTDIR' && quietly(() => statSync(directory).isDirectory()) === false) return directory;
    if (errno === 'EACCES' && !mayAccess(directory, constants.X_OK)) return directory;
  }
  const parent = dirname(path);
  // It was to be made there.
  const isMissing = errno === 'EACCES' && !isThere(path, lstatSync);
  return isMissing && !mayAccess(parent, constants.W_OK) ? parent : null;
}

function directoriesAbove(path: string): string[] {
  const above: string[] = [];
  for (let at = dirname(path); at !== dirname(at); at = dirname(at)) above.unshift(at);
  return above;
}

function mayAccess(path: string, mode: number): boolean {
  return quietly(() => accessSync(path, mode)) !== null;
}

function flaggedOf(path: string): PathFacts['flagged'] {
  for (const at of [path, dirname(path)]) {
    const flags = quietly(() => native.pathFlags(at));
    if (flags?.isImmutable === true) return { path: at, flag: 'immutable' };
    if (flags?.isAppendOnly === true) return { path: at, flag: 'append-only' };
  }
  return null;
}

function isReadOnlyDevice(path: string): boolean {
  const status = quietly(() => statSync(path));
  if (status?.isBlockDevice() !== true) return false;
  const [major, minor] = [(status.rdev >> 8) & 0xfff, (status.rdev & 0xff) | ((status.rdev >> 12) & 0xfff00)];
  return quietly(() => readFileSync(`/sys/dev/block/${major}:${minor}/ro`, 'utf8').trim()) === '1';
}

/** Null where the question fails too. */
function quietly<T>(ask: () => T): T | null {
  try {
    return ask();
  } catch {
    return null;
  }
}
