/**
 * The spool of a tap's journal: a directory that is the tap's alone, with a directory for each journal, which
 * the native tap makes, fills and removes (docs/journal.md, "The spool").
 */
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectory } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';

const JOURNAL = /^[0-9a-f]{32}$/;

/**
 * Before a tap has it. Harmless where it is there and has no journal.
 * @throws StillpointError `config`: it has journals, which would be taken for those of this tap
 */
export async function makeSpool(directory: string): Promise<void> {
  await makeDirectory(directory);
  if ((await readdir(directory)).every((name) => !JOURNAL.test(name))) return;
  throw new StillpointError('config', {
    thing: `journal directory ${directory}`,
    reason: 'it has journals of another tap, or of one that is gone',
    remedy: 'Choose another one with --journal-dir, or remove what is in it.',
  });
}

/** No tap has it any more. What else somebody has put there stays, and then the directory. */
export async function removeSpool(directory: string): Promise<void> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  for (const name of names) {
    if (JOURNAL.test(name)) await rm(join(directory, name), { recursive: true, force: true });
  }
  await rmdir(directory).catch(() => undefined);
}
