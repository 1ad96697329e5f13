/**
 * Disks that the machine's configuration wants mounted (fstab, systemd) and that are not: files written there
 * end up below the mount point.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Mount, parseMountinfo, unescapeOctal } from './mount-table.js';

export interface MountSources {
  readonly fstab: string;
  /** Of systemd's `.mount` units. */
  readonly unitDirectories: readonly string[];
}

const SOURCES: MountSources = {
  fstab: '/etc/fstab',
  unitDirectories: ['/etc/systemd/system', '/run/systemd/generator'],
};

/** Of an fstab's text; without swap and the root. */
export function mountPointsOfFstab(text: string): string[] {
  return text.split('\n').flatMap((line) => {
    const [source = '', mountPoint = ''] = line.trim().split(/\s+/);
    return source.startsWith('#') ? [] : asMountPoint(unescapeOctal(mountPoint));
  });
}

/** Of the text of a systemd mount unit. */
export function mountPointsOfUnit(text: string): string[] {
  return asMountPoint(/^\s*Where\s*=\s*(.*?)\s*$/m.exec(text)?.[1] ?? '');
}

function asMountPoint(text: string): string[] {
  const path = text.replace(/(.)\/+$/, '$1');
  return path.startsWith('/') && path !== '/' ? [path] : [];
}

/**
 * The deepest of the mount points at or above the path that nothing is mounted on; an autofs
 * trigger is nothing. Null: none.
 */
export function unmountedAbove(
  path: string,
  mountPoints: readonly string[],
  mounts: readonly Pick<Mount, 'mountPoint' | 'type'>[],
): string | null {
  const mounted = new Set(mounts.filter(({ type }) => type !== 'autofs').map(({ mountPoint }) => mountPoint));
  const missing = mountPoints
    .filter((point) => path === point || path.startsWith(`${point}/`))
    .filter((point) => !mounted.has(point));
  return missing.sort((a, b) => b.length - a.length)[0] ?? null;
}

/** @param path real and absolute. What can't be read of the machine's configuration is not there. */
export async function findUnmounted(path: string, sources: MountSources = SOURCES): Promise<string | null> {
  const fstab = mountPointsOfFstab(await textOf(sources.fstab));
  const units = await Promise.all(sources.unitDirectories.map(mountPointsOfUnits));
  return unmountedAbove(
    path,
    [...fstab, ...units.flat()],
    parseMountinfo(await textOf('/proc/self/mountinfo')),
  );
}

async function mountPointsOfUnits(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => []);
  const units = names.filter((name) => name.endsWith('.mount'));
  const texts = await Promise.all(units.map((name) => textOf(join(directory, name))));
  return texts.flatMap(mountPointsOfUnit);
}

const textOf = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');
