/**
 * The provider `offline`: the static view is the device itself, because nobody writes to it while it is read.
 * That is checked, not believed:
 *
 * |        | before                             | while                  | after                           |
 * |--------|------------------------------------|------------------------|---------------------------------|
 * | block  | no mount, swap, holder, writer;    | opened exclusively (or | dirty pages written; facts      |
 * | device | dirty pages written; facts noted   | mounted read-only)     | compared                        |
 * | image  | no writer, no writable loop device |                        | facts compared; still no writer |
 * |        | on it; facts noted                 |                        |                                 |
 *
 * src/domain/device/instant-proof.ts decides what the facts prove: that the view stood still, that it changed
 * (then there is no point), or nothing (then the session reads it a second time). The mark of continuity is
 * made of the facts noted before, so that a later command can tell whether they are still the same. Both
 * kinds hold a shared lock on the node, which restores see.
 */
import type { BigIntStats, Stats } from 'node:fs';
import { type FileHandle, stat } from 'node:fs/promises';
import { readBlockPresence, readBlockState } from '../../../devices/facts/block-facts.js';
import { blockContinuity, imageContinuity } from '../../../devices/facts/continuity.js';
import { readDeviceIdentity } from '../../../devices/facts/device-identity.js';
import { doubtfulFileSystem } from '../../../devices/facts/honest-times.js';
import { readImageFacts, readImagePresence } from '../../../devices/facts/image-facts.js';
import { lockSource } from '../../../devices/locks/source-lock.js';
import { deviceError, notADevice, onDevice } from '../../../devices/system/device-error.js';
import { type DeviceUse, deviceNumber, findUses } from '../../../devices/system/in-use.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { judgeBlock, judgeImage, judgePresence, type Verdict } from '../../../domain/device/instant-proof.js';
import type { ConsistencyKind } from '../../../domain/point/point.js';
import { type Device, native } from '../../../native/index.js';
import { NO_REST, snapshotsOf } from '../../instant.js';
import {
  changedError,
  type HoldOptions,
  type Member,
  type Snapshot,
  type SnapshotProvider,
} from '../../ports.js';
import { inSteps } from '../../steps.js';

export const offlineProvider: SnapshotProvider = snapshotsOf('offline', prepareOffline, NO_REST);

export async function prepareOffline(path: string, options: HoldOptions): Promise<Member> {
  const uses = await onDevice(path, async () => {
    await checkIsDevice(path);
    return findUses(path, 'writers');
  });
  const writer = uses.find((use) => use.writable);
  if (writer !== undefined && !options.fuzzy) throw inUse(path, writer);
  const lock = await onDevice(path, () => lockSource(path));
  try {
    return await prepareLocked(path, options, uses, lock);
  } catch (error) {
    await lock?.close();
    throw error;
  }
}

export async function checkIsDevice(path: string): Promise<void> {
  const status: Stats = await stat(path);
  if (!status.isBlockDevice() && !status.isFile()) throw notADevice(path, status);
}

interface Watched {
  /** Whether it is the same one still, and no shorter. */
  judgePresence(): Promise<Verdict | null>;
  judge(): Promise<Verdict>;
  readonly continuity: string | null;
  /** Later reads are none of pages that this host has cached before. */
  freshen(): Promise<void>;
}

/** Notes the state of the device. */
type Watch = (path: string, device: Device) => Promise<Watched>;

