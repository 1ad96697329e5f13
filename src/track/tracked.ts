/**
 * Tracked devices: attach, open, look at, remove. The kernel keeps all there is to know (record.ts); a lock
 * on the directory of pins says who works with one, and a lock on the directory above who attaches or
 * removes. Both end with their process.
 */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { readBlockFamily, readFact } from '../devices/system/block-sysfs.js';
import { StillpointError } from '../domain/base/errors.js';
import { grainBytesFor } from '../domain/live/grain.js';
import { tryLockExclusive } from '../native/files.js';
import { type NativeError, native, type Tracker } from '../native/index.js';
import { findTrackPlace, TRACKERS_DIRECTORY, type TrackPlace } from './place.js';
import { newRecord, readRecord, type TrackRecord, whyDoubtful, whyOther, writeRecord } from './record.js';

/** Of the lock for attaching and removing. */
const LOCK_TRIES = 100;
const LOCK_PAUSE_MS = 50;

export interface Tracked {
  readonly tracker: Tracker;
  record: TrackRecord;
  /** Why the marks are not to be believed, a clause; null: they are. */
  readonly doubt: string | null;
  /** Of the lock: a process that inherits it keeps others out for as long as it lives. */
  readonly lockDescriptor: number;
  close(): Promise<void>;
}

/** @throws StillpointError `usage`: why this kernel can't tell what is written, or this user may not ask */
export async function checkTracking(thing: string): Promise<void> {
  try {
    await native.checkTracking();
  } catch (error) {
    throw trackingError(thing, error);
  }
}

/**
 * Takes the device's tracker for work with it; it is attached if there is none, or if it is not of this
 * device any more.
 * @throws StillpointError `usage`, `session-busy`
 */
export async function takeTracked(place: TrackPlace): Promise<Tracked> {
  // Also mounts what it takes, where nobody has.
  if (!(await isThere(place.directory))) await checkTracking(place.path);
  return inTurn(place.path, async () => {
    const lock = await lockTracker(place);
    try {
      const found = await openTracker(place);
      if (lock !== null && found !== null && found.gone === null) return locked(found, lock);
      await lock?.close();
      await native.detachTracker(place.directory);
      await removeGone();
      const attached = await attach(place);
      const doubt = found?.gone ?? 'writes are tracked only since now';
      const held = await lockTracker(place);
      if (held === null) throw new Error(`${place.directory} was removed`);
      return locked({ ...attached, doubt }, held);
    } catch (error) {
      await lock?.close();
      throw trackingError(place.path, error);
    }
  });
}

export type TrackState =
  | { readonly state: 'none' }
  /** Writes have been lost, or it is of another device. `reason` is a clause. */
  | { readonly state: 'void'; readonly reason: string }
  | {
      readonly state: 'tracked';
      readonly record: TrackRecord;
      /** A clause; null: every write has a mark. */
      readonly doubt: string | null;
      readonly grainBytes: number;
      readonly memoryBytes: number;
      /** With a mark; of more than the last point, while a session goes on. Null: they were not counted. */
      readonly markedBytes: number | null;
    };

/**
 * Nothing is locked or changed.
 * @param counts the marks, which takes a tenth of a second for each TiB.
 * @throws StillpointError `usage`
 */
export async function readTrackState(place: TrackPlace, counts: boolean): Promise<TrackState> {
  const found = await openTracker(place);
  if (found === null) return { state: 'none' };
  if (found.gone !== null) return { state: 'void', reason: found.gone };
  const { tracker, record, doubt } = found;
  try {
    const { grainBytes } = tracker.target;
    const markedBytes = counts ? (await tracker.marked()) * grainBytes : null;
    return { state: 'tracked', record, doubt, grainBytes, memoryBytes: tracker.memoryBytes, markedBytes };
  } finally {
    await tracker.close();
  }
}

/** @returns false if there was none. @throws StillpointError `session-busy` */
export async function removeTracked(directory: string, thing: string): Promise<boolean> {
  return inTurn(thing, async () => {
    const lock = await lockDirectory(directory, thing);
    if (lock === null) return false;
    try {
      await native.detachTracker(directory);
      return true;
    } finally {
      await lock.close();
    }
  });
}

export interface ListedTracker {
  readonly directory: string;
  /** As its user named it; null: its record is damaged. */
  readonly path: string | null;
  readonly state: TrackState;
}

/** All of this machine, also those whose device is gone. */
export async function listTracked(): Promise<ListedTracker[]> {
  return Promise.all((await trackerDirectories()).map(listOne));
}

async function trackerDirectories(): Promise<string[]> {
  const names = await readdir(TRACKERS_DIRECTORY).catch(() => []);
  return names.filter((name) => /^\d+_\d+$/.test(name)).map((name) => join(TRACKERS_DIRECTORY, name));
}

