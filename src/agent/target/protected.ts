/**
 * Targets that must never be written, whatever the options allow: the parts of a store, of the state
 * directory or of a tap's preserve area, and the devices and images below them, by whatever path, link, mount
 * or loop device they are reached. A device that a tap serves is written through the tap.
 */
import { type BigIntStats, constants } from 'node:fs';
import { open, readdir, readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Footprint, footprintOf, footprintUnder, overlaps } from '../../devices/system/footprint.js';
import { findUses } from '../../devices/system/in-use.js';
import { namesOf, parseMountinfo } from '../../devices/system/mount-table.js';
import { isStillpoint, readCommandLine } from '../../devices/system/processes.js';
import { StillpointError } from '../../domain/base/errors.js';
import { CAPTURE_DIR, LOCK_FILE, PACKS_PREFIX, POINTS_PREFIX, STORE_FILE } from '../../store/disk/layout.js';
import { listTaps, lockTap, type RegisteredTap } from '../../tap/registry/registry.js';
import { voidMap } from '../../tap/registry/void-map.js';
import { existingPart } from '../../tap/source/preserve.js';

export interface ProtectedOptions {
  /** Null: there is none, and no taps. */
  readonly stateDirectory: string | null;
  /** Of the store that the command uses; undefined: it is another machine's. */
  readonly storeDirectory?: string | undefined;
}

/** A directory of ours in which nothing else is written. */
interface Place {
  readonly directory: string;
  /** "the store /srv/backups" */
  readonly name: string;
}

/**
 * @param path without symbolic links; of a new image too
 * @throws StillpointError `usage`
 */
export async function refuseProtected(path: string, options: ProtectedOptions): Promise<void> {
  const places = await placesOf(options);
  const footprint = await footprintOf(path);
  for (const image of new Set([path, ...footprint.images])) await refuseInside(path, image, places);
  for (const { directory, name } of places) {
    if (!overlaps(footprint, await footprintUnder(await existingPart(directory)))) continue;
    throw protectedError(path, `${name} is on it`);
  }
}

async function placesOf({ stateDirectory, storeDirectory }: ProtectedOptions): Promise<Place[]> {
  const places: Place[] = [];
  if (storeDirectory !== undefined) {
    places.push({ directory: storeDirectory, name: `the store ${storeDirectory}` });
  }
  if (stateDirectory === null) return places;
  places.push({ directory: stateDirectory, name: `the state directory ${stateDirectory}` });
  for (const { settings } of await listTaps(stateDirectory)) {
    const { name, preserveDirectory, runDirectory, journal } = settings;
    places.push({ directory: preserveDirectory, name: `the preserve area of the tap ${name}` });
    places.push({ directory: runDirectory, name: `the directory of the tap ${name}'s sockets` });
    if (journal !== null) {
      places.push({ directory: journal.directory, name: `the journal of the tap ${name}` });
    }
  }
  return places;
}

/** @param image the target, or what it is a loop device over */
async function refuseInside(target: string, image: string, places: readonly Place[]): Promise<void> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
  const own = new Map<string, Place>();
  for (const place of places) {
    const key = await directoryKey(place.directory);
    if (key !== null) own.set(key, place);
  }
  const real = await realpath(image).catch(() => image);
  for (const name of namesOf(real, mounts)) {
    for (const directory of directoriesAbove(name)) {
      const place = own.get((await directoryKey(directory)) ?? '');
      if (place !== undefined) throw protectedError(target, `it belongs to ${place.name}`);
      if (await isStore(directory)) throw protectedError(target, `it belongs to the store ${directory}`);
    }
  }
  const status = await stat(image, { bigint: true }).catch(() => null);
  if (status?.isFile() !== true) return;
  const kind = await kindByContent(image);
  if (kind !== null) throw protectedError(target, `it is ${kind}`);
  if (status.nlink === 1n) return;
  for (const { directory, name } of places) {
    if (await holds(directory, status))
      throw protectedError(target, `it is a hard link to a file of ${name}`);
  }
}

function directoriesAbove(path: string): string[] {
  const found: string[] = [];
  for (let directory = dirname(path); ; directory = dirname(directory)) {
    found.push(directory);
    if (directory === dirname(directory)) return found;
  }
}

async function directoryKey(directory: string): Promise<string | null> {
  const status = await stat(directory, { bigint: true }).catch(() => null);
  return status === null ? null : `${status.dev}/${status.ino}`;
}

