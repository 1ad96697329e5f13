/** The kernel's table of mounts, proc(5) `/proc/PID/mountinfo`, and what a path in it really shows. Pure. */

export interface Mount {
  readonly id: number;
  readonly parentId: number;
  /** `8:1`: of the file system (superblock). btrfs and some others show an anonymous one, `0:N`. */
  readonly number: string;
  /** What of the file system is mounted: `/`, or the directory or file of a bind mount. */
  readonly root: string;
  readonly mountPoint: string;
  /** `ext4` */
  readonly type: string;
  readonly source: string;
  /** What counts is whether the file system is read-only, not the mount. */
  readonly superReadOnly: boolean;
}

export const unescapeOctal = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Lines that are none of a mount are left out. */
export function parseMountinfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const [id, parentId, number, root, mountPoint] = left.split(' ');
    const [type = '', source = '', superOptions = ''] = right.split(' ');
    if (number === undefined || root === undefined || mountPoint === undefined) return [];
    return [
      {
        id: Number(id),
        parentId: Number(parentId),
        number,
        root: unescapeOctal(root),
        mountPoint: unescapeOctal(mountPoint),
        type,
        source: unescapeOctal(source),
        superReadOnly: superOptions.split(',').includes('ro'),
      },
    ];
  });
}

/** Options of the file system (not of the mount): `compress=zstd:1`, `upperdir=/srv/upper`. */
export function superOptions(text: string, mountId: number): string[] {
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${mountId} `));
  const options = line?.split(' - ')[1]?.split(' ')[2] ?? '';
  return options.split(',').map(unescapeOctal);
}

const covers = (directory: string, path: string): boolean =>
  path === directory || path.startsWith(directory === '/' ? '/' : `${directory}/`);

/**
 * The mount that a path shows, null if the table has none: of mounts on the path or above it, the one that
 * was mounted onto the others. A mount that another one hides does not count.
 */
export function mountShownAt(path: string, mounts: readonly Mount[]): Mount | null {
  const candidates = mounts.filter((mount) => covers(mount.mountPoint, path));
  const root = candidates.find(
    (mount) => !candidates.some((other) => other !== mount && other.id === mount.parentId),
  );
  const visited = new Set<Mount>();
  let shown = root;
  while (shown !== undefined && !visited.has(shown)) {
    visited.add(shown);
    const { id } = shown;
    // Of two mounts on the same one, the shorter path is met first and hides what is below.
    const onTop: Mount | undefined = candidates
      .filter((mount) => mount.parentId === id && mount.id !== id)
      .sort((a, b) => a.mountPoint.length - b.mountPoint.length)[0];
    if (onTop === undefined) break;
    shown = onTop;
  }
  return shown ?? null;
}

/**
 * All paths under which what a path shows can be seen, itself first: through bind mounts, or the same
 * file system mounted twice.
 * @param path absolute, without symbolic links
 */
export function namesOf(path: string, mounts: readonly Mount[]): string[] {
  const shown = mountShownAt(path, mounts);
  if (shown === null) return [path];
  const inFilesystem = below(shown.root, behind(shown.mountPoint, path));
  const names = mounts
    .filter((mount) => mount.number === shown.number && covers(mount.root, inFilesystem))
    .map((mount) => ({ mount, name: below(mount.mountPoint, behind(mount.root, inFilesystem)) }))
    // Another mount may hide it there.
    .filter(({ mount, name }) => mountShownAt(name, mounts) === mount)
    .map(({ name }) => name);
  return [...new Set([path, ...names])];
}

/** `/b/c` of `/a/b/c` behind `/a`; empty if they are the same. */
const behind = (directory: string, path: string): string =>
  path.slice(directory === '/' ? 0 : directory.length).replace(/^\/$/, '');

const below = (directory: string, rest: string): string =>
  directory === '/' ? rest || '/' : `${directory}${rest}`;