async function prepareLocked(
  path: string,
  options: HoldOptions,
  uses: readonly DeviceUse[],
  lock: FileHandle | null,
): Promise<Member> {
  const writer = uses.find((use) => use.writable);
  // A read-only mount holds the device exclusively itself; then the counters alone are the check.
  const exclusive = !uses.some((use) => use.exclusive);
  const named: BigIntStats = await onDevice(path, () => stat(path, { bigint: true }));
  const device = await onDevice(path, async () => {
    const fresh = named.isFile() && (await doubtfulFileSystem(path)) !== null;
    return native.openDevice(path, { exclusive, fresh });
  });
  const release = async (): Promise<void> => {
    await device.close();
    await lock?.close();
  };
  try {
    const watched = await (device.type === 'block' ? watchBlockDevice : watchImage)(path, device);
    const { dev, ino } = await stat(path, { bigint: true });
    if (dev !== named.dev || ino !== named.ino) throw changedError(path, 'was replaced while it was opened');
    await watched.freshen();
    const identity = await readDeviceIdentity(path, device.logicalSectorSize);
    const own: ConsistencyKind = writer === undefined ? 'idle' : 'fuzzy';
    const warnings = writer === undefined ? [] : [`${path} was in use: ${writer.how}; the point is fuzzy`];
    const view = { device, identity, warnings, release };
    return inSteps({
      path,
      shownAt: [],
      barrier: 'unused',
      // There is nobody to be kept out.
      close: async () => null,
      open: async () => undefined,
      cut: async () => {
        const instant = new Date();
        return {
          ...{ instant, kind: own, closedMs: null },
          view: async (kind) => ({
            ...view,
            instant,
            kind,
            ...watchedBy(path, watched, kind, options.fuzzy),
          }),
        };
      },
      release,
    });
  } catch (error) {
    await device.close();
    throw deviceError(path, error);
  }
}

function watchedBy(
  path: string,
  watched: Watched,
  kind: ConsistencyKind,
  fuzzy: boolean,
): Pick<Snapshot, 'continuity' | 'freshen' | 'lost' | 'conclude'> {
  const { continuity, freshen } = watched;
  return {
    // Writes may be unseen until they are flushed.
    ...(continuity === null || kind === 'fuzzy' ? {} : { continuity }),
    freshen,
    lost: async () => {
      const verdict = await watched.judgePresence();
      return verdict?.is === 'changed' && verdict.isGone ? changedError(path, verdict.reason) : null;
    },
    conclude: async () => {
      const verdict = await watched.judge();
      if (verdict.is === 'stood') return { kind, warnings: [] };
      // One that is fuzzy from the start claims nothing.
      if (verdict.is === 'unproven')
        return { kind, warnings: [], ...(kind === 'fuzzy' ? {} : { unproven: verdict.reason }) };
      if (!fuzzy || verdict.isGone) throw changedError(path, verdict.reason);
      return { kind: 'fuzzy', warnings: [`${path} ${verdict.reason}; the point is fuzzy`] };
    },
  };
}

const watchBlockDevice: Watch = async (path, device) => {
  // Dirty pages of earlier writers reach the device now, not in the middle of the read.
  await device.flush();
  const status: BigIntStats = await stat(path, { bigint: true });
  const number = deviceNumber(status.rdev);
  const before = await readBlockState(number);
  if (before === null) {
    throw new StillpointError('device-not-found', {
      thing: path,
      reason: 'the kernel has no device of its number, or /sys is not mounted',
      remedy: 'Check the path; "lsblk" lists block devices.',
    });
  }
  return {
    judgePresence: async () => judgePresence('block', before.facts, await readBlockPresence(number)),
    judge: async () => {
      // Of a device that is gone nothing can be flushed; the facts say so.
      await device.flush().catch(() => undefined);
      return judgeBlock(before.facts, (await readBlockState(number))?.facts ?? null);
    },
    continuity: await blockContinuity(before),
    freshen: async () => {
      for (const file of before.filesBelow) await dropCacheOf(file);
    },
  };
};

/** What a loop device reads of its file, it reads through this host's page cache. */
async function dropCacheOf(path: string): Promise<void> {
  const file = await native.openDevice(path);
  try {
    await file.dropCache();
  } finally {
    await file.close();
  }
}

const watchImage: Watch = async (path, device) => {
  const before = await readImageFacts(path);
  if (before === null) throw changedError(path, 'was removed while it was opened');
  if (before.sizeBytes !== device.sizeBytes) throw changedError(path, 'was written to while it was opened');
  return {
    judgePresence: async () => judgePresence('image', before, await readImagePresence(path)),
    judge: async () => judgeImage(before, await readImageFacts(path)),
    continuity: await imageContinuity(before),
    // It was opened so that it never reads cached pages, where that matters.
    freshen: async () => undefined,
  };
};

export function inUse(path: string, use: DeviceUse): StillpointError {
  return new StillpointError('device-in-use', {
    thing: path,
    reason: `it is ${use.how}, and could change while it is read`,
    remedy: use.remedy,
    permanent: false,
  });
}
