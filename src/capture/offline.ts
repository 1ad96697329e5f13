/**
 * The provider `offline`: the static view is the device itself, because nobody writes to it while it is read. That is checked,
 * not believed:
 *
 * |              | before                                        | while                | after                                 |
 * |--------------|-----------------------------------------------|----------------------|---------------------------------------|
 * | block device | no mount, swap, holder, writer; dirty pages   | opened exclusively   | flushed, write counters as before     |
 * |              | flushed; write counters noted, a loop         | (or mounted read-only) | a loop device's file has the times    |
 * |              | device's file too                             |                      | that it had                           |
 * | image        | no writer, no writable loop device on it      |                      | same inode, size, mtime, ctime; still |
 * |              |                                               |                      | no writer                             |
 *
 * A write between the checks moves the counters or the times: the session then gives no point. The mark of continuity is made of the
 * same facts, so that a later command can tell whether they are still the same; it is taken after what `conclude` compares with, so
 * that no moment lies between.
 */
import type { BigIntStats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { readBlockFamily, sampleWrites, type WriteSample, wroteBetween } from '../devices/block-sysfs.js';
import { blockContinuity, imageContinuity, loopBacking, waitForTick } from '../devices/continuity.js';
import { deviceError, notADevice, onDevice } from '../devices/device-error.js';
import { readDeviceIdentity } from '../devices/device-identity.js';
import { type DeviceUse, deviceNumber, findUses, isOpenForWriting } from '../devices/in-use.js';
import { StillpointError } from '../domain/errors.js';
import type { ConsistencyKind } from '../domain/point.js';
import { type Device, native } from '../native/index.js';
import type { HoldOptions, Snapshot, SnapshotProvider } from './ports.js';

export const offlineProvider: SnapshotProvider = {
  name: 'offline',
  hold: async (path, options) => {
    const status = await onDevice(path, () => stat(path));
    if (status.isBlockDevice()) return holdWith(path, options, blockDeviceWatch);
    if (status.isFile()) return holdWith(path, options, imageWatch);
    throw notADevice(path, status);
  },
};

interface Watched {
  /** What has changed since, or null. */
  changedSince(): Promise<string | null>;
  readonly continuity: string | null;
}

/** Notes the state of the device. */
type Watch = (path: string, device: Device) => Promise<Watched>;

async function holdWith(path: string, options: HoldOptions, watch: Watch): Promise<Snapshot> {
  const uses = await onDevice(path, () => findUses(path, 'writers'));
  const writer = uses.find((use) => use.writable);
  if (writer !== undefined && !options.fuzzy) throw inUse(path, writer);
  // A read-only mount holds the device exclusively itself; then the counters alone are the check.
  const exclusive = !uses.some((use) => use.exclusive);
  const device = await onDevice(path, () => native.openDevice(path, { exclusive }));
  try {
    const { changedSince, continuity } = await watch(path, device);
    const identity = await readDeviceIdentity(path, device.logicalSectorSize);
    const kind: ConsistencyKind = writer === undefined ? 'idle' : 'fuzzy';
    return {
      device,
      identity,
      instant: new Date(),
      kind,
      warnings: writer === undefined ? [] : [`${path} was in use: ${writer.how}; the point is fuzzy`],
      // Who writes may do so unseen until it is flushed.
      ...(continuity === null || writer !== undefined ? {} : { continuity }),
      conclude: async () => {
        const change = await changedSince();
        if (change === null) return { kind, warnings: [] };
        if (!options.fuzzy) throw changed(path, change);
        return { kind: 'fuzzy', warnings: [`${path} ${change}; the point is fuzzy`] };
      },
      release: () => device.close(),
    };
  } catch (error) {
    await device.close();
    throw deviceError(path, error);
  }
}

const blockDeviceWatch: Watch = async (path, device) => {
  // Dirty pages of earlier writers reach the device now, not in the middle of the read.
  await device.flush();
  const number = deviceNumber((await stat(path, { bigint: true })).rdev);
  const before = await sampleOf(number);
  if (before === null) {
    throw new StillpointError('device-io', {
      thing: path,
      reason: 'the kernel counts no writes to it, so that nobody could tell whether it was written to',
      remedy: 'Switch the counters on: echo 1 > /sys/block/NAME/queue/iostats',
    });
  }
  const backingBefore = await backingOf(number);
  return {
    changedSince: async () => {
      await device.flush();
      const after = await sampleOf(number);
      if (after === null) return 'lost its write counters while it was read';
      if (wroteBetween(before, after)) return 'was written to while it was read';
      return (await backingOf(number)) === backingBefore ? null : 'had its file written to while it was read';
    },
    continuity: await blockContinuity(number),
  };
};

/** Of a partition the file says nothing: it is written to for the other ones too. */
async function backingOf(number: string): Promise<string | null> {
  const family = await readBlockFamily(number);
  return family === null || family.disk !== null ? null : loopBacking(family);
}

async function sampleOf(number: string): Promise<WriteSample | null> {
  const family = await readBlockFamily(number);
  return family === null ? null : sampleWrites(family);
}

const imageWatch: Watch = async (path) => {
  await waitForTick(path);
  const before = await stat(path, { bigint: true });
  return {
    changedSince: async () => {
      const after = await stat(path, { bigint: true });
      if (after.ino !== before.ino || after.dev !== before.dev) return 'was replaced while it was read';
      if (!sameTimes(before, after)) return 'was written to while it was read';
      return isOpenForWriting(path) === true ? 'was opened for writing while it was read' : null;
    },
    continuity: await imageContinuity(before),
  };
};

function sameTimes(before: BigIntStats, after: BigIntStats): boolean {
  return before.size === after.size && before.mtimeNs === after.mtimeNs && before.ctimeNs === after.ctimeNs;
}

function inUse(path: string, use: DeviceUse): StillpointError {
  return new StillpointError('device-in-use', {
    thing: path,
    reason: `it is ${use.how}, and could change while it is read`,
    remedy: use.remedy,
    permanent: false,
  });
}

function changed(path: string, change: string): StillpointError {
  return new StillpointError('device-changed', {
    thing: path,
    reason: `it ${change}; there is no single instant that could become a point`,
    remedy: 'Stop what writes to it and back it up again.',
    permanent: false,
  });
}
