/** Finds the tap that serves a device, by its source or by the /dev/nbdN that it is attached as. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { isStillpointError } from '../domain/base/errors.js';
import { attachedDevice } from './attach.js';
import { connectTap } from './control/client.js';
import { listTaps, type RegisteredTap } from './registry/registry.js';
import { readSource } from './source/source.js';

export interface FoundTap {
  readonly tap: RegisteredTap;
  /** Its control socket answers. */
  readonly running: boolean;
}

/**
 * @param path of a block device or an image that is there, or was when its tap started.
 * @returns null if no tap of this state directory serves it, running or not.
 * @throws StillpointError `device-not-found`
 */
export async function findTap(stateDirectory: string, path: string): Promise<FoundTap | null> {
  let key: string;
  try {
    ({ key } = await readSource(path));
  } catch (error) {
    const tap = (await listTaps(stateDirectory)).find(
      ({ settings }) => settings.sourcePath === resolve(path),
    );
    // It has it open, whatever became of the path; and knows what.
    if (tap !== undefined && (await isRunning(tap))) return { tap, running: true };
    throw error;
  }
  for (const tap of await listTaps(stateDirectory)) {
    if ((await keysOfTap(tap)).includes(key)) return { tap, running: await isRunning(tap) };
  }
  return null;
}

/** The keys of what a tap serves: of its source, and of the /dev/nbdN that it is attached as. */
export async function keysOfTap(tap: RegisteredTap): Promise<string[]> {
  const source = await readSource(tap.settings.sourcePath).catch(() => null);
  return [source?.key ?? null, await attachedKey(tap)].filter((key) => key !== null);
}

async function attachedKey(tap: RegisteredTap): Promise<string | null> {
  const device = await attachedDevice(tap);
  return device === null || (await stat(device).catch(() => null)) === null
    ? null
    : (await readSource(device)).key;
}

export async function isRunning(tap: RegisteredTap): Promise<boolean> {
  try {
    (await connectTap(tap.controlPath)).close();
    return true;
  } catch (error) {
    if (isStillpointError(error, 'unreachable')) return false;
    throw error;
  }
}
