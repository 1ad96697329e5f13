/**
 * The taps of this machine: `<state>/taps/<name>/`, one directory each.
 *
 * | file           | content                                           | written by                      |
 * |----------------|---------------------------------------------------|---------------------------------|
 * | `tap.json`     | settings: the tap exists once it is there         | `tap add`, whole                |
 * | `map`          | the change map                                    | the native tap                  |
 * | `started.json` | the last start, for what the map is worth after it | the daemon, before it serves   |
 * | `lock`         | flock of the process that serves                  | the daemon                      |
 * | `log`          | of a daemon that systemd did not start            | the daemon                      |
 * | `preserve/`    | original blocks while a snapshot is held          | the native tap, unless elsewhere |
 * | `journal/`     | the spool of the journal                          | the native tap, unless elsewhere |
 *
 * The sockets are in `runDirectory`, with `attached.json`, the link `device` and the heads of journals. Only
 * one add, set or remove runs at a time, by flock on `<state>/taps/lock`. All taps have one write clock:
 * `<state>/write-clock`, with its lock, survives, and its word is in the directory above `runDirectory`.
 */
import { type FileHandle, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory, readStateFile, writeStateFile } from '../../config/state-file.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { checkName } from '../../domain/base/names.js';
import { lockFile, syncDirectory } from '../../native/files.js';
import type { TapJournalOptions } from '../../native/index.js';
import { readSource } from '../source/source.js';
import { checkSocketPath } from './listen-address.js';
import { TAP_FORMAT, type TapSettings } from './settings.js';
import { makeSpool, removeSpool } from './spool.js';

export interface RegisteredTap {
  readonly settings: TapSettings;
  readonly directory: string;
  readonly mapPath: string;
  readonly startedPath: string;
  readonly lockPath: string;
  readonly logPath: string;
  readonly controlPath: string;
  /** Of the socket on which holds are readable. */
  readonly snapshotPath: string;
  readonly attachedPath: string;
  /** Leads to the attached /dev/nbdN. */
  readonly deviceLinkPath: string;
  /** Of the journal, unless settings name another. */
  readonly spoolDirectory: string;
  /** Where the heads of its journals are published: `JOURNAL-ID.head`. */
  readonly headDirectory: string;
  /** The write clock of all taps. */
  readonly clock: TapJournalOptions['clock'];
}

/** Of the journal of the tap of this name, unless another is chosen. */
export function spoolDirectoryOf(stateDirectory: string, name: string): string {
  return join(tapsDirectory(stateDirectory), checkName('tap', name), 'journal');
}

const tapsDirectory = (stateDirectory: string): string => join(stateDirectory, 'taps');

/**
 * @param runDirectory of all taps.
 * @returns that of one.
 * @throws StillpointError `usage` if its sockets would have too long paths
 */
export function runDirectoryOf(runDirectory: string, name: string): string {
  const directory = join(runDirectory, 'taps', checkName('tap', name));
  checkSocketPath(join(directory, 'snapshot.sock'));
  return directory;
}

function registered(stateDirectory: string, settings: TapSettings): RegisteredTap {
  const directory = join(tapsDirectory(stateDirectory), settings.name);
  const { runDirectory } = settings;
  return {
    settings,
    directory,
    mapPath: join(directory, 'map'),
    startedPath: join(directory, 'started.json'),
    lockPath: join(directory, 'lock'),
    logPath: join(directory, 'log'),
    controlPath: join(runDirectory, 'control.sock'),
    snapshotPath: join(runDirectory, 'snapshot.sock'),
    attachedPath: join(runDirectory, 'attached.json'),
    deviceLinkPath: join(runDirectory, 'device'),
    spoolDirectory: spoolDirectoryOf(stateDirectory, settings.name),
    headDirectory: runDirectory,
    clock: {
      wordPath: join(dirname(runDirectory), 'write-clock'),
      lockPath: join(stateDirectory, 'write-clock.lock'),
      reservationPath: join(stateDirectory, 'write-clock'),
    },
  };
}

/** @throws StillpointError `device-unknown` if there is none of this name, `config` if its file is damaged */
export async function readTap(stateDirectory: string, name: string): Promise<RegisteredTap> {
  const directory = join(tapsDirectory(stateDirectory), checkName('tap', name));
  const settings = await readStateFile(join(directory, 'tap.json'), TAP_FORMAT);
  if (settings === null || settings.name !== name) {
    throw new StillpointError('device-unknown', {
      thing: `tap ${name}`,
      reason: 'there is no tap of this name',
      remedy: 'See "stillpoint tap list".',
    });
  }
  return registered(stateDirectory, settings);
}

