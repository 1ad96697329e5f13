/**
 * What a crash leaves frozen: an agent and its freezer that are killed together thaw nothing, and what writes
 * there waits for ever. So what is about to be frozen is noted in a file of this boot, which its agent holds
 * locked; the next agent thaws what notes without a holder name.
 *
 *   note      before the freeze      locked
 *   forget    after the thaw         removed; it stays where something could not be thawed
 *   thawLeft  when an agent starts,  what notes without a holder name is thawed; a note stays until none
 *             and before a freeze    of its file systems is mounted and may be frozen
 *
 * The next agent may be in another mount namespace, as a service is: it has other ids of mounts. So a note
 * has the numbers of file systems, which are the same everywhere.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Mount, mountShownAt, parseMountinfo } from '../../devices/system/mount-table.js';
import { tryLockExclusive } from '../../native/files.js';

export interface FreezeTarget {
  /** Of /proc/self/mountinfo. */
  readonly id: number;
  readonly path: string;
}

/** In memory: a boot ends every freeze. */
const DIRECTORY = '/run/stillpoint/frozen';
const noteSchema = z.strictObject({
  version: z.literal(1),
  filesystems: z.array(z.strictObject({ number: z.string().max(32), path: z.string().max(4096) })).max(256),
});
type NotedFilesystem = z.infer<typeof noteSchema>['filesystems'][number];

/** @returns what to call when all are thawed. Where no note can be made, there is none. */
export async function noteFreeze(
  targets: readonly FreezeTarget[],
  directory = DIRECTORY,
): Promise<() => Promise<void>> {
  if (targets.length === 0) return async () => undefined;
  const mounts = await mountTable();
  const filesystems = targets.flatMap(({ id, path }): NotedFilesystem[] => {
    const number = mounts.find((mount) => mount.id === id)?.number;
    return number === undefined ? [] : [{ number, path }];
  });
  const path = join(directory, randomBytes(8).toString('hex'));
  let note: FileHandle;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    note = await open(path, 'wx', 0o600);
  } catch {
    return async () => undefined;
  }
  const forget = async () => {
    await unlink(path).catch(() => undefined);
    await note.close();
  };
  tryLockExclusive(note);
  try {
    await note.writeFile(JSON.stringify({ version: 1, filesystems }));
  } catch {
    await forget();
    return async () => undefined;
  }
  return forget;
}

/** @param thaw harmless where nothing is frozen; returns the mount points that could not be thawed */
export async function thawLeft(
  thaw: (targets: readonly FreezeTarget[]) => Promise<readonly string[]>,
  directory = DIRECTORY,
): Promise<void> {
  for (const name of await readdir(directory).catch(() => [])) {
    const path = join(directory, name);
    const note = await open(path, 'r+').catch(() => null);
    if (note === null) continue;
    try {
      if (!tryLockExclusive(note)) continue;
      const noted = parse(await note.readFile('utf8'));
      // It is just being made.
      if (noted === null) continue;
      const { targets, hidden } = reachable(noted, await mountTable());
      const stuck = await thaw(targets);
      if (stuck.length === 0 && hidden.length === 0) await unlink(path).catch(() => undefined);
    } finally {
      await note.close();
    }
  }
}

/**
 * What can be thawed here, and what is mounted, but hidden or elsewhere. Only at its own path is it surely
 * what was noted: the number of one that was unmounted may be another's now, and somebody may hold that
 * frozen.
 */
export function reachable(
  noted: readonly NotedFilesystem[],
  mounts: readonly Mount[],
): { readonly targets: readonly FreezeTarget[]; readonly hidden: readonly NotedFilesystem[] } {
  const targets: FreezeTarget[] = [];
  const hidden: NotedFilesystem[] = [];
  for (const { number, path } of noted) {
    const shown = mountShownAt(path, mounts);
    if (shown?.mountPoint === path && shown.number === number) targets.push({ id: shown.id, path });
    else if (mounts.some((mount) => mount.number === number)) hidden.push({ number, path });
  }
  return { targets, hidden };
}

const mountTable = async (): Promise<Mount[]> =>
  parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''));

function parse(text: string): readonly NotedFilesystem[] | null {
  try {
    return noteSchema.parse(JSON.parse(text)).filesystems;
  } catch {
    return null;
  }
}
