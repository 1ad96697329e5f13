/**
 * Commands of the receiver leave files in its directory. Root becomes the user that the receiver belongs to,
 * so that the receiver's service, which runs as that user, can read and replace them.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommandContext } from '../common/context.js';

interface Ids {
  readonly uid: number;
  readonly gid: number;
}

const isRoot = ({ userId }: CommandContext): boolean => userId === 0 && process.geteuid?.() === 0;

/** Does nothing for other users, and where there is no receiver. */
export async function actAsOwner(context: CommandContext, directory: string): Promise<void> {
  if (!isRoot(context)) return;
  const owner = await stat(join(directory, 'receiver')).catch(() => null);
  if (owner !== null && owner.uid !== 0) become(owner);
}

/**
 * For a receiver that is being made: whom its directory belongs to, if root makes it for somebody else. What
 * is made there is theirs from the start: the owner of a directory can put a link in place of anything in it,
 * so root must not give files away afterwards.
 */
export async function ownerToBe(context: CommandContext, directory: string): Promise<Owner | null> {
  if (!isRoot(context)) return null;
  const owner = await stat(directory).catch(() => null);
  return owner === null || owner.uid === 0 ? null : new Owner(owner);
}

export class Owner {
  readonly #ids: Ids;

  constructor({ uid, gid }: Ids) {
    this.#ids = { uid, gid };
  }

  /** All that this process does meanwhile, it does as the owner. */
  async make<T>(work: () => Promise<T>): Promise<T> {
    const groups = process.getgroups?.() ?? [];
    process.setgroups?.([this.#ids.gid]);
    process.setegid?.(this.#ids.gid);
    process.seteuid?.(this.#ids.uid);
    try {
      return await work();
    } finally {
      process.seteuid?.(0);
      process.setegid?.(0);
      process.setgroups?.(groups);
    }
  }

  /** For good. */
  become(): void {
    become(this.#ids);
  }
}

function become({ uid, gid }: Ids): void {
  process.setgroups?.([gid]);
  process.setgid?.(gid);
  process.setuid?.(uid);
}
