/** Removes the map of a tap that is not running, before its device is written without it. */
import { rm } from 'node:fs/promises';
import { syncDirectory } from '../../native/files.js';
import type { RegisteredTap } from './registry.js';

/** The next backup reads everything. The tap's lock is held. */
export async function voidMap({ directory, mapPath }: RegisteredTap): Promise<void> {
  await rm(mapPath, { force: true });
  await syncDirectory(directory);
}
