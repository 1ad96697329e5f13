/**
 * Commands of the receiver leave files in its directory. Root becomes the user that the receiver belongs to,
 * so that the receiver's service, which runs as that user, can read and replace them.
 */
import type { Stats } from 'node:fs';
import { lchown, lstat, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommandContext } from '../common/context.js';

const isRoot = ({ userId }: CommandContext): boolean => userId === 0 && process.geteuid?.() === 0;

/** Does nothing for other users, and where there is no receiver. */
export async function actAsOwner(context: CommandContext, directory: string): Promise<void> {
  if (!isRoot(context)) return;
  const owner = await stat(join(directory, 'receiver')).catch(() => null);
  if (owner !== null && owner.uid !== 0) become(owner);
}

/** For a receiver that is being made: the directory's owner gets what root has just put there. */
export async function giveToOwner(context: CommandContext, directory: string): Promise<void> {
  if (!isRoot(context)) return;
  const owner = await stat(directory);
  if (owner.uid === 0) return;
  for (const name of await readdir(directory, { recursive: true })) {
    const path = join(directory, name);
    const status = await lstat(path);
    // Another name of a file may be anywhere, and a link leads anywhere.
    const isOurs = status.isDirectory() || (status.isFile() && status.nlink === 1);
    if (status.uid === 0 && isOurs) await lchown(path, owner.uid, owner.gid);
  }
  become(owner);
}

function become({ uid, gid }: Stats): void {
  process.setgroups?.([gid]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}