const FIRST_BYTES = 16;

/** Also one whose store.json is damaged: what it holds is as dear. */
async function isStore(directory: string): Promise<boolean> {
  if ((await firstBytes(join(directory, STORE_FILE))) === 'stillpoint-store') return true;
  const isThere = (name: string) =>
    stat(join(directory, name)).then(
      () => true,
      () => false,
    );
  for (const name of [CAPTURE_DIR, PACKS_PREFIX, POINTS_PREFIX]) if (!(await isThere(name))) return false;
  return (await isThere(STORE_FILE)) || (await isThere(LOCK_FILE));
}

/** A hard link tells nothing of the file's other names. */
async function kindByContent(path: string): Promise<string | null> {
  const bytes = await firstBytes(path);
  if (bytes.startsWith('SPPACK1\0')) return 'a pack of a store';
  if (bytes.startsWith('SPTAPMAP')) return 'the map of a tap';
  return /^stillpoint-(store|point|cap)/.test(bytes) ? 'a file of a store' : null;
}

async function firstBytes(path: string): Promise<string> {
  // A FIFO must not hang the open.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => null);
  if (file === null) return '';
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(FIRST_BYTES), 0, FIRST_BYTES, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } catch {
    return '';
  } finally {
    await file.close();
  }
}

async function holds(directory: string, wanted: BigIntStats): Promise<boolean> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.isDirectory() && (await holds(path, wanted))) return true;
    if (!entry.isFile()) continue;
    const status = await stat(path, { bigint: true }).catch(() => null);
    if (status?.dev === wanted.dev && status.ino === wanted.ino) return true;
  }
  return false;
}

function protectedError(path: string, reason: string): StillpointError {
  return new StillpointError('usage', {
    thing: path,
    reason: `${reason}, which is never overwritten`,
    remedy: 'Choose another device or file.',
  });
}

export interface HeldTaps {
  /** What is restored is written past them: their next backups read everything. */
  voidMaps(): Promise<void>;
  release(): Promise<void>;
}

/**
 * Keeps the taps from running, until released, that serve what shares bytes with the target.
 * @throws StillpointError `device-in-use` where one runs
 */
export async function holdTaps(path: string, stateDirectory: string | null): Promise<HeldTaps> {
  const target = await footprintOf(path);
  const locks: Awaited<ReturnType<typeof lockTap>>[] = [];
  const held: RegisteredTap[] = [];
  const release = async () => {
    for (const lock of locks.splice(0)) await lock.close();
  };
  try {
    for (const tap of stateDirectory === null ? [] : await listTaps(stateDirectory)) {
      if (!(await servesPartOf(tap, target))) continue;
      locks.push(await lockTap(tap).catch((error) => Promise.reject(tapRuns(path, tap, error))));
      held.push(tap);
    }
    await refuseServed(path);
    const voidMaps = async () => {
      for (const tap of held) await voidMap(tap);
    };
    return { voidMaps, release };
  } catch (error) {
    await release();
    throw error;
  }
}

async function servesPartOf({ settings }: RegisteredTap, target: Footprint): Promise<boolean> {
  const source: Footprint = await footprintOf(settings.sourcePath);
  return overlaps(target, source);
}

function tapRuns(path: string, { settings }: RegisteredTap, cause: unknown): unknown {
  if (!(cause instanceof StillpointError && cause.code === 'device-in-use')) return cause;
  const { name, sourcePath } = settings;
  return new StillpointError('device-in-use', {
    thing: path,
    reason: `the tap ${name} serves ${sourcePath}, and would miss what is written past it`,
    remedy: `Restore to the device that the tap is attached as, or stop it first: stillpoint tap stop ${name}`,
    permanent: false,
    cause,
  });
}

/** By a tap of another state directory. */
async function refuseServed(path: string): Promise<void> {
  for (const { processId, writable } of await findUses(path, 'writers')) {
    if (processId === undefined || !writable) continue;
    const words = await readCommandLine(processId);
    const at = words.lastIndexOf('serve');
    if (at < 1 || words[at - 1] !== 'tap' || !words.some(isStillpoint)) continue;
    throw new StillpointError('device-in-use', {
      thing: path,
      reason: `a tap serves it, ${words[at + 1]} (process ${processId}), and would miss what is written past it`,
      remedy: 'Restore to the device that the tap is attached as, or stop the tap first.',
      permanent: false,
    });
  }
}
