/** Images that a point is restored to: a new one under a temporary name, or an existing one in place. */
import { type FileHandle, open, rename, rm, truncate } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { decodeMark, MARK_BYTES } from '../../devices/facts/half-restored.js';
import { readFact } from '../../devices/system/block-sysfs.js';
import { onDevice } from '../../devices/system/device-error.js';
import { explain } from '../../devices/system/read-only.js';
import { StillpointError } from '../../domain/base/errors.js';
import { lockFile, syncDirectory } from '../../native/files.js';
import { type Device, type NativeError, native } from '../../native/index.js';
import type { Held, RestoreTarget } from './port.js';

export interface ImagePlan {
  /** Its size as it was found. */
  readonly foundBytes: number;
  /** The point's. */
  readonly sizeBytes: number;
  readonly held: Held;
}

/**
 * What an image that exists looks like, and what is taken back where a restore fails (a
 * kill takes nothing back):
 *
 * | state    | the file                         | comes from               | a failure leaves               |
 * |----------|----------------------------------|--------------------------|--------------------------------|
 * | as found | of its old content and size      | the user                 | it                             |
 * | longer   | its old content, zeros behind it | `open` (tiny), `prepare` | its old content and size       |
 * | written  | marked as half restored, or      | the first write          | it, marked; an empty one empty |
 * |          | behind that                      |                          | again                          |
 * | complete | the point                        | `complete`               | it                             |
 *
 * It stays the file that it is, with its owner, mode, flags and links.
 */
export class ExistingImage implements RestoreTarget {
  readonly isReused = true;
  readonly isInPlace = true;
  readonly path: string;
  readonly #plan: ImagePlan;
  readonly #isEmpty: boolean;
  #device: Device;

  private constructor(path: string, device: Device, plan: ImagePlan, isEmpty: boolean) {
    this.path = path;
    this.#device = device;
    this.#plan = plan;
    this.#isEmpty = isEmpty;
  }

  static async open(path: string, plan: ImagePlan): Promise<ExistingImage> {
    const { foundBytes, sizeBytes } = plan;
    await checkSizeLimit(path, sizeBytes);
    const isEmpty = await isEmptyImage(path, foundBytes);
    // There must be room for the mark of a target that is half restored.
    if (foundBytes < MARK_BYTES && sizeBytes >= MARK_BYTES) await setSize(path, MARK_BYTES);
    try {
      return new ExistingImage(path, await openImage(path), plan, isEmpty);
    } catch (error) {
      await truncate(path, foundBytes);
      throw error;
    }
  }

  get device(): Device {
    return this.#device;
  }

