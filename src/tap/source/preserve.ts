/** The preserve area of a tap: how large it may become, and where it must not be. */
import { stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readBlockFamily, readFact } from '../../devices/system/block-sysfs.js';
import { onDevice } from '../../devices/system/device-error.js';
import { foundationsOf } from '../../devices/system/foundations.js';
import { deviceNumber } from '../../devices/system/in-use.js';
import { StillpointError } from '../../domain/base/errors.js';
import { GiB } from '../../domain/base/limits.js';
import { makeDirectories } from '../../native/files.js';
import type { TapSource } from './source.js';

const SECTOR_BYTES = 512;

/**
 * A tenth of the device, at least 1 GiB: what is written to a busy one during a backup. Never more than half
 * of the space that is free: the host needs the rest.
 */
export async function defaultPreserveMax(source: TapSource, directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(await existingPart(directory));
  const wished = Math.max(GiB, Math.ceil((await sizeOf(source)) / 10));
  return Math.max(1, Math.min(wished, Math.floor((bavail * bsize) / 2)));
}

async function sizeOf(source: TapSource): Promise<number> {
  if (source.number === null) return (await stat(source.path)).size;
  const family = await readBlockFamily(source.number);
  const sectors = family === null ? null : await readFact(family.self.directory, 'size');
  return Number(sectors ?? 0) * SECTOR_BYTES;
}

/**
 * The tap would wait for itself if it had to preserve blocks in a place that it serves.
 * @param attached `/dev/nbdN`, where the tap is one.
 * @throws StillpointError `config`
 */
export async function checkPreserveDirectory(
  directory: string,
  source: TapSource,
  attached: string | null,
): Promise<void> {
  const foundations = await foundationsOf(await existingPart(directory));
  const served = [source.key];
  const status = attached === null ? null : await stat(attached, { bigint: true });
  if (status !== null) served.push(`block ${deviceNumber(status.rdev)}`);
  if (!served.some((key) => foundations.has(key))) return;
  throw new StillpointError('config', {
    thing: `preserve directory ${directory}`,
    reason: `it is on ${source.path}, which the tap itself serves`,
    remedy: 'Choose one on another device with --preserve-dir.',
  });
}

export async function makePreserveDirectory(directory: string): Promise<void> {
  await onDevice(directory, () => makeDirectories(directory));
}

/** The directory itself, or the nearest one above it that is there. */
export async function existingPart(directory: string): Promise<string> {
  for (let path = directory; ; path = dirname(path)) {
    const status = await stat(path).catch(() => null);
    if (status?.isDirectory() === true || path === dirname(path)) return path;
  }
}
