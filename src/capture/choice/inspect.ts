/**
 * What can be said about a device before it is backed up: what it is, which programs use it, what is on it,
 * and which provider takes it.
 */
import { stat } from 'node:fs/promises';
import { readDeviceIdentity } from '../../devices/facts/device-identity.js';
import { type HalfRestored, readMark } from '../../devices/facts/half-restored.js';
import { readImageFormat } from '../../devices/facts/image-format.js';
import { notADevice, onDevice } from '../../devices/system/device-error.js';
import { type DeviceUse, findUses } from '../../devices/system/in-use.js';
import type { DeviceIdentity } from '../../domain/point/point.js';
import { native } from '../../native/index.js';
import type { Probe, Provider, ProviderGain } from '../ports.js';
import { whyUnproven } from '../providers/offline/proof.js';
import { type DeviceFilesystems, findFilesystems } from '../quiesce/mounts.js';
import { PROVIDERS } from './list.js';

export interface ProviderChoice extends ProviderGain {
  readonly provider: string;
  readonly usable: boolean;
  /** A clause: why, or why not. */
  readonly reason: string;
  /** A sentence: what would make it usable. Null: it is. */
  readonly remedy: string | null;
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
 * @param stateDirectory null: there is none yet.
 * @throws StillpointError `device-not-found`, `device-io`
 */
export function inspectDevice(
  path: string,
  stateDirectory: string | null,
  providers: readonly Provider[] = PROVIDERS,
): Promise<Inspection> {
  return onDevice(path, async () => {
    const status = await stat(path);
    if (!status.isBlockDevice() && !status.isFile()) throw notADevice(path, status);
    const { sizeBytes, logicalSectorSize, halfRestored, imageFormat } = await measure(path);
    const choices: ProviderChoice[] = [];
    const seenAs = new Set([path]);
    for (const { name, probe } of providers) {
      const answer = await probe({ path, stateDirectory, fuzzy: false, isForPeople: true });
      choices.push(choiceOf(name, answer));
      for (const other of answer.seenAs) seenAs.add(other);
    }
    return {
      sizeBytes,
      identity: await readDeviceIdentity(path, logicalSectorSize),
      halfRestored,
      imageFormat,
      uses: await findUses(path, 'all'),
      unproven: await whyUnproven(path),
      ...(await findFilesystems([...seenAs])),
      providers: choices,
      chosen: choices.find(({ usable }) => usable)?.provider ?? null,
    };
  });
}

function choiceOf(provider: string, answer: Probe): ProviderChoice {
  const { possible: usable, kinds, changes, cost } = answer;
  const gain = { kinds, changes, cost };
  if (answer.possible) return { provider, usable, reason: answer.reason, remedy: null, ...gain };
  const { reason, remedy = null } = answer.refusal;
  return { provider, usable, reason, remedy, ...gain };
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
