/**
 * Where a target's path leads: links are followed to the end, even to a file that does not exist yet. A file
 * never replaces a link.
 */
import type { Stats } from 'node:fs';
import { readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';

export interface TargetPath {
  /** Absolute, without symbolic links. */
  readonly path: string;
  /** Null: there is nothing yet, and its directory is there. */
  readonly status: Stats | null;
}

/** As the kernel. */
const LINKS_MAX = 40;

/** @throws StillpointError `device-not-found` */
export async function followTarget(named: string): Promise<TargetPath> {
  let path = resolve(named);
  for (let links = 0; links <= LINKS_MAX; links += 1) {
    const status = await statOf(path, named);
    if (status !== null) return { path: await realPathOf(path, status), status };
    const directory = await realpath(dirname(path)).catch(() => null);
    refuseDeviceName(named, directory === null ? path : join(directory, basename(path)));
    if (directory === null || !(await stat(directory)).isDirectory()) throw noDirectory(named, dirname(path));
    path = join(directory, basename(path));
    const next = await readlink(path).catch(() => null);
    if (next === null) return { path, status: null };
    path = resolve(directory, next);
  }
  throw linksInCircle(named);
}

async function statOf(path: string, named: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return null;
    if (code === 'ELOOP') throw linksInCircle(named);
    if (code === 'ENOTDIR') throw noDirectory(named, dirname(path));
    throw error;
  }
}

/** What /proc shows of an open file may have lost its name, or have none. */
async function realPathOf(path: string, { dev, ino }: Stats): Promise<string> {
  const real = await realpath(path).catch(() => path);
  const status = await stat(real).catch(() => null);
  return status?.dev === dev && status.ino === ino ? real : path;
}

/** A device's name with a typing mistake would become an image in memory, and look like a restored device. */
function refuseDeviceName(named: string, path: string): void {
  if (!/^\/dev(?!\/shm(?:\/|$))\//.test(path)) return;
  const isLink = path !== resolve(named);
  throw new StillpointError('device-not-found', {
    thing: named,
    reason: isLink
      ? `it leads to ${path}, and there is no such device`
      : 'there is no such device, and images do not belong in /dev',
    remedy: 'Check the path; "lsblk" lists block devices.',
  });
}

function noDirectory(named: string, directory: string): StillpointError {
  const leads = dirname(resolve(named)) === directory ? '' : `${named} leads there, and `;
  return new StillpointError('device-not-found', {
    thing: directory,
    reason: `${leads}there is no such directory`,
    remedy: 'Make it first, or choose another target.',
  });
}

function linksInCircle(named: string): StillpointError {
  return new StillpointError('device-not-found', {
    thing: named,
    reason: 'its symbolic links lead in a circle',
    remedy: 'Look at them with "namei", or choose another target.',
  });
}
