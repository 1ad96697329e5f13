/**
 * Directories for files that last as long as one command. If a command was killed, the next one removes what
 * it left. They are made in the state directory, otherwise in the temporary one: a command that only reads (a
 * restore, a comparison) must not need a writable state directory.
 */
import { lstat, mkdtemp, readdir, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DIGEST_BYTES, TREE_FANOUT } from '../../domain/base/limits.js';
import { errnoNameOf, systemError } from '../../domain/base/system-errors.js';
import { blockCount, type Geometry } from '../../domain/blocks/geometry.js';
import { lockFile, makeDirectories } from '../../native/files.js';
import { pathFacts } from '../../native/path-facts.js';

const PREFIX = 'scratch-';
/** The temporary directory is everybody's. */
const TEMPORARY_PREFIX = 'stillpoint-scratch-';
/** Younger ones may not be locked yet. */
const LEFTOVER_AGE_MS = 60_000;
const TREE_FILE_MARGIN_BYTES = 64 * 1024;

/** At most; a tree of empty space takes less. */
export function treeFileBytes(geometry: Geometry): number {
  const leafBytes = blockCount(geometry) * DIGEST_BYTES;
  return leafBytes + (leafBytes * 2) / TREE_FANOUT + TREE_FILE_MARGIN_BYTES;
}

interface Scratch {
  readonly directory: string;
  release(): Promise<void>;
}

/**
 * The directory is gone when this settles; files in it that are open or mapped stay
 * usable until they are closed.
 * @param neededBytes at most: what has less room is not chosen if the other place has more
 */
export async function withScratch<T>(
  stateDirectory: string | null,
  neededBytes: number,
  work: (directory: string) => Promise<T>,
): Promise<T> {
  const { directory, release } = await makeScratch(stateDirectory, neededBytes);
  try {
    return await work(directory);
  } finally {
    await release();
  }
}

async function makeScratch(stateDirectory: string | null, neededBytes: number): Promise<Scratch> {
  const temporary = tmpdir();
  const isOfState = stateDirectory !== null && (await isRoomy(stateDirectory, temporary, neededBytes));
  if (isOfState) {
    try {
      return await makeIn(stateDirectory, PREFIX);
    } catch (error) {
      if (errnoNameOf(error) === null) throw error;
    }
  }
  try {
    return await makeIn(temporary, TEMPORARY_PREFIX);
  } catch (error) {
    const facts = pathFacts(join(temporary, TEMPORARY_PREFIX), errnoNameOf(error) ?? '');
    throw systemError(error, { thing: temporary, place: 'temporary', facts }) ?? error;
  }
}

/** The state directory has the room, or as much as the temporary one. It may not be there yet. */
async function isRoomy(stateDirectory: string, temporary: string, neededBytes: number): Promise<boolean> {
  await makeDirectories(stateDirectory).catch(() => undefined);
  const free = await freeBytes(stateDirectory);
  return free >= neededBytes || free >= (await freeBytes(temporary));
}

async function freeBytes(path: string): Promise<number> {
  const facts = await statfs(path).catch(() => null);
  return facts === null ? 0 : facts.bavail * facts.bsize;
}

async function makeIn(parent: string, prefix: string): Promise<Scratch> {
  await removeLeftovers(parent, prefix);
  const directory = await mkdtemp(join(parent, prefix));
  const remove = () => rm(directory, { recursive: true, force: true });
  try {
    const lock = await lockFile(join(directory, 'lock'));
    return {
      directory,
      release: async () => {
        await remove();
        await lock?.close();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

async function removeLeftovers(parent: string, prefix: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (!name.startsWith(prefix)) continue;
    const directory = join(parent, name);
    // Others may make such names in the temporary directory: a link, or a directory of theirs, is left alone.
    const status = await lstat(directory).catch(() => null);
    const isOwn = status?.isDirectory() === true && status.uid === process.getuid?.();
    if (!isOwn || Date.now() - status.mtimeMs < LEFTOVER_AGE_MS) continue;
    const lock = await lockFile(join(directory, 'lock')).catch(() => null);
    if (lock === null) continue;
    await rm(directory, { recursive: true, force: true }).catch(() => undefined);
    await lock.close();
  }
}
