/** Where a block device is in its disk, and whether the kernel can tell who writes to it. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type BlockFamily, listDirectory, readBlockFamily, readFact } from '../devices/system/block-sysfs.js';
import { notADevice } from '../devices/system/device-error.js';
import { deviceNumber } from '../devices/system/in-use.js';
import { StillpointError } from '../domain/base/errors.js';
import type { TrackTarget } from '../native/index.js';

/** In the BPF file system: one directory of pins for each tracked device. */
export const TRACKERS_DIRECTORY = '/sys/fs/bpf/stillpoint';
const SECTOR_BYTES = 512;

export interface TrackPlace {
  /** As its user names it. */
  readonly path: string;
  /** Kernel name: `sda1`. */
  readonly name: string;
  /** `8:1` */
  readonly number: string;
  /** Of its pins. */
  readonly directory: string;
  readonly target: Omit<TrackTarget, 'grainBytes'>;
  readonly sizeBytes: number;
  /** Another disk with the same number has another one. */
  readonly diskSequence: string;
}

/**
 * @throws StillpointError `device-not-found`; `usage`: writes to it can't be tracked. A missing path is the
 * system's error.
 */
export async function findTrackPlace(path: string): Promise<TrackPlace> {
  const status = await stat(path, { bigint: true });
  if (status.isFile()) throw untrackable(path, 'it is an image file, and only block devices are tracked');
  if (!status.isBlockDevice()) throw notADevice(path, await stat(path));
  const number = deviceNumber(status.rdev);
  const family = await readBlockFamily(number);
  if (family === null) throw untrackable(path, 'the kernel does not show it in /sys');
  const { self } = family;
  const disk = family.disk ?? self;
  const diskSequence = await readFact(disk.directory, 'diskseq');
  if (diskSequence === null)
    throw untrackable(path, 'the kernel is too old: it does not number its disks (diskseq, Linux 5.15)');
  if (((await readFact(disk.directory, 'queue', 'zoned')) ?? 'none') !== 'none')
    throw untrackable(path, 'it has zones, and the kernel does not show how much a reset of one clears');
  const hasRequestQueue = (await listDirectory(disk.directory, 'mq')).length > 0;
  if (!hasRequestQueue && (await isMultipathNvme(family)))
    throw untrackable(path, 'it is an NVMe disk with several paths, whose completed writes are not shown');
  const [sectors, start] = await Promise.all([
    readFact(self.directory, 'size'),
    family.disk === null ? '0' : readFact(self.directory, 'start'),
  ]);
  const sectorCount = Number(sectors ?? 0);
  if (sectorCount === 0) throw untrackable(path, 'it has no size');
  const [diskMajor = 0, diskMinor = 0] = disk.number.split(':').map(Number);
  return {
    path,
    name: self.name,
    number,
    directory: join(TRACKERS_DIRECTORY, number.replace(':', '_')),
    target: { diskMajor, diskMinor, startSector: Number(start ?? 0), sectorCount, hasRequestQueue },
    sizeBytes: sectorCount * SECTOR_BYTES,
    diskSequence,
  };
}

/** The disk's own node passes writes on to hidden ones, and does not see them end. */
async function isMultipathNvme({ self, disk }: BlockFamily): Promise<boolean> {
  return /^nvme/.test((disk ?? self).name);
}

function untrackable(path: string, reason: string): StillpointError {
  return new StillpointError('usage', {
    thing: path,
    reason,
    remedy: 'See "stillpoint inspect" for other ways to back it up.',
  });
}
