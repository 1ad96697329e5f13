/**
 * What a crash leaves frozen: an agent and its freezer that are killed together thaw nothing, and what writes
 * there waits for ever. So what is about to be frozen is noted in a file of this boot, which its agent holds
 * locked; the next agent thaws what notes without a holder name.
 *
 *   note      before the freeze      locked
 *   forget    after the thaw         removed; it stays where something could not be thawed
 *   thawLeft  when an agent starts,  what notes without a holder name is thawed, and they are removed
 *             and before a freeze
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { tryLockExclusive } from '../../native/files.js';

export interface FreezeTarget {
  /** Of /proc/self/mountinfo. */
  readonly id: number;
  readonly path: string;
}

/** In memory: a boot ends every freeze. */
const DIRECTORY = '/run/stillpoint/frozen';
const noteSchema = z.array(z.strictObject({ id: z.int(), path: z.string() })).max(256);

/** @returns what to call when all are thawed. Where no note can be made, there is none. */
export async function noteFreeze(targets: readonly FreezeTarget[]): Promise<() => Promise<void>> {
  if (targets.length === 0) return async () => undefined;
  const path = join(DIRECTORY, randomBytes(8).toString('hex'));
  let note: FileHandle;
  try {
    await mkdir(DIRECTORY, { recursive: true, mode: 0o700 });
    note = await open(path, 'wx', 0o600);
  } catch {
    return async () => undefined;
  }
  tryLockExclusive(note);
  await note.writeFile(JSON.stringify(targets.map(({ id, path: shown }) => ({ id, path: shown }))));
  return async () => {
    await unlink(path).catch(() => undefined);
    await note.close();
  };
}

/** @param thaw harmless where nothing is frozen */
export async function thawLeft(thaw: (targets: readonly FreezeTarget[]) => Promise<unknown>): Promise<void> {
  for (const name of await readdir(DIRECTORY).catch(() => [])) {
    const path = join(DIRECTORY, name);
    const note = await open(path, 'r+').catch(() => null);
    if (note === null) continue;
    try {
      if (!tryLockExclusive(note)) continue;
      const targets = parse(await note.readFile('utf8'));
      // Empty: it is just being made.
      if (targets.length === 0) continue;
      await thaw(targets);
      await unlink(path).catch(() => undefined);
    } finally {
      await note.close();
    }
  }
}

function parse(text: string): readonly FreezeTarget[] {
  try {
    return noteSchema.parse(JSON.parse(text));
  } catch {
    return [];
  }
}
