/** Whether a device or an image holds a disk in a container, and what to say about that. */
import { detectImageFormat, FORMAT_HEAD_BYTES, FORMAT_TAIL_BYTES } from '../../domain/device/image-format.js';
import { type Device, native } from '../../native/index.js';
import { onDevice } from '../system/device-error.js';

/**
 * Of a device that is open.
 * @returns null: a raw disk, as far as can be seen, also where the bytes can't be read
 */
export async function readImageFormat(
  device: Pick<Device, 'type' | 'sizeBytes' | 'read'>,
): Promise<string | null> {
  const { sizeBytes, type } = device;
  const part = (byteOffset: number, byteLength: number) =>
    device.read(byteOffset, byteLength).catch(() => Buffer.alloc(0));
  const head = await part(0, Math.min(sizeBytes, FORMAT_HEAD_BYTES));
  const hasTail = type === 'file' && sizeBytes >= FORMAT_TAIL_BYTES;
  const tail = hasTail ? await part(sizeBytes - FORMAT_TAIL_BYTES, FORMAT_TAIL_BYTES) : Buffer.alloc(0);
  return detectImageFormat(head, tail);
}

/** @throws StillpointError `device-not-found`, `device-io` */
export function imageFormatOf(path: string): Promise<string | null> {
  return onDevice(path, async () => {
    const device = await native.openDevice(path, { direct: false });
    try {
      return await readImageFormat(device);
    } finally {
      await device.close();
    }
  });
}

/** A clause about the device. */
export const describeFormat = (format: string): string =>
  `it is a ${format} image: read as a raw disk, it shows the container, not the disk in it`;
