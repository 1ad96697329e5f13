/**
 * What a tap writes beside the device: how large its preserve area and its journal may become, and where they
 * must not be.
 */
import { stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readBlockFamily, readFact } from '../../devices/system/block-sysfs.js';
import { onDevice } from '../../devices/system/device-error.js';
import { foundationsOf } from '../../devices/system/foundations.js';
import { deviceNumber } from '../../devices/system/in-use.js';
import { StillpointError } from '../../domain/base/errors.js';
import { GiB, MiB } from '../../domain/base/limits.js';
import { makeDirectories } from '../../native/files.js';
import type { TapSource } from './source.js';

const SECTOR_BYTES = 512;
/** Less than that breaks at once where anything is written. */
export const JOURNAL_BYTES_MIN = 16 * MiB;

/**
 * A tenth of the device, at least 1 GiB: what is written to a busy one during a backup. Never more than half
 * of the space that is free: the host needs the rest.
 */
export async function defaultPreserveMax(source: TapSource, directory: string): Promise<number> {
  const wished = Math.max(GiB, Math.ceil((await sizeOf(source)) / 10));
  return Math.max(1, Math.min(wished, await halfOfFree(directory)));
}

/** The same for the journal: an hour without its receiver, at some 1 MB written a second. */
export async function defaultJournalMax(directory: string): Promise<number> {
  return Math.max(JOURNAL_BYTES_MIN, Math.min(4 * GiB, await halfOfFree(directory)));
}

async function halfOfFree(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(await existingPart(directory));
  return Math.floor((bavail * bsize) / 2);
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
  await refuseServed({ thing: 'preserve directory', option: '--preserve-dir' }, directory, source, attached);
}

/** Each record would be a write, with a record. The rest as checkPreserveDirectory(). */
export async function checkJournalDirectory(
  directory: string,
  source: TapSource,
  attached: string | null,
): Promise<void> {
  await refuseServed({ thing: 'journal directory', option: '--journal-dir' }, directory, source, attached);
}

async function refuseServed(
  { thing, option }: { readonly thing: string; readonly option: string },
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
    thing: `${thing} ${directory}`,
    reason: `it is on ${source.path}, which the tap itself serves`,
    remedy: `Choose one on another device with ${option}.`,
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
