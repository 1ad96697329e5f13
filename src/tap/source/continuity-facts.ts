/** Reads the facts for continuity.ts: from the device, the kernel and the files of the tap. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { readBlockState } from '../../devices/facts/block-facts.js';
import { doubtfulFileSystem as doubtfulFileSystemOf, waitForTick } from '../../devices/facts/honest-times.js';
import { listDirectory, readBlockFamily, readFact, sampleWrites } from '../../devices/system/block-sysfs.js';
import type { TapAddon } from '../../native/index.js';
import { type DeviceFacts, type MapFacts, placeOf, type StartRecord } from './continuity.js';
import type { SourceIdentity, TapSource } from './source.js';

const STARTED_FORMAT: StateFormat<StartRecord> = {
  format: 'stillpoint tap start',
  version: 1,
  schema: z.strictObject({
    bootId: z.string().max(64),
    place: z.string().max(64),
    changedNs: z
      .string()
      .regex(/^\d{1,20}$/)
      .exactOptional(),
  }),
};

/**
 * A partition's counters and its disk's can't be read at one moment: how often it is tried until
 * nobody writes meanwhile.
 */
const SAMPLE_TRIES = 20;
const SAMPLE_PAUSE_MS = 10;
const SYSTEMCTL_TIMEOUT_MS = 5_000;

export async function readBootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/** The source's state now; what is written to it later shows in the next one. */
export async function readDeviceFacts(source: TapSource, identity: SourceIdentity): Promise<DeviceFacts> {
  const bootId = await readBootId();
  if (source.number !== null) {
    return {
      kind: 'block',
      bootId,
      isIdentified: identity.isLasting,
      ...(await readBlockFacts(source.number)),
      below: await readBelow(source.number),
    };
  }
  const doubtfulFileSystem = await doubtfulFileSystemOf(source.path);
  if (doubtfulFileSystem === null) await waitForTick(source.path);
  const status = await stat(source.path, { bigint: true });
  const { ino: inode, birthtimeNs: bornNs, size: sizeBytes, mtimeNs, ctimeNs } = status;
  const bootTimeNs = await readBootTime();
  const times = { mtimeNs, ctimeNs, doubtfulFileSystem };
  return { kind: 'image', bootId, bootTimeNs, inode, bornNs, sizeBytes, ...times };
}

async function readBlockFacts(number: string) {
  const family = await readBlockFamily(number);
  if (family === null) return { diskSequence: null, sectorsWritten: null, isStacked: true };
  const { directory } = family.disk ?? family.self;
  const isStacked =
    (await listDirectory(directory, 'slaves')).length > 0 ||
    (await readFact(directory, 'loop', 'backing_file')) !== null;
  const diskSequence = await readFact((family.disk ?? family.self).directory, 'diskseq');
  for (let tries = 0; tries < SAMPLE_TRIES; tries += 1) {
    const sample = await sampleWrites(family);
    if (sample === null) break;
    const { own, throughDiskMin, throughDiskMax } = sample;
    if (throughDiskMin === throughDiskMax) {
      return { diskSequence, isStacked, sectorsWritten: { own, throughDisk: throughDiskMin } };
    }
    await sleep(SAMPLE_PAUSE_MS);
  }
  return { diskSequence, isStacked, sectorsWritten: null };
}

/** Null: what is written to it past its node can't be told. */
async function readBelow(number: string): Promise<string | null> {
  const facts = (await readBlockState(number))?.facts;
  if (facts === undefined || facts.doubt !== null) return null;
  const pasts = facts.below.map(({ past }) => past);
  // A mark in a map is short.
  return pasts.includes(null)
    ? null
    : createHash('sha256').update(pasts.join(' ')).digest('hex').slice(0, 32);
}

/** Systemd is stopping all that runs. False where it is not what runs this machine. */
export async function machineStops(): Promise<boolean> {
  return new Promise((resolve) => {
    execFile('systemctl', ['is-system-running'], { timeout: SYSTEMCTL_TIMEOUT_MS }, (_, stdout) => {
      resolve(stdout.trim() === 'stopping');
    });
  });
}

/** In ns since 1970, to the second. */
async function readBootTime(): Promise<bigint> {
  const seconds = /^btime (\d+)$/m.exec(await readFile('/proc/stat', 'utf8'))?.[1];
  return BigInt(seconds ?? '0') * 1_000_000_000n;
}

/** A map that can't be read, for whatever reason, is one that is not believed. */
export async function readMapFacts(readTapMap: TapAddon['readTapMap'], mapPath: string): Promise<MapFacts> {
  try {
    return await readTapMap(mapPath);
  } catch (error) {
    return `the map file can't be used: ${(error as Error).message}`;
  }
}

/** A record that is damaged is none. */
export async function readStart(path: string): Promise<StartRecord | null> {
  return readStateFile(path, STARTED_FORMAT).catch(() => null);
}

/**
 * Only once the decision on the map of the time before is on disk: from here on a kill
 * leaves a map that counts.
 */
export async function writeStart(path: string, device: DeviceFacts): Promise<void> {
  const changed = device.kind === 'image' ? { changedNs: String(device.ctimeNs) } : {};
  await writeStateFile(path, STARTED_FORMAT, {
    bootId: device.bootId,
    place: placeOf(device),
    ...changed,
  });
}