/** By name. The remains of a `tap add` or `tap remove` that died are not a tap. */
export async function listTaps(stateDirectory: string): Promise<RegisteredTap[]> {
  const taps: RegisteredTap[] = [];
  for (const entry of await entriesOf(tapsDirectory(stateDirectory))) {
    if (!entry.isDirectory()) continue;
    try {
      taps.push(await readTap(stateDirectory, entry.name));
    } catch (error) {
      if (!isStillpointError(error, 'device-unknown')) throw error;
    }
  }
  return taps.sort((a, b) => (a.settings.name < b.settings.name ? -1 : 1));
}

/** What can't be a directory has no taps. */
const NO_DIRECTORY: ReadonlySet<string | undefined> = new Set(['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'ELOOP']);

async function entriesOf(directory: string) {
  try {
    return await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (NO_DIRECTORY.has((error as NodeJS.ErrnoException).code)) return [];
    throw error;
  }
}

/** @throws StillpointError `config` if the name is taken, `device-in-use` if another tap has the source */
export async function addTap(stateDirectory: string, settings: TapSettings): Promise<RegisteredTap> {
  const tap = registered(stateDirectory, { ...settings, name: checkName('tap', settings.name) });
  await makeDirectory(tapsDirectory(stateDirectory));
  const lock = await lockRegistry(stateDirectory);
  try {
    for (const other of await listTaps(stateDirectory)) await checkApart(other.settings, settings);
    // What an earlier tap of this name has left: no map of it may be taken for the new one's.
    await rm(tap.directory, { recursive: true, force: true });
    await makeDirectory(tap.directory);
    if (settings.journal !== null) await makeSpool(settings.journal.directory);
    await writeStateFile(join(tap.directory, 'tap.json'), TAP_FORMAT, tap.settings);
    return tap;
  } finally {
    await lock.close();
  }
}

async function checkApart(other: TapSettings, added: TapSettings): Promise<void> {
  if (other.name === added.name) {
    throw new StillpointError('config', {
      thing: `tap ${added.name}`,
      reason: `there already is one, of ${other.sourcePath}`,
      remedy: 'Choose another name with --name, or remove that tap first.',
    });
  }
  checkSpoolApart(other, added);
  if (!(await isSameSource(other.sourcePath, added.sourcePath))) return;
  throw new StillpointError('device-in-use', {
    thing: added.sourcePath,
    reason: `the tap ${other.name} already serves it`,
    remedy: `Use that one, or remove it first: stillpoint tap remove ${other.name}`,
  });
}

/** @throws StillpointError `config` */
export function checkSpoolApart(other: TapSettings, added: TapSettings): void {
  if (other.journal === null || other.journal.directory !== added.journal?.directory) return;
  throw new StillpointError('config', {
    thing: `journal directory ${other.journal.directory}`,
    reason: `the tap ${other.name} has it`,
    remedy: 'Each tap needs one of its own: choose another with --journal-dir.',
  });
}

async function isSameSource(a: string, b: string): Promise<boolean> {
  if (a === b) return true;
  // A device that is not there can't be the same as one that is.
  const keyOf = (path: string) =>
    readSource(path).then(
      ({ key }) => key,
      () => null,
    );
  const [first, second] = await Promise.all([keyOf(a), keyOf(b)]);
  return first !== null && first === second;
}

/**
 * Takes a tap that no process serves out of the registry, with its map and its journal.
 * @throws StillpointError `device-in-use`
 */
export async function removeTap(stateDirectory: string, tap: RegisteredTap): Promise<void> {
  const lock = await lockRegistry(stateDirectory);
  try {
    const serving = await lockTap(tap);
    try {
      // A tap can do without its spool.
      if (tap.settings.journal !== null) await removeSpool(tap.settings.journal.directory);
      // First the file that makes it a tap: whatever dies when, there is a whole tap or none.
      await rm(join(tap.directory, 'tap.json'), { force: true });
      await syncDirectory(tap.directory);
      await rm(tap.directory, { recursive: true, force: true });
      await rm(tap.settings.runDirectory, { recursive: true, force: true });
    } finally {
      await serving.close();
    }
  } finally {
    await lock.close();
  }
}

/** The lock of the one process that serves a tap. @throws StillpointError `device-in-use` */
export async function lockTap(tap: RegisteredTap): Promise<FileHandle> {
  const lock = await lockFile(tap.lockPath);
  if (lock !== null) return lock;
  throw new StillpointError('device-in-use', {
    thing: `tap ${tap.settings.name}`,
    reason: 'a process serves it',
    remedy: `Stop it first: stillpoint tap stop ${tap.settings.name}`,
    permanent: false,
  });
}

/** @throws StillpointError `busy` */
export async function lockRegistry(stateDirectory: string): Promise<FileHandle> {
  const lock = await lockFile(join(tapsDirectory(stateDirectory), 'lock'));
  if (lock !== null) return lock;
  throw new StillpointError('busy', {
    thing: 'taps',
    reason: 'another command is adding, changing or removing one',
    remedy: 'Try again when it is done.',
    permanent: false,
  });
}