  /**
   * It is made longer before anything in it changes: what is too long for its file system, or
   * for a limit, is found here.
   */
  async prepare(): Promise<void> {
    // Killed behind this, an empty one would pass for one that holds something. Nothing is lost of
    // it if it turns out later.
    if (!this.#isEmpty && this.#device.sizeBytes < this.#plan.sizeBytes) await this.#setSize();
  }

  async resize(): Promise<void> {
    if (this.#device.sizeBytes === this.#plan.sizeBytes) return;
    await this.#setSize();
    await this.#device.flush();
  }

  async #setSize(): Promise<void> {
    await setSize(this.path, this.#plan.sizeBytes);
    const resized = await openImage(this.path);
    await this.#device.close();
    this.#device = resized;
  }

  async undo(isMarked: boolean): Promise<boolean> {
    if (isMarked && !this.#isEmpty) return false;
    const sizeBytes = this.#isEmpty ? 0 : this.#plan.foundBytes;
    if (this.#device.sizeBytes !== sizeBytes) await truncate(this.path, sizeBytes);
    return true;
  }

  async complete(): Promise<readonly string[]> {
    return [];
  }

  async close(): Promise<void> {
    await this.#device.close();
    await this.#plan.held.release();
  }
}

/**
 * Nothing is in it. One that is as long as a mark, all zero, was empty when a restore began
 * that was killed at once.
 */
export async function isEmptyImage(path: string, sizeBytes: number): Promise<boolean> {
  if (sizeBytes === 0) return true;
  return sizeBytes === MARK_BYTES && (await firstSector(path)).every((byte) => byte === 0);
}

/** Of no use but to the next restore. */
export async function isHalfRestoredImage(path: string): Promise<boolean> {
  return decodeMark(await firstSector(path)) !== null;
}

async function firstSector(path: string): Promise<Buffer> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MARK_BYTES), 0, MARK_BYTES, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** A name of our own: a file of that name is replaced, so it must not be one that other programs give. */
const PARTIAL_SUFFIX = '.stillpoint-partial';

export async function newImage(path: string, sizeBytes: number): Promise<RestoreTarget> {
  const partialPath = `${path}${PARTIAL_SUFFIX}`;
  await checkSizeLimit(path, sizeBytes);
  const lock = await lockPartial(path, partialPath);
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
    await setSize(partialPath, sizeBytes, lock);
    device = await openImage(partialPath);
  } catch (error) {
    await close();
    throw error;
  }
  const nothing = async () => undefined;
  return {
    ...{ path: partialPath, device, isReused, isInPlace: false, prepare: nothing, resize: nothing },
    undo: async () => true,
    complete: async () => {
      await rename(partialPath, path);
      isComplete = true;
      await syncDirectory(dirname(path));
      return [];
    },
    close,
  };
}

/**
 * Past the page cache where the file system can: what is restored would only push out what the
 * machine's own work needs.
 */
async function openImage(path: string): Promise<Device> {
  try {
    return await native.openDevice(path, { write: true, direct: true });
  } catch (error) {
    if ((error as NativeError).code !== 'EINVAL') throw error;
    return native.openDevice(path, { write: true });
  }
}

/** Node has the kernel say EFBIG in place of ending the process. @throws StillpointError `device-io` */
async function setSize(path: string, sizeBytes: number, handle?: FileHandle): Promise<void> {
  try {
    await (handle === undefined ? truncate(path, sizeBytes) : handle.truncate(sizeBytes));
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'EFBIG' ? tooLarge(path, sizeBytes, error) : error;
  }
}

/**
 * Where the limit lies within the size that a file has already, the kernel says it only to who writes there.
 */
async function checkSizeLimit(path: string, sizeBytes: number): Promise<void> {
  const limits = (await readFact('/proc/self/limits')) ?? '';
  const limitBytes = Number(/^Max file size +(\d+) /m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  if (sizeBytes > limitBytes) throw tooLarge(path, sizeBytes);
}

function tooLarge(path: string, sizeBytes: number, cause?: unknown): StillpointError {
  return new StillpointError('device-io', {
    thing: path,
    reason: `a file of ${sizeBytes} bytes is more than its file system or the limit of this process allows`,
    remedy: 'Look at the limit with "ulimit -f", or choose a target elsewhere: FAT, for one, ends at 4 GiB.',
    cause,
  });
}

/** A link, a directory, a FIFO. */
const IN_THE_WAY: ReadonlySet<string | undefined> = new Set(['ELOOP', 'EISDIR', 'ENXIO']);

async function lockPartial(path: string, partialPath: string): Promise<FileHandle> {
  const lock = await onDevice(
    path,
    () =>
      lockFile(partialPath).catch((error: NodeJS.ErrnoException) => {
        if (IN_THE_WAY.has(error.code)) throw inTheWay(partialPath);
        return explain(path, error);
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
  throw inTheWay(partialPath);
}

function inTheWay(partialPath: string): StillpointError {
  return new StillpointError('usage', {
    thing: partialPath,
    reason: `it is in the way, and was not made by a restore to ${basename(partialPath, PARTIAL_SUFFIX)}`,
    remedy: 'Remove it, or choose another target.',
  });
}
