/** What node:fs lacks for durable state: locks, and directories whose entries are on disk. */
import { randomBytes } from 'node:crypto';
import { constants, existsSync, readdirSync, readlinkSync, realpathSync } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { fcntlSync, constants as fileFlags, flock, flockSync } from 'fs-ext';

/**
 * Takes an exclusive lock that lasts until the handle is closed or the process dies. The file stays:
 * removing a locked file would let two processes lock two files of one name. A symbolic link is not
 * followed, and a FIFO not waited for.
 * @returns null if another process (or another handle of this one) holds it.
 */
export async function lockFile(path: string): Promise<FileHandle | null> {
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants;
  const handle = await open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o600);
  try {
    flockSync(handle.fd, 'exnb');
    return handle;
  } catch (error) {
    await handle.close();
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN' || code === 'EWOULDBLOCK') return null;
    throw error;
  }
}

/**
 * Makes the directory and its missing parents, for their owner only. Rejects with the error of the one that
 * could not be made: Node says ENOENT where a file system is read-only.
 * @returns the first that was made
 */
export async function makeDirectories(path: string): Promise<string | undefined> {
  const last = resolve(path);
  try {
    return await mkdir(last, { recursive: true, mode: 0o700 });
  } catch {
    const missing: string[] = [];
    for (let at = last; at !== dirname(at) && (await isMissing(at)); at = dirname(at)) missing.unshift(at);
    for (const directory of missing) await mkdir(directory, { mode: 0o700 });
    await readdir(last);
    return missing[0];
  }
}

async function isMissing(path: string): Promise<boolean> {
  return stat(path).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  );
}

/** What file systems answer that have no locks. */
const WITHOUT_LOCKS: ReadonlySet<string | undefined> = new Set([
  'ENOLCK',
  'ENOSYS',
  'EOPNOTSUPP',
  'ENOTSUP',
  'EINVAL',
]);

/**
 * Locks what is open, without waiting, until the handle is closed: a lock of the node or file itself, as
 * udev and sfdisk take it too.
 * @returns false if somebody else holds it; true also where the file system has no locks.
 */
export function tryLockExclusive({ fd }: FileHandle): boolean {
  try {
    flockSync(fd, 'exnb');
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EAGAIN' || code === 'EWOULDBLOCK') return false;
    if (WITHOUT_LOCKS.has(code)) return true;
    throw error;
  }
}

/**
 * No program that this process starts gets a file that a library opened without O_CLOEXEC: it would keep
 * the disk busy for as long as it runs. Without /proc, nothing changes.
 */
export function keepFromChildren(path: string): void {
  if (!existsSync('/proc/self/fd')) return;
  const realPath = realpathSync(path);
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      if (readlinkSync(`/proc/self/fd/${name}`) !== realPath) continue;
      fcntlSync(Number(name), 'setfd', fileFlags.FD_CLOEXEC);
    } catch (error) {
      // It was closed meanwhile, as the one is that lists the directory.
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' && code !== 'EBADF') throw error;
    }
  }
}

/** Makes durable what is in the page cache of a file or a block device. */
export const syncFile = syncDirectory;

/** Makes the directory's entries durable: created, renamed and removed names. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Writes a file as a whole: temporary file, fsync, rename, fsync of the directory. Durable when it resolves;
 * until then the old content is there. Rejects with `path` set: an open file's errors don't say which it is.
 */
export async function replaceFile(path: string, text: string, mode: number): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${randomBytes(8).toString('hex')}.tmp`);
  try {
    const file = await open(temporary, 'wx', mode);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw Object.assign(error as Error, { path });
  }
  await syncDirectory(folder);
}

const HELD_CODES: ReadonlySet<string | undefined> = new Set(['EAGAIN', 'EWOULDBLOCK']);

/**
 * Takes a shared lock without waiting; it lasts until the handle is closed. Not on this thread: a file
 * server may take its time.
 */
export function lockShared(handle: FileHandle): Promise<'locked' | 'held' | 'unsupported'> {
  return new Promise((resolve) => {
    flock(handle.fd, 'shnb', (error) => {
      resolve(error === null ? 'locked' : HELD_CODES.has(error.code) ? 'held' : 'unsupported');
    });
  });
}
