/** Paths with wildcards: `*` and `?` within a name, `[abc]`. No name that begins with a dot is matched. */
import { readdir, stat } from 'node:fs/promises';

export interface GlobMatch {
  readonly path: string;
  /** What the wildcards match, in order. */
  readonly parts: readonly string[];
}

const WILD = /[*?[]/;
const MATCHES_MAX = 4096;

export function isGlob(path: string): boolean {
  return WILD.test(path);
}

function segmentPattern(segment: string): RegExp {
  let source = '';
  for (let at = 0; at < segment.length; at += 1) {
    const char = segment[at] ?? '';
    const end = char === '[' ? segment.indexOf(']', at + 2) : -1;
    if (char === '*') source += '(.*)';
    else if (char === '?') source += '(.)';
    else if (end > 0) {
      const inside = segment
        .slice(at + 1, end)
        .replace(/[\\\]^]/g, '\\$&')
        .replace(/^!/, '^');
      source += `([${inside}])`;
      at = end;
    } else source += char.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  }
  return new RegExp(`^${source}$`, 's');
}

/** False: what is in its brackets is not a set of characters, such as `[z-a]`. */
export function isValidGlob(pattern: string): boolean {
  try {
    for (const segment of pattern.split('/')) segmentPattern(segment);
    return true;
  } catch {
    return false;
  }
}

/** By name. What can't be looked at matches nothing. */
export async function expandGlob(pattern: string): Promise<GlobMatch[]> {
  let matches: GlobMatch[] = [{ path: '', parts: [] }];
  for (const segment of pattern.split('/').slice(1)) {
    const next: GlobMatch[] = [];
    for (const { path, parts } of matches) {
      if (!isGlob(segment)) next.push({ path: `${path}/${segment}`, parts });
      else {
        const names = await readdir(path === '' ? '/' : path).catch(() => []);
        const wild = segmentPattern(segment);
        for (const name of names.sort()) {
          const found = name.startsWith('.') ? null : wild.exec(name);
          if (found !== null) next.push({ path: `${path}/${name}`, parts: [...parts, ...found.slice(1)] });
        }
      }
    }
    matches = next.slice(0, MATCHES_MAX);
  }
  const present: GlobMatch[] = [];
  for (const match of matches)
    if (
      await stat(match.path).then(
        () => true,
        () => false,
      )
    )
      present.push(match);
  return present;
}

export function matchesGlob(pattern: string, path: string): boolean {
  const [wanted, given] = [pattern.split('/'), path.split('/')];
  return (
    wanted.length === given.length &&
    wanted.every((segment, at) => segmentPattern(segment).test(given[at] ?? ''))
  );
}
