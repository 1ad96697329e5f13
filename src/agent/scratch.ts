/** Directories for files that last as long as one command; what a command that was killed has left, the next one removes. */
import { mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { lockFile } from '../native/files.js';

const PREFIX = 'scratch-';
/** Younger ones may not be locked yet. */
const LEFTOVER_AGE_MS = 60_000;

/** The directory is gone when this settles; files in it that are open or mapped stay usable until they are closed. */
export async function withScratch<T>(
  stateDirectory: string,
  work: (directory: string) => Promise<T>,
): Promise<T> {
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  await removeLeftovers(stateDirectory);
  const directory = await mkdtemp(join(stateDirectory, PREFIX));
  const lock = await lockFile(join(directory, 'lock'));
  try {
    return await work(directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
    await lock?.close();
  }
}

async function removeLeftovers(stateDirectory: string): Promise<void> {
  for (const name of await readdir(stateDirectory)) {
    if (!name.startsWith(PREFIX)) continue;
    const directory = join(stateDirectory, name);
    const status = await stat(directory).catch(() => null);
    if (status === null || Date.now() - status.mtimeMs < LEFTOVER_AGE_MS) continue;
    const lock = await lockFile(join(directory, 'lock')).catch(() => null);
    if (lock === null) continue;
    await rm(directory, { recursive: true, force: true }).catch(() => undefined);
    await lock.close();
  }
}
