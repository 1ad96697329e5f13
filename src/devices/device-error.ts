/** Native and system errors about a device, in the words of the user. */
import type { Stats } from 'node:fs';
import { StillpointError } from '../domain/errors.js';

type SystemError = Error & { readonly code?: string; readonly path?: string; readonly byteOffset?: number };

/**
 * @param path the device or image that the call was about, where the error does not name another file.
 * @returns the error itself if it is one of ours already, or no system error at all (a defect).
 */
export function deviceError(path: string, error: unknown): unknown {
  if (error instanceof StillpointError || !(error instanceof Error)) return error;
  const { code, message, byteOffset, path: named = path } = error as SystemError;
  if (typeof code !== 'string') return error;
  const about = { thing: named, cause: error };
  switch (code) {
    case 'ENOENT':
    case 'ENXIO':
    case 'ENODEV':
      return new StillpointError('device-not-found', {
        ...about,
        reason: 'it does not exist',
        remedy: 'Check the path; "lsblk" lists block devices.',
      });
    case 'EBUSY':
      return new StillpointError('device-in-use', {
        ...about,
        reason: 'the kernel says that somebody holds it exclusively (a mount, perhaps of another container)',
        remedy: 'Unmount it or stop what uses it.',
      });
    case 'EACCES':
    case 'EPERM':
      return new StillpointError('device-io', {
        ...about,
        reason: 'access is not allowed',
        remedy: 'Run it as root, or as a user that may open it.',
      });
    case 'EROFS':
      return new StillpointError('device-io', { ...about, reason: 'it is read-only' });
    case 'ENOSPC':
    case 'EDQUOT':
      return new StillpointError('device-io', {
        ...about,
        reason: 'there is no space left',
        remedy: 'Make room, or choose a target elsewhere.',
      });
    case 'cancelled':
      return new StillpointError('cancelled', { ...about, reason: 'it was cancelled' });
    default: {
      const where = byteOffset === undefined ? '' : ` at byte ${byteOffset}`;
      return new StillpointError('device-io', { ...about, reason: `${message}${where}` });
    }
  }
}

/** Runs a step of work on a device; what it throws names the device. */
export async function onDevice<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw deviceError(path, error);
  }
}

export function notADevice(path: string, status: Stats): StillpointError {
  const what = status.isDirectory() ? 'a directory' : 'neither a block device nor a regular file';
  return new StillpointError('device-not-found', {
    thing: path,
    reason: `it is ${what}`,
    remedy: 'Name a block device (such as /dev/sdb1) or an image file.',
  });
}
