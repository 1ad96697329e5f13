/** What the parts of a store's journals share, and the words that they have for files. */
import { join } from 'node:path';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { JOURNAL_FILE_BYTES } from '../../domain/base/limits.js';
import { isHexId } from '../../domain/base/names.js';
import type { JournalMark } from '../../domain/journal/journal.js';
import { type JournalAddon, native } from '../../native/index.js';
import type { Disk } from '../disk/disk.js';
import { JOURNALS_PREFIX, recordsName } from '../disk/layout.js';
import type { DeviceKey, PointsKey } from '../port/store.js';

export interface JournalContext {
  readonly disk: Disk;
  /** Root of the store. */
  readonly dir: string;
  readonly log: (message: string) => void;
  /** Proves records. */
  readonly scan: JournalAddon['scanJournal'];
  /** From which size on a file is not appended to any more. */
  readonly fileBytes: number;
}

type Defaults = Pick<JournalContext, 'scan' | 'fileBytes'>;
export type JournalOptions = Omit<JournalContext, keyof Defaults> & Partial<Defaults>;

export const JOURNAL_DEFAULTS: Defaults = {
  scan: (records, options) => native.scanJournal(records, options),
  fileBytes: JOURNAL_FILE_BYTES,
};

export interface JournalPlace extends DeviceKey {
  readonly journalId: string;
  /** Its folder. */
  readonly path: string;
}

/** A file of records, and how much of it counts. */
export interface RecordsFile {
  readonly firstOrdinal: number;
  readonly sizeBytes: number;
}

export function journalPlace(dir: string, key: DeviceKey, journalId: string): JournalPlace {
  const { agent, device } = key;
  return { agent, device, journalId, path: join(dir, JOURNALS_PREFIX, agent, device, journalId) };
}

export function recordsPath(
  place: JournalPlace,
  { firstOrdinal }: Pick<RecordsFile, 'firstOrdinal'>,
): string {
  return join(place.path, recordsName(firstOrdinal));
}

export function journalThing({ agent, device, journalId }: Omit<JournalPlace, 'path'>): string {
  return `journal ${journalId} of ${agent}/${device}`;
}

export function journalUnknown(journalId: string): StillpointError {
  return new StillpointError('journal-unknown', {
    thing: `journal ${journalId}`,
    reason: 'there is none with this id',
  });
}

/**
 * Whoever sees all agents names a journal by its id alone. A machine and its clone, each an agent, may have
 * the same one, and records of one are never written over a point of the other.
 * @throws StillpointError `journal-unknown`: it is not known which is meant
 */
export function onlyOne<T>(found: readonly T[], journalId: string): T | undefined {
  if (found.length < 2) return found[0];
  throw new StillpointError('journal-unknown', {
    thing: `journal ${journalId}`,
    reason: `${found.length} agents have one of this id, as a machine and its clone do`,
    remedy: 'Restore it through the receiver, as the agent whose it is.',
  });
}

export function damaged(path: string, reason: string): StillpointError {
  return new StillpointError('store-damaged', { thing: path, reason });
}

/** One journal that is damaged, or of a newer program, is no reason to refuse the others. */
export function isUnreadable(error: unknown): error is StillpointError {
  return isStillpointError(error, 'store-damaged') || isStillpointError(error, 'version');
}

export function isOf({ agent, device }: PointsKey, place: DeviceKey): boolean {
  return (agent ?? place.agent) === place.agent && (device ?? place.device) === place.device;
}

/** After the first, or at the beginning. */
export function ordinalOf(mark: JournalMark | null): number {
  return mark?.ordinal ?? 0;
}

/** All folders of journals, and in them what is no journal's: by names only. */
export async function findPlaces({
  disk,
  dir,
}: Pick<JournalContext, 'disk' | 'dir'>): Promise<{ places: JournalPlace[]; others: string[] }> {
  const places: JournalPlace[] = [];
  const others: string[] = [];
  const root = join(dir, JOURNALS_PREFIX);
  const foldersOf = async (path: string) =>
    (await disk.list(path)).filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  for (const agent of await foldersOf(root)) {
    for (const device of await foldersOf(join(root, agent))) {
      for (const name of await foldersOf(join(root, agent, device))) {
        if (isHexId(name)) places.push(journalPlace(dir, { agent, device }, name));
        else others.push(join(root, agent, device, name));
      }
    }
  }
  return { places, others };
}
