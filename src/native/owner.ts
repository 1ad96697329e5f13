/**
 * Root at work in a directory that belongs to another user, who may change it meanwhile: nothing is asked or
 * changed by a path whose last part that user could have made a link.
 */
import { constants, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';

export type Owner = Pick<Stats, 'uid' | 'gid'>;

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** @param follow it may be a link: this process's user named it. @returns null: there is no such directory */
export async function directoryOwner(path: string, follow = false): Promise<Owner | null> {
  const flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW);
  const directory = await open(path, flags).catch(() => null);
  if (directory === null) return null;
  try {
    return await directory.stat();
  } finally {
    await directory.close();
  }
}

/** Only a file that this process's user made, and that has no other name: that one could be anywhere. */
export async function giveFile(path: string, { uid, gid }: Owner): Promise<void> {
  const file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const status = await file.stat();
    if (status.isFile() && status.nlink === 1 && status.uid === process.geteuid?.())
      await file.chown(uid, gid);
  } finally {
    await file.close();
  }
}

/** For the rest of the process. */
export function becomeOwner({ uid, gid }: Owner): void {
  process.setgroups?.([gid]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}

/** For this work, during which the whole process acts so. */
export async function actingAs<T>({ uid, gid }: Owner, work: () => Promise<T>): Promise<T> {
  const groups = process.getgroups?.() ?? [];
  const [ownUid = 0, ownGid = 0] = [process.geteuid?.(), process.getegid?.()];
  process.setgroups?.([gid]);
  process.setegid?.(gid);
  process.seteuid?.(uid);
  try {
    return await work();
  } finally {
    process.seteuid?.(ownUid);
    process.setegid?.(ownGid);
    process.setgroups?.(groups);
  }
}
