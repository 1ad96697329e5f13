/** Native and system errors about a device, in the words of the user. */
import { StillpointError } from '../domain/errors.js';

type SystemError = Error & { readonly code?: string; readonly byteOffset?: number };

/** @param path the device or image that the failed call was about. */
export function deviceError(path: string, error: unknown): StillpointError {
  if (error instanceof StillpointError) return error;
  const { code, message, byteOffset } = error as SystemError;
  const about = { thing: path, cause: error };
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
