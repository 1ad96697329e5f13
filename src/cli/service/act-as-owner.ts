/**
 * Commands of the receiver leave files in its directory. Root becomes the user that the receiver belongs to,
 * so that the receiver's service, which runs as that user, can read and replace them. Nor can that user then
 * lead root elsewhere by links.
 *
 * | the directory belongs to | what is in it belongs to | root acts as                                     |
 * |--------------------------|--------------------------|--------------------------------------------------|
 * | another user             | anyone but root          | the directory's owner                            |
 * | another user             | root                     | root: a local backup of root's made the store    |
 * | root                     | another user: `receiver` | that user: only root can have put it there       |
 */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { actingAs, becomeOwner, directoryOwner, type Owner } from '../../native/owner.js';
import type { CommandContext } from '../common/context.js';

/** For the rest of the command. Does nothing for other users, and where root acts as root. */
export async function actAsOwner(context: CommandContext, directory: string): Promise<void> {
  const owner = await otherOwner(context, directory);
  if (owner !== null) becomeOwner(owner);
}

/** For this work only. */
export async function asOwner<T>(
  context: CommandContext,
  directory: string,
  work: () => Promise<T>,
): Promise<T> {
  const owner = await otherOwner(context, directory);
  return owner === null ? work() : actingAs(owner, work);
}

/** Null: root, or whoever runs this. */
async function otherOwner({ userId }: CommandContext, directory: string): Promise<Owner | null> {
  if (userId !== 0 || process.geteuid?.() !== 0) return null;
  const outer = await directoryOwner(directory, true);
  if (outer === null) return null;
  const receiver = await directoryOwner(join(directory, 'receiver'));
  if (outer.uid === 0) return receiver === null || receiver.uid === 0 ? null : receiver;
  const inner = receiver ?? (await lstat(join(directory, 'store.json')).catch(() => null));
  return inner?.uid === 0 ? null : outer;
}
