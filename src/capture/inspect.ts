/** What can be said about a device before it is backed up: what it is, who uses it, what lies on it, and which provider takes it. */
import type { BigIntStats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { readBlockState } from '../devices/facts/block-facts.js';
import { readDeviceIdentity } from '../devices/facts/device-identity.js';
import { type HalfRestored, readMark } from '../devices/facts/half-restored.js';
import { readImageFacts } from '../devices/facts/image-facts.js';
import { readImageFormat } from '../devices/facts/image-format.js';
import { notADevice, onDevice } from '../devices/system/device-error.js';
import { type DeviceUse, deviceNumber, findUses } from '../devices/system/in-use.js';
import { whyUnprovenBlock, whyUnprovenImage } from '../domain/device/instant-proof.js';
import type { DeviceIdentity } from '../domain/point/point.js';
import { native } from '../native/index.js';
import { attachedDevice } from '../tap/attach.js';
import type { FoundTap } from '../tap/find.js';

import { type DeviceFilesystems, findFilesystems } from './quiesce/mounts.js';

export interface ProviderChoice {
  readonly provider: 'tap' | 'offline';
  readonly usable: boolean;
  /** A clause: why, or why not. */
  readonly reason: string;
}

export interface Inspection extends DeviceFilesystems {
  readonly sizeBytes: number;
  readonly identity: DeviceIdentity;
  /** A restore to it was interrupted. */
  readonly halfRestored: HalfRestored | null;
  /** Of a container, such as `qcow2`; null: a raw disk, as far as can be seen. */
  readonly imageFormat: string | null;
  readonly uses: readonly DeviceUse[];
  /** Why neither its times nor its counters can prove that it stood still, a clause; null: they can. */
  readonly unproven: string | null;
  /** Best first. */
  readonly providers: readonly ProviderChoice[];
  /** Null: none can be used now. */
  readonly chosen: ProviderChoice['provider'] | null;
}

/**
 * @param found the tap that serves it, or is attached as it.
 * @throws StillpointError `device-not-found`, `device-io`
 */
export function inspectDevice(path: string, found: FoundTap | null): Promise<Inspection> {
  return onDevice(path, async () => {
    const status = await stat(path, { bigint: true });
    if (!status.isBlockDevice() && !status.isFile()) throw notADevice(path, await stat(path));
    const { sizeBytes, logicalSectorSize, halfRestored, imageFormat } = await measure(path);
    const seenAs =
      found === null
        ? [path]
        : [path, found.tap.settings.sourcePath, (await attachedDevice(found.tap)) ?? path];
    const uses = await findUses(path, 'all');
    const proof = { unproven: await whyUnproven(path, status) };
    const providers = [considerTap(found), considerOffline(uses, proof.unproven)];
    return {
      sizeBytes,
      identity: await readDeviceIdentity(path, logicalSectorSize),
      halfRestored,
      imageFormat,
      uses,
      ...proof,
      ...(await findFilesystems(seenAs)),
      providers,
      chosen: providers.find(({ usable }) => usable)?.provider ?? null,
    };
  });
}

async function measure(path: string) {
  const device = await native.openDevice(path, { direct: false });
  try {
    const { sizeBytes, logicalSectorSize } = device;
    const halfRestored = await readMark(device);
    return { sizeBytes, logicalSectorSize, halfRestored, imageFormat: await readImageFormat(device) };
  } finally {
    // Open, it would be a use of its own.
    await device.close();
  }
}

function considerTap(found: FoundTap | null): ProviderChoice {
  if (found === null) return { provider: 'tap', usable: false, reason: 'no tap serves it' };
  const { name } = found.tap.settings;
  if (!found.running) return { provider: 'tap', usable: false, reason: `its tap ${name} does not run` };
  return {
    provider: 'tap',
    usable: true,
    reason: `the tap ${name} knows what changes, and holds an instant while others write`,
  };
}

function considerOffline(uses: readonly DeviceUse[], unproven: string | null): ProviderChoice {
  const writer = uses.find(({ writable }) => writable);
  if (writer !== undefined)
    return { provider: 'offline', usable: false, reason: `it could be written to: it is ${writer.how}` };
  const proof = unproven === null ? '' : ` as far as this kernel knows; ${unproven}, so it is read twice`;
  return { provider: 'offline', usable: true, reason: `nobody can write to it${proof}` };
}

async function whyUnproven(path: string, status: BigIntStats): Promise<string | null> {
  if (status.isFile()) {
    const facts = await readImageFacts(path);
    return facts === null ? null : whyUnprovenImage(facts);
  }
  const state = await readBlockState(deviceNumber(status.rdev));
  return state === null ? null : whyUnprovenBlock(state.facts);
}
