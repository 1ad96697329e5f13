/** What can be said about a device before it is backed up: what it is, who uses it, what lies on it, and which provider takes it. */
import { realpath, stat } from 'node:fs/promises';
import type { DeviceIdentity } from '../domain/point.js';
import { native } from '../native/index.js';
import { notADevice, onDevice } from '../devices/device-error.js';
import { readDeviceIdentity } from '../devices/device-identity.js';
import { type DeviceUse, findUses } from '../devices/in-use.js';

import { type DeviceFilesystems, findFilesystems } from './quiesce/mounts.js';

/** A tap that this machine knows of. */
export interface KnownTap {
  readonly name: string;
  /** The device or image that it serves. */
  readonly path: string;
  readonly running: boolean;
  /** As which block device it is attached, `/dev/nbd0`. */
  readonly attachedDevice?: string | undefined;
}

export interface ProviderChoice {
  readonly provider: 'tap' | 'offline';
  readonly usable: boolean;
  /** A clause: why, or why not. */
  readonly reason: string;
}

export interface Inspection extends DeviceFilesystems {
  readonly sizeBytes: number;
  readonly identity: DeviceIdentity;
  readonly uses: readonly DeviceUse[];
  /** Best first. */
  readonly providers: readonly ProviderChoice[];
  /** Null: none can be used now. */
  readonly chosen: ProviderChoice['provider'] | null;
}

/** @throws StillpointError `device-not-found`, `device-io` */
export function inspectDevice(path: string, taps: readonly KnownTap[]): Promise<Inspection> {
  return onDevice(path, async () => {
    const status = await stat(path);
    if (!status.isBlockDevice() && !status.isFile()) throw notADevice(path, status);
    const { sizeBytes, logicalSectorSize } = await measure(path);
    const tap = await tapOf(path, taps);
    const seenAs = tap === null ? [path] : [path, tap.path, tap.attachedDevice ?? path];
    const uses = await findUses(path, 'all');
    const providers = [considerTap(tap), considerOffline(uses)];
    return {
      sizeBytes,
      identity: await readDeviceIdentity(path, logicalSectorSize),
      uses,
      ...(await findFilesystems(seenAs)),
      providers,
      chosen: providers.find(({ usable }) => usable)?.provider ?? null,
    };
  });
}

async function measure(path: string): Promise<{ sizeBytes: number; logicalSectorSize: number }> {
  const device = await native.openDevice(path, { direct: false });
  const { sizeBytes, logicalSectorSize } = device;
  // Open, it would be a use of its own.
  await device.close();
  return { sizeBytes, logicalSectorSize };
}

/** Named by what it serves, or by the device that it is attached as. */
async function tapOf(path: string, taps: readonly KnownTap[]): Promise<KnownTap | null> {
  const resolve = (one: string): Promise<string> => realpath(one).catch(() => one);
  const wanted = await resolve(path);
  for (const tap of taps) {
    for (const shown of [tap.path, ...(tap.attachedDevice === undefined ? [] : [tap.attachedDevice])]) {
      if ((await resolve(shown)) === wanted) return tap;
    }
  }
  return null;
}

function considerTap(tap: KnownTap | null): ProviderChoice {
  if (tap === null) return { provider: 'tap', usable: false, reason: 'no tap serves it' };
  if (!tap.running) return { provider: 'tap', usable: false, reason: `its tap ${tap.name} does not run` };
  return {
    provider: 'tap',
    usable: true,
    reason: `the tap ${tap.name} knows what changes, and holds an instant while others write`,
  };
}

function considerOffline(uses: readonly DeviceUse[]): ProviderChoice {
  const writer = uses.find(({ writable }) => writable);
  return writer === undefined
    ? { provider: 'offline', usable: true, reason: 'nobody can write to it' }
    : { provider: 'offline', usable: false, reason: `it could be written to: it is ${writer.how}` };
}
