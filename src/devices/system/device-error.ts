/** Native and system errors about a device, in the words of the user. */
import type { Stats } from 'node:fs';
import { StillpointError } from '../../domain/base/errors.js';
import { errnoNameOf, placeOf, systemError } from '../../domain/base/system-errors.js';
import { pathFacts } from '../../native/path-facts.js';

type NativeFailure = NodeJS.ErrnoException & { readonly dest?: string };

export interface DeviceErrorOptions {
  /** Default: device. */
  readonly place?: 'device' | 'target';
  /** Errors of files in it are told as such. */
  readonly stateDirectory?: string | null;
}

/**
 * @param path the device or image that the call was about, where the error does not name another file.
 * @returns the error itself if it is one of ours already, or no error of the system or the native code (a
 * defect).
 */
export function deviceError(path: string, error: unknown, options: DeviceErrorOptions = {}): unknown {
  if (error instanceof StillpointError || !(error instanceof Error)) return error;
  const { place = 'device', stateDirectory = null } = options;
  const { code, message, path: given = path, dest } = error as NativeFailure;
  // Of a rename, the new name is what the user knows.
  const named = dest ?? given;
  const errno = errnoNameOf(error);
  if (errno === 'ETRUNCATED') {
    return new StillpointError('device-changed', {
      ...{ thing: named, permanent: false, cause: error },
      reason: `it was cut short or removed ${place === 'target' ? 'while it was written' : 'while it was read'}: some of its bytes are gone`,
      remedy: 'Find the cause, restore its size, and start again.',
    });
  }
  if (errno !== null) {
    const at = named === path ? place : placeOf(named, { stateDirectory, otherwise: place });
    return systemError(error, { thing: named, place: at, facts: pathFacts(named, errno) }) ?? error;
  }
  if (typeof code !== 'string' || code === 'internal' || code.startsWith('ERR_')) return error;
  const about = { thing: named, cause: error };
  if (code === 'cancelled') return new StillpointError('cancelled', { ...about, reason: 'it was cancelled' });
  // The native code names the file itself.
  const reason = message.startsWith(`${named}: `) ? message.slice(named.length + 2) : message;
  return new StillpointError('device-io', { ...about, reason });
}

/** Runs a step of work on a device; what it throws names the device. */
export async function onDevice<T>(
  path: string,
  work: () => Promise<T>,
  options: DeviceErrorOptions = {},
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw deviceError(path, error, options);
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
