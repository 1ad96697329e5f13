/**
 * Names as folders: on a file system that does not distinguish upper and lower case, two names may be one
 * folder. Two devices must not share a folder.
 */
import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import type { Disk } from '../disk/disk.js';
import { POINTS_PREFIX, STORE_FILE } from '../disk/layout.js';
import type { DeviceKey } from '../port/store.js';

/**
 * @param open sessions, whose devices may have no folder yet
 * @param prefix where devices have folders
 * @throws StillpointError `bad-name`
 */
export async function checkNameClash(
  disk: Disk,
  dir: string,
  key: DeviceKey,
  open: readonly DeviceKey[],
  prefix: string = POINTS_PREFIX,
): Promise<void> {
  const points = join(dir, prefix);
  const agent = await otherFolder(disk, points, key.agent);
  if (agent !== null) throw clash('agent', key.agent, agent, 'Enroll the machine under another name.');
  const device = await otherFolder(disk, join(points, key.agent), key.device);
  if (device !== null) throw clashOfDevices(key, device);
  const alike = open.filter((other) => lower(other) === lower(key));
  const [other] = alike.filter(({ agent, device }) => agent !== key.agent || device !== key.device);
  if (other === undefined || (await disk.size(join(dir, STORE_FILE.toUpperCase()))) === null) return;
  if (other.agent === key.agent) throw clashOfDevices(key, other.device);
  throw clash('agent', key.agent, other.agent, 'Enroll the machine under another name.');
}

/** What the folder is really called that is found under a name; null: that, or there is none. */
async function otherFolder(disk: Disk, parent: string, name: string): Promise<string | null> {
  if ((await disk.size(join(parent, name))) === null) return null;
  const names = (await disk.list(parent)).map((entry) => entry.name);
  if (names.includes(name)) return null;
  return names.find((other) => other.toLowerCase() === name.toLowerCase()) ?? null;
}

function lower({ agent, device }: DeviceKey): string {
  return `${agent}/${device}`.toLowerCase();
}

function clashOfDevices({ device }: DeviceKey, other: string): StillpointError {
  return clash('device', device, other, `Choose another name with --name, or continue with ${other}.`);
}

function clash(what: string, name: string, other: string, remedy: string): StillpointError {
  return new StillpointError('bad-name', {
    thing: `${what} ${name}`,
    reason: `the store already has ${other}, and its file system ignores upper and lower case`,
    remedy,
  });
}
