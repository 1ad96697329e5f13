/** Gives a tap that exists a journal, or takes it away. Its map stays, and so does what it serves now. */
import { join } from 'node:path';
import { writeStateFile } from '../../config/state-file.js';
import { checkSpoolApart, listTaps, lockRegistry, lockTap, type RegisteredTap, readTap } from './registry.js';
import { TAP_FORMAT, type TapSettings } from './settings.js';
import { makeSpool, removeSpool } from './spool.js';

/**
 * Counts from the tap's next start on. The journal that it has stays where only its size changes; otherwise
 * it goes with its spool, and no process may serve the tap.
 * @throws StillpointError `device-in-use`, `config`
 */
export async function setJournal(
  stateDirectory: string,
  { settings: { name } }: RegisteredTap,
  journal: TapSettings['journal'],
): Promise<RegisteredTap> {
  const lock = await lockRegistry(stateDirectory);
  try {
    const tap = await readTap(stateDirectory, name);
    const changed = { ...tap.settings, journal };
    for (const other of await listTaps(stateDirectory)) {
      if (other.settings.name !== name) checkSpoolApart(other.settings, changed);
    }
    const before = tap.settings.journal;
    if (before?.directory !== journal?.directory) {
      // It is not opened while it changes, and not used while it goes.
      const serving = before === null ? null : await lockTap(tap);
      try {
        if (journal !== null) await makeSpool(journal.directory);
        if (before !== null) await removeSpool(before.directory);
        await writeStateFile(join(tap.directory, 'tap.json'), TAP_FORMAT, changed);
      } finally {
        await serving?.close();
      }
    } else {
      await writeStateFile(join(tap.directory, 'tap.json'), TAP_FORMAT, changed);
    }
    return await readTap(stateDirectory, name);
  } finally {
    await lock.close();
  }
}
