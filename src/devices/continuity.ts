/**
 * Marks of continuity: texts of facts that stay equal only while nobody changes a device or an image. Two that are equal prove that the
 * content is the same at both times and was so between them. Null where the facts at hand prove nothing: then nobody may go on.
 *
 * Each carries the boot id: after a crash of the machine, a file may have the times of a write and not its bytes; and counters begin anew.
 */
import type { BigIntStats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { type BlockFamily, listDirectory, readBlockFamily, readFact, sampleWrites } from './block-sysfs.js';

/** Kernel time stamps move in ticks: a file changed within the last one could change again without a trace. */
const TIMESTAMP_TICK_MS = 20;
/** A partition's counters and its disk's can't be read at one moment: how often it is tried until nobody writes meanwhile. */
const SAMPLE_TRIES = 5;
const SAMPLE_PAUSE_MS = 10;
/** Other machines may write to these, and no counter of this one moves. */
const SHARED_DEVICE = /^(nbd|rbd|drbd)\d/;

/** From when this resolves on, a write to the file shows in its times. */
export async function waitForTick(path: string): Promise<void> {
  const ageMs = Date.now() - Number((await stat(path, { bigint: true })).ctimeMs);
  if (ageMs < TIMESTAMP_TICK_MS) await sleep(TIMESTAMP_TICK_MS);
}

/** @param status taken after `waitForTick` */
export async function imageContinuity(status: BigIntStats): Promise<string | null> {
  const bootId = await readBootId();
  return bootId === null ? null : `image ${bootId} ${factsOfFile(status)}`;
}

/** @param number `MAJOR:MINOR` of a block device whose dirty pages were flushed */
export async function blockContinuity(number: string): Promise<string | null> {
  const bootId = await readBootId();
  const family = await readBlockFamily(number);
  if (bootId === null || family === null) return null;
  const disk = family.disk ?? family.self;
  // What stands on other devices can be changed through them. Without the sequence, another disk may have the same number.
  const isStacked = (await listDirectory(disk.directory, 'slaves')).length > 0;
  const diskSequence = await readFact(disk.directory, 'diskseq');
  if (isStacked || SHARED_DEVICE.test(disk.name) || diskSequence === null) return null;
  const backing = await loopBacking(family);
  const written = await sectorsWritten(family);
  if (backing === null || written === null) return null;
  return `block ${bootId} ${number} ${diskSequence} ${written} ${backing}`.trimEnd();
}

/** Facts of the file under a loop device; empty where it is none, null where its file can't be told. */
export async function loopBacking({ self, disk }: BlockFamily): Promise<string | null> {
  const path = await readFact((disk ?? self).directory, 'loop', 'backing_file');
  if (path === null) return '';
  try {
    await waitForTick(path);
    const status = await stat(path, { bigint: true });
    return status.isFile() ? factsOfFile(status) : null;
  } catch {
    return null;
  }
}

function factsOfFile({ dev, ino, birthtimeNs, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, birthtimeNs, size, mtimeNs, ctimeNs].join(':');
}

async function sectorsWritten(family: BlockFamily): Promise<string | null> {
  for (let tries = 0; tries < SAMPLE_TRIES; tries += 1) {
    const sample = await sampleWrites(family);
    if (sample === null) return null;
    const { own, throughDiskMin, throughDiskMax } = sample;
    if (throughDiskMin === throughDiskMax) return `${own}+${throughDiskMin}`;
    await sleep(SAMPLE_PAUSE_MS);
  }
  return null;
}

async function readBootId(): Promise<string | null> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim() || null;
}
