/** What node:fs lacks for durable state: locks, and directories whose entries are on disk. */
import { type FileHandle, open } from 'node:fs/promises';
import { flockSync } from 'fs-ext';

/**
 * Takes an exclusive lock that lasts until the handle is closed or the process dies. The file stays: removing a locked file would
 * let two processes lock two files of one name.
 * @returns null if another process (or another handle of this one) holds it.
 */
export async function lockFile(path: string): Promise<FileHandle | null> {
  const handle = await open(path, 'a', 0o600);
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

/** Makes the directory's entries durable: created, renamed and removed names. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
