/**
 * The target of a restore. A new image is made under a temporary name and gets its own name when it is whole,
 * so that a half-done file never looks like an image; block devices and images that exist are written in
 * place (in-place.ts).
 */

import type { Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockTarget, refuseLockedRelatives } from '../../devices/locks/target-lock.js';
import { notADevice } from '../../devices/system/device-error.js';
import { findUses } from '../../devices/system/in-use.js';
import { refuseReadOnly } from '../../devices/system/read-only.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { Point } from '../../domain/point/point.js';
import { type Device, type NativeError, native } from '../../native/index.js';
import { ExistingImage, isEmptyImage, isHalfRestoredImage, newImage } from './image.js';
import { rereadPartitions } from './partitions.js';
import { followTarget } from './path.js';
import type { Held, RestoreTarget } from './port.js';
import { holdTaps, type ProtectedOptions, refuseProtected } from './protected.js';
import { tellStale } from './stale.js';

export interface TargetOptions extends ProtectedOptions {
  /** An image file that is not empty is replaced. Block devices are always overwritten. */
  readonly overwrite: boolean;
  /** Write although it is mounted or open. */
  readonly allowInUse: boolean;
  /** Write to a block device whose logical sectors are of another size than the point's. */
  readonly allowSectorSize: boolean;
  readonly onNotice: (text: string) => void;
}

const BRIEF_USERS_PAUSE_MS = 200;
const BRIEF_USERS_TRIES = 5;

/**
 * @throws StillpointError `device-in-use`, `device-too-small`, `device-sector-size`, `device-not-found`,
 * `usage`, `device-io`
 */
export async function openTarget(
  named: string,
  point: Point,
  options: TargetOptions,
): Promise<RestoreTarget> {
  const { path, status } = await followTarget(named);
  await refuseProtected(path, options);
  const { sizeBytes } = point.geometry;
  if (status === null) return newImage(path, sizeBytes);
  if (status.isBlockDevice()) {
    return openWritable(path, status, options, (held) => blockDevice(path, { point, options, held }));
  }
  if (!status.isFile()) throw notADevice(named, status);
  if (!options.overwrite) await refuseToOverwrite(path, status);
  return openWritable(path, status, options, (held) =>
    ExistingImage.open(path, { foundBytes: status.size, sizeBytes, held }),
  );
}

async function refuseToOverwrite(path: string, { size }: Stats): Promise<void> {
  if ((await isEmptyImage(path, size)) || (await isHalfRestoredImage(path))) return;
  throw new StillpointError('usage', {
    thing: path,
    reason: `it exists and is not empty (${size} bytes)`,
    remedy: 'Choose another name, or allow overwriting (--overwrite).',
  });
}

/**
 * Opens what is there, when it is sure that it may be written, and keeps others from it until it is closed.
 */
async function openWritable(
  path: string,
  status: Stats,
  options: TargetOptions,
  openIt: (held: Held) => Promise<RestoreTarget>,
): Promise<RestoreTarget> {
  await refuseReadOnly(path, status);
  const taps = await holdTaps(path, options.stateDirectory);
  let lock: FileHandle | null = null;
  const release = async () => {
    await lock?.close();
    await taps.release();
  };
  try {
    // A program that has locked it is reported as such, not as one that has it open.
    await (await lockTarget(path)).close();
    await refuseLockedRelatives(path);
    await refuseUsed(path, options);
    lock = await lockTarget(path);
    await taps.voidMaps();
    return await openIt({ release });
  } catch (error) {
    await release();
    throw error;
  }
}

async function blockDevice(
  path: string,
  { point, options, held }: { point: Point; options: TargetOptions; held: Held },
): Promise<RestoreTarget> {
  const device = await openExclusively(path, options);
  try {
    checkSize(path, device, point, options);
    checkSectorSize(path, device, point, options);
  } catch (error) {
    await device.close();
    throw error;
  }
  const nothing = async () => undefined;
  let isOpen = true;
  const closeDevice = async () => {
    if (isOpen) await device.close();
    isOpen = false;
  };
  return {
    ...{ path, device, isReused: true, isInPlace: true, prepare: nothing, resize: nothing },
    undo: async (isMarked) => !isMarked,
    complete: async () => {
      // The kernel reads no partitions of a disk that is held exclusively.
      await closeDevice();
      const warnings = await rereadPartitions(path);
      await tellStale(path, point.geometry.sizeBytes, options.onNotice);
      return warnings;
    },
    close: async () => {
      await closeDevice();
      await held.release();
    },
  };
}

/** Programs that look for file systems on new devices also hold them, for a moment. */
async function openExclusively(path: string, { allowInUse }: TargetOptions): Promise<Device> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await native.openDevice(path, { write: true, exclusive: !allowInUse });
    } catch (error) {
      if ((error as NativeError).code !== 'EBUSY' || tries === BRIEF_USERS_TRIES) throw error;
    }
    await sleep(BRIEF_USERS_PAUSE_MS);
  }
}

function checkSize(path: string, device: Device, point: Point, options: TargetOptions): void {
  const { sizeBytes } = point.geometry;
  if (device.sizeBytes < sizeBytes) {
    throw new StillpointError('device-too-small', {
      thing: path,
      reason: `it has ${device.sizeBytes} bytes, the point ${sizeBytes}`,
      remedy: 'Choose a larger device.',
    });
  }
  if (device.sizeBytes > sizeBytes) {
    options.onNotice(
      `${path} is larger than the point; its last ${device.sizeBytes - sizeBytes} bytes stay as they are`,
    );
  }
}

function checkSectorSize(path: string, device: Device, point: Point, options: TargetOptions): void {
  const { logicalSectorSize } = point.identity;
  if (point.identity.type !== 'block' || device.logicalSectorSize === logicalSectorSize) return;
  if (options.allowSectorSize) return;
  throw new StillpointError('device-sector-size', {
    thing: path,
    reason: `its logical sectors have ${device.logicalSectorSize} bytes, the point's ${logicalSectorSize}: partition tables and some file systems would not be understood`,
    remedy: 'Choose a device of the same sector size, or allow the difference (--allow-sector-size).',
  });
}

/** A reader may be udev, looking at a new device for a moment: the restore waits for it. */
async function refuseUsed(path: string, { allowInUse }: TargetOptions): Promise<void> {
  if (allowInUse) return;
  for (let tries = 1; ; tries += 1) {
    const uses = await findUses(path, 'all');
    const [use] = uses;
    if (use === undefined) return;
    if (use.writable || use.exclusive || tries === BRIEF_USERS_TRIES) {
      throw new StillpointError('device-in-use', {
        thing: path,
        reason: `it is ${use.how}`,
        remedy: use.remedy,
        permanent: false,
      });
    }
    await sleep(BRIEF_USERS_PAUSE_MS);
  }
}
