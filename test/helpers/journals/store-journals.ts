/** Journals of a store on a disk: by its owner, by a reader beside it, and over disks that fail. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { native } from '../../../src/native/index.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { StoreJournals } from '../../../src/store/journals/journals.js';
import { ReaderJournals } from '../../../src/store/journals/reader.js';
import type { Journals } from '../../../src/store/port/journals.js';
import { tempDir } from '../disks/temp-dir.js';

export const WEB = { agent: 'web1', device: 'data' } as const;
export const idOf = (digit: string): string => digit.repeat(32);
export const JOURNAL = idOf('1');
export const CLOCK = idOf('c');
export const ALL = { afterOrdinal: 0, throughStamp: '9'.repeat(19), bytesMax: 64 * 1024 * 1024 } as const;

export interface JournalsWorld {
  journals: Journals;
  /** As a restarted receiver finds them. */
  reopen(): Promise<void>;
  /** As who only reads the store sees them. */
  readonly reader: Journals;
}

export async function journalsDir(t: ExecutionContext): Promise<string> {
  const dir = join(await tempDir(t), 'store');
  await mkdir(dir);
  return dir;
}

/** @param fileBytes small: a file is full soon */
export function openJournals(
  dir: string,
  disk: Disk = nodeDisk,
  log: string[] = [],
  fileBytes = 1500,
): Promise<StoreJournals> {
  return StoreJournals.open({ disk, dir, fileBytes, log: (line) => log.push(line) });
}

export function readJournals(dir: string, disk: Disk = nodeDisk): ReaderJournals {
  return new ReaderJournals({ disk, dir, log: () => undefined });
}

export async function diskJournals(t: ExecutionContext): Promise<JournalsWorld> {
  const dir = await journalsDir(t);
  let owned = await openJournals(dir, nodeDisk, [], 65536);
  const world: JournalsWorld = {
    journals: owned,
    reader: readJournals(dir),
    reopen: async () => {
      await owned.close();
      owned = await openJournals(dir, nodeDisk, [], 65536);
      world.journals = owned;
    },
  };
  return world;
}

/** All records of a journal, read in parts. */
export async function allRecords(
  journals: Journals,
  bytesMax: number,
  journalId = JOURNAL,
  after = 0,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let afterOrdinal = after; ; ) {
    const part = await journals.records(WEB.agent, journalId, { ...ALL, afterOrdinal, bytesMax });
    if (part.length === 0) return Buffer.concat(parts);
    const { last } = await native.scanJournal(part, { afterOrdinal });
    afterOrdinal = last?.ordinal ?? Number.POSITIVE_INFINITY;
    parts.push(part);
  }
}
