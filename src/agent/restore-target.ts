/**
 * What a point is restored to. A new image is made under a temporary name and gets its own when it is whole, so that nothing
 * half-done looks like an image; block devices and images that shall be overwritten are written in place (in-place.ts).
 */
import type { Stats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { realpath, rename, rm, stat, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { notADevice, onDevice } from '../devices/device-error.js';
import { MARK_BYTES } from '../devices/half-restored.js';
import { findUses } from '../devices/in-use.js';
import { StillpointError } from '../domain/errors.js';
import type { Point } from '../domain/point.js';
import { lockFile, syncDirectory } from '../native/files.js';
import { type Device, type NativeError, native } from '../native/index.js';

export interface RestoreTarget {
  /** Of its present size; an image of another size than the point's is another object after `resize`. */
  readonly device: Device;
  /** It may hold other bytes: zeros must be written too, and what it holds already need not be. */
  readonly isReused: boolean;
  /** Under its own name, where everybody sees it. */
  readonly isInPlace: boolean;
  /** Gives an image the point's size. */
  resize(): Promise<void>;
  /** All is written and flushed: gives a new image its name. */
  complete(): Promise<void>;
  /** Harmless after `complete`; before it, nothing of a new image remains. */
  close(): Promise<void>;
}

export interface TargetOptions {
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

/** @throws StillpointError `device-in-use`, `device-too-small`, `device-sector-size`, `device-not-found`, `usage`, `device-io` */
export async function openTarget(path: string, point: Point, options: TargetOptions): Promise<RestoreTarget> {
  const status = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  if (status === null) {
    await refuseDeviceName(path);
    return newImage(path, point);
  }
  if (status.isBlockDevice()) return blockDevice(path, point, options);
  if (!status.isFile()) throw notADevice(path, status);
  if (status.size === 0) return newImage(path, point);
  return existingImage(path, status, point, options);
}

/** A device's name with a typing mistake would become an image in memory, and look like a restored device. */
async function refuseDeviceName(path: string): Promise<void> {
  const directory = await realpath(dirname(path)).catch(() => null);
  if (directory === null || !/^\/dev(?!\/shm(?:\/|$))(?:\/|$)/.test(directory)) return;
  throw new StillpointError('device-not-found', {
    thing: path,
    reason: 'there is no such device, and images do not belong into /dev',
    remedy: 'Check the path; "lsblk" lists block devices.',
  });
}

async function blockDevice(path: string, point: Point, options: TargetOptions): Promise<RestoreTarget> {
  await refuseUsed(path, options);
  const device = await openExclusively(path, options);
  try {
    checkSize(path, device, point, options);
    checkSectorSize(path, device, point, options);
  } catch (error) {
    await device.close();
    throw error;
  }
  const nothing = async () => undefined;
  return {
    ...{ device, isReused: true, isInPlace: true, resize: nothing, complete: nothing },
    close: () => device.close(),
  };
}

/** Who looks for file systems on new devices holds them too, for a moment. */
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

async function existingImage(
  path: string,
  status: Stats,
  point: Point,
  options: TargetOptions,
): Promise<RestoreTarget> {
  if (!options.overwrite) {
    throw new StillpointError('usage', {
      thing: path,
      reason: `it exists and is not empty (${status.size} bytes)`,
      remedy: 'Choose another name, or allow overwriting (--overwrite).',
    });
  }
  await refuseUsed(path, options);
  const { sizeBytes } = point.geometry;
  // There would be no room for the mark of a target that is half restored.
  if (Math.min(status.size, sizeBytes) < MARK_BYTES) return newImage(path, point);
  return new ExistingImage(path, await openImage(path), sizeBytes);
}

class ExistingImage implements RestoreTarget {
  readonly isReused = true;
  readonly isInPlace = true;
  readonly #path: string;
  readonly #sizeBytes: number;
  #device: Device;

  constructor(path: string, device: Device, sizeBytes: number) {
    this.#path = path;
    this.#device = device;
    this.#sizeBytes = sizeBytes;
  }

  get device(): Device {
    return this.#device;
  }

  async resize(): Promise<void> {
    if (this.#device.sizeBytes === this.#sizeBytes) return;
    await truncate(this.#path, this.#sizeBytes);
    const resized = await openImage(this.#path);
    await this.#device.close();
    this.#device = resized;
    await resized.flush();
  }

  async complete(): Promise<void> {}

  close(): Promise<void> {
    return this.#device.close();
  }
}

/** Who only reads may be udev, looking at a new device for a moment: that is waited for. */
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

/** A name of our own: a file of that name is replaced, so it must not be one that other programs give. */
const PARTIAL_SUFFIX = '.stillpoint-partial';

async function newImage(path: string, point: Point): Promise<RestoreTarget> {
  const partialPath = `${path}${PARTIAL_SUFFIX}`;
  const lock = await lockPartial(partialPath);
  let device: Device | null = null;
  // An earlier restore, killed, has left it: what it got so far need not be fetched again.
  let isReused = false;
  let isComplete = false;
  const close = async () => {
    await device?.close();
    if (!isComplete) await rm(partialPath, { force: true });
    await lock.close();
  };
  try {
    isReused = (await lock.stat()).size > 0;
    await lock.truncate(point.geometry.sizeBytes);
    device = await openImage(partialPath);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    ...{ device, isReused, isInPlace: false },
    resize: async () => undefined,
    complete: async () => {
      await rename(partialPath, path);
      isComplete = true;
      await syncDirectory(dirname(path));
    },
    close,
  };
}

/** Past the page cache where the file system can: what is restored would only push out what the machine's own work needs. */
async function openImage(path: string): Promise<Device> {
  try {
    return await native.openDevice(path, { write: true, direct: true });
  } catch (error) {
    if ((error as NativeError).code !== 'EINVAL') throw error;
    return native.openDevice(path, { write: true });
  }
}

async function lockPartial(partialPath: string): Promise<FileHandle> {
  const lock = await onDevice(
    partialPath,
    () =>
      lockFile(partialPath).catch((error: NodeJS.ErrnoException) => {
        throw error.code === 'ENOENT' ? noDirectory(dirname(partialPath)) : error;
      }),
    { place: 'target' },
  );
  if (lock === null) {
    throw new StillpointError('device-in-use', {
      thing: partialPath,
      reason: 'another restore is writing it',
      remedy: 'Wait until it has ended, or choose another target.',
      permanent: false,
    });
  }
  const status = await lock.stat();
  if (status.isFile() && status.nlink === 1) return lock;
  await lock.close();
  throw new StillpointError('usage', {
    thing: partialPath,
    reason: 'it is in the way, and was not made by a restore',
    remedy: 'Remove it, or choose another target.',
  });
}

function noDirectory(directory: string): StillpointError {
  return new StillpointError('device-not-found', {
    thing: directory,
    reason: 'there is no such directory',
    remedy: 'Make it first, or choose another target.',
  });
}
