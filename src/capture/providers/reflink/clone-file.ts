/**
 * Clones beside an image, as files: hidden, read-only, with a label in an extended attribute. They are found
 * by name and label alone. A process that works with one holds an exclusive lock (flock) on it, which ends
 * with the process:
 *
 * | file                             | meaning                              | at the next backup           |
 * |----------------------------------|--------------------------------------|------------------------------|
 * | name, no label, empty            | its process died while it made it    | removed                      |
 * | name, label of itself            | a clone; clone-record.ts says if it  | compared with, or removed    |
 * |                                  | can be believed                      |                              |
 * | locked                           | another process is at work with it   | left alone                   |
 * | anything else of such a name     | somebody else's: a copy for example  | left alone                   |
 */
import { createHash } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { StillpointError } from '../../../domain/base/errors.js';
import { cloneIdOf, cloneName } from '../../../domain/device/clones.js';
import { tryLockExclusive } from '../../../native/files.js';
import { native } from '../../../native/index.js';

/** What is to be cloned, open. */
export interface ImageFile {
  /** Resolved. */
  readonly path: string;
  readonly handle: FileHandle;
  /** Which file of its file system it is. */
  readonly key: string;
}

export interface CloneFile {
  readonly path: string;
  readonly cloneId: string;
  readonly key: string;
  /** Holds the lock. */
  readonly handle: FileHandle;
}

/** A clone that no lock was asked for. */
export interface ListedClone {
  readonly path: string;
  readonly cloneId: string;
}

const LABEL = 'user.stillpoint';

/** What a clone says of itself. */
const labelSchema = z.strictObject({
  cloneId: z.string(),
  imageName: z.string(),
  imageKey: z.string(),
  /** Its own: a copy of the file is another one. */
  key: z.string(),
});
type Label = z.infer<typeof labelSchema>;

/** Also after a restart: without the number of the file system, which may be another one then. */
export const keyOf = ({ ino, birthtimeNs }: BigIntStats): string => `${ino}:${birthtimeNs}`;

export async function openImage(path: string): Promise<ImageFile> {
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return { path, handle, key: keyOf(await handle.stat({ bigint: true })) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Empty, and locked.
 * @throws StillpointError `session-busy`; errors of the system
 */
export async function createClone(image: ImageFile, cloneId: string): Promise<CloneFile> {
  const path = join(dirname(image.path), cloneName(basename(image.path), cloneId));
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
  const handle = await open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    // Before it was locked, another process may have taken it for a leftover.
    if (!tryLockExclusive(handle) || !(await isNamed(path, handle))) throw busy(image.path);
    const key = keyOf(await handle.stat({ bigint: true }));
    await native.likenForClone(image.handle.fd, handle.fd);
    const label: Label = { cloneId, imageName: basename(image.path), imageKey: image.key, key };
    await native.setAttribute(handle.fd, LABEL, encodeLabel(label));
    await handle.chmod(0o400);
    return { path, cloneId, key, handle };
  } catch (error) {
    await removeClone({ path, handle });
    throw error;
  }
}

/** Of this image, locked; those that another process has locked are left out, and nobody's are removed. */
export async function takeClones(image: ImageFile): Promise<CloneFile[]> {
  const taken: CloneFile[] = [];
  try {
    for (const { path, cloneId } of await candidates(image)) {
      const clone = await takeClone(image, path, cloneId);
      if (clone !== null) taken.push(clone);
    }
    return taken;
  } catch (error) {
    for (const { handle } of taken) await handle.close();
    throw error;
  }
}

/** Of this image, and labelled so. */
export async function listClones(image: ImageFile): Promise<ListedClone[]> {
  const listed: ListedClone[] = [];
  for (const { path, cloneId } of await candidates(image)) {
    const handle = await openFile(path);
    if (handle === null) continue;
    try {
      const label = await readLabel(handle, cloneId);
      if (label?.imageKey === image.key) listed.push({ path, cloneId });
    } finally {
      await handle.close();
    }
  }
  return listed;
}

/** Gives the lock up, too. Harmless if somebody has removed the file already. */
export async function removeClone({ path, handle }: Pick<CloneFile, 'path' | 'handle'>): Promise<void> {
  try {
    if (await isNamed(path, handle)) await unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  } finally {
    await handle.close();
  }
}

/** Files in its directory that have the name of a clone. */
async function candidates(image: ImageFile): Promise<ListedClone[]> {
  const directory = dirname(image.path);
  const names = await readdir(directory);
  return names.flatMap((name) => {
    const cloneId = cloneIdOf(name);
    return cloneId === null ? [] : [{ path: join(directory, name), cloneId }];
  });
}

/** Null: it is not one of this image, or another process has it, or it is gone; an empty one is removed. */
async function takeClone(image: ImageFile, path: string, cloneId: string): Promise<CloneFile | null> {
  const handle = await openFile(path);
  if (handle === null) return null;
  let isTaken = false;
  try {
    const label = await readLabel(handle, cloneId);
    const isOfName = basename(path) === cloneName(basename(image.path), cloneId);
    if (label === null ? !isOfName : !belongsTo(image, label)) return null;
    if (!tryLockExclusive(handle) || !(await isNamed(path, handle))) return null;
    const status = await handle.stat({ bigint: true });
    if (label === null) {
      // It may have been labelled before it was locked.
      const isEmpty = status.size === 0n && (await native.getAttribute(handle.fd, LABEL)) === null;
      if (isEmpty) await unlink(path);
      return null;
    }
    isTaken = true;
    return { path, cloneId, key: keyOf(status), handle };
  } finally {
    if (!isTaken) await handle.close();
  }
}

/** By its name too: the file that it was made of may have been replaced. */
function belongsTo(image: ImageFile, { imageKey, imageName }: Label): boolean {
  return imageKey === image.key || imageName === basename(image.path);
}

/** Null: it is not a regular file, or it is gone. */
async function openFile(path: string): Promise<FileHandle | null> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;
  let handle: FileHandle;
  try {
    handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ELOOP' || code === 'EACCES' || code === 'ENXIO') return null;
    throw error;
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  return null;
}

/** Null: it has none, or one of another file. */
async function readLabel(handle: FileHandle, cloneId: string): Promise<Label | null> {
  const bytes = await native.getAttribute(handle.fd, LABEL).catch(() => null);
  const label = bytes === null ? null : decodeLabel(bytes);
  if (label === null || label.cloneId !== cloneId) return null;
  return label.key === keyOf(await handle.stat({ bigint: true })) ? label : null;
}

const checksum = (content: string): string => createHash('sha256').update(content).digest('hex');

function encodeLabel(label: Label): Buffer {
  const content = JSON.stringify(label);
  return Buffer.from(`stillpoint-clone 1 ${checksum(content)} ${content}`);
}

function decodeLabel(bytes: Buffer): Label | null {
  const [, sum, content] = /^stillpoint-clone 1 ([0-9a-f]{64}) (.*)$/s.exec(bytes.toString()) ?? [];
  if (content === undefined || checksum(content) !== sum) return null;
  return labelSchema.safeParse(JSON.parse(content)).data ?? null;
}

async function isNamed(path: string, handle: FileHandle): Promise<boolean> {
  const [named, opened] = await Promise.all([
    lstat(path, { bigint: true }).catch(() => null),
    handle.stat({ bigint: true }),
  ]);
  return named !== null && named.dev === opened.dev && named.ino === opened.ino;
}

function busy(path: string): StillpointError {
  return new StillpointError('session-busy', {
    thing: path,
    reason: 'another backup of it is being prepared on this machine',
    remedy: 'Wait until that has ended.',
  });
}