async function listOne(directory: string): Promise<ListedTracker> {
  const path = (await recordIn(directory))?.path ?? null;
  const isVoid = (reason: string): ListedTracker => ({ directory, path, state: { state: 'void', reason } });
  if (path === null) return isVoid('tracking was broken');
  const place = await findTrackPlace(path).catch(() => null);
  if (place === null || place.directory !== directory)
    return isVoid('the device is gone, or has another number now');
  return { directory, path, state: await readTrackState(place, true) };
}

/** Trackers of disks that are gone: nobody will ask for them, and they take memory. */
async function removeGone(): Promise<void> {
  for (const directory of await trackerDirectories()) {
    if (!(await isOfGoneDisk(directory))) continue;
    const lock = await lockDirectory(directory, directory).catch(() => null);
    if (lock === null) continue;
    await native.detachTracker(directory);
    await lock.close();
  }
}

async function isOfGoneDisk(directory: string): Promise<boolean> {
  const family = await readBlockFamily(basename(directory).replace('_', ':'));
  if (family === null) return true;
  const record = await recordIn(directory);
  if (record === null) return false;
  const { directory: disk } = family.disk ?? family.self;
  return record.diskSequence !== (await readFact(disk, 'diskseq'));
}

/** Null: it is damaged. */
async function recordIn(directory: string): Promise<TrackRecord | null> {
  try {
    const tracker = await native.openTracker(directory);
    const record = readRecord(tracker);
    await tracker.close();
    return record;
  } catch {
    return null;
  }
}

type Opened = Pick<Tracked, 'tracker' | 'record' | 'doubt'> & { readonly gone: null };
type Gone = { readonly gone: string };

async function openTracker(place: TrackPlace): Promise<Opened | Gone | null> {
  let tracker: Tracker;
  try {
    tracker = await native.openTracker(place.directory);
  } catch (error) {
    const { code, message } = error as NativeError;
    if (code === 'ENOENT') return null;
    if (code === 'track-broken') return { gone: `tracking was broken: ${message.split(': ').at(-1)}` };
    throw trackingError(place.path, error);
  }
  const record = readRecord(tracker);
  const gone = record === null ? 'its record is damaged' : whyOther(record, tracker, place);
  if (record !== null && gone === null)
    return { tracker, record, doubt: whyDoubtful(record, tracker), gone: null };
  await tracker.close();
  return { gone: gone ?? '' };
}

async function attach(place: TrackPlace): Promise<{ tracker: Tracker; record: TrackRecord }> {
  const grainBytes = grainBytesFor(place.sizeBytes, totalmem());
  const tracker = await native.attachTracker(place.directory, { ...place.target, grainBytes });
  const record = newRecord(place, tracker, new Date());
  writeRecord(tracker, record);
  return { tracker, record };
}

const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );

function locked(opened: Pick<Tracked, 'tracker' | 'record' | 'doubt'>, lock: FileHandle): Tracked {
  const { tracker, record, doubt } = opened;
  const close = async (): Promise<void> => {
    await tracker.close();
    await lock.close();
  };
  return { tracker, record, doubt, lockDescriptor: lock.fd, close };
}

const lockTracker = ({ directory, path }: TrackPlace): Promise<FileHandle | null> =>
  lockDirectory(directory, path);

/** @returns null: there is no such directory. */
async function lockDirectory(directory: string, thing: string): Promise<FileHandle | null> {
  let handle: FileHandle;
  try {
    handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  if (tryLockExclusive(handle)) return handle;
  await handle.close();
  throw new StillpointError('session-busy', {
    thing,
    reason: 'another command is working with what is tracked of it',
    remedy: 'Wait until it has ended.',
  });
}

/** One process at a time attaches or removes. */
async function inTurn<T>(thing: string, work: () => Promise<T>): Promise<T> {
  await mkdir(TRACKERS_DIRECTORY, { recursive: true, mode: 0o700 });
  const directory = await open(TRACKERS_DIRECTORY, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    for (let tries = 1; !tryLockExclusive(directory); tries += 1) {
      if (tries === LOCK_TRIES)
        throw new StillpointError('session-busy', {
          thing,
          reason: 'another command is beginning or ending to track a device',
        });
      await sleep(LOCK_PAUSE_MS);
    }
    return await work();
  } finally {
    await directory.close();
  }
}

const REASONS: Readonly<Record<string, string>> = {
  'no-btf': 'the kernel has no description of its types (CONFIG_DEBUG_INFO_BTF)',
  'no-bpf': 'the kernel was built without bpf(2)',
  EPERM: 'this user may not load programs into the kernel: that takes root, or CAP_BPF and CAP_PERFMON',
  EACCES: 'the kernel refuses the program that would tell what is written',
};

/** @returns the error as one of ours, if it is one of the tracker. */
function trackingError(thing: string, error: unknown): unknown {
  if (error instanceof StillpointError || !(error instanceof Error)) return error;
  const { code, message } = error as NativeError;
  const reason = REASONS[code] ?? (code === 'old-kernel' ? `the kernel is too old: ${message}` : message);
  return new StillpointError('usage', {
    thing,
    reason: `what is written to it can't be tracked: ${reason}`,
    remedy: 'See "stillpoint inspect" for other ways to back it up.',
    cause: error,
  });
}
