/** For verify and scrubs: reads a journal's files back, and says what is wrong with them. */
import { join, relative } from 'node:path';
import { isStillpointError } from '../../domain/base/errors.js';
import { compareStamps, type JournalMark } from '../../domain/journal/journal.js';
import { errnoOf } from '../disk/disk.js';
import { JOURNAL_AUDITS, JOURNAL_END, JOURNAL_FILE } from '../disk/layout.js';
import type { Paced } from '../disk/paced.js';
import {
  isUnreadable,
  type JournalContext,
  type JournalPlace,
  ordinalOf,
  type RecordsFile,
  recordsPath,
} from './context.js';
import type { LoadedJournal } from './load.js';
import { type Scanned, scanFile } from './scan-file.js';
import { readAudits, readEnd, readJournalText } from './texts.js';

export interface JournalFinding {
  readonly what: string;
  readonly reason: string;
}

/** @param state as it is at the moment; null: there is none any more */
export async function checkJournal(
  context: JournalContext,
  place: JournalPlace,
  state: () => Promise<LoadedJournal | null>,
  paced: Paced,
): Promise<JournalFinding[]> {
  const { disk, dir } = context;
  const findings: JournalFinding[] = [];
  const add = (path: string, reason: string) => findings.push({ what: relative(dir, path), reason });
  /** Null: it is damaged. */
  const step = async <T>(read: () => Promise<T>): Promise<T | null> => {
    try {
      return await read();
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      if (!findings.some(({ what }) => what === relative(dir, error.thing)))
        add(error.thing, [error.reason, error.remedy].filter((text) => text !== undefined).join('. '));
      return null;
    }
  };
  const loaded = await step(state);
  if (loaded === null && findings.length === 0) return [];
  // Each, as one that was read long ago may have changed since.
  const isGone = async (name: string) => (await disk.size(join(place.path, name))) === null;
  await step(() => readJournalText(disk, place));
  await step(() => readEnd(disk, place));
  await step(() => readAudits(disk, place));
  const texts = [
    ...(loaded === null ? [] : [JOURNAL_FILE]),
    ...(loaded?.told ? [JOURNAL_END] : []),
    ...(loaded !== null && loaded.audits.length > 0 ? [JOURNAL_AUDITS] : []),
  ];
  for (const name of texts) if (await isGone(name)) add(join(place.path, name), 'it is gone');
  if (loaded !== null) await checkRecords(context, place, { loaded, state, paced }, add);
  return (await stillThere(place, state)) ? findings : [];
}

interface RecordsToCheck {
  readonly loaded: LoadedJournal;
  readonly state: () => Promise<LoadedJournal | null>;
  readonly paced: Paced;
}

async function checkRecords(
  context: JournalContext,
  place: JournalPlace,
  { loaded, state, paced }: RecordsToCheck,
  add: (path: string, reason: string) => void,
): Promise<void> {
  let last: JournalMark | null = null;
  let isFirst = true;
  for (const file of loaded.files) {
    const path = recordsPath(place, file);
    const scanned = await paced(file.sizeBytes, () => scanWhole(context, path, file));
    if (scanned === null) {
      const isTrimmed = !(await state())?.files.some(
        ({ firstOrdinal }) => firstOrdinal === file.firstOrdinal,
      );
      if (!isTrimmed) add(path, 'it is gone');
      continue;
    }
    const { endOffset, fault, first } = scanned;
    if (!isFirst && file.firstOrdinal !== ordinalOf(last) + 1)
      add(path, `record ${ordinalOf(last) + 1} comes before it, and is in no file`);
    else if (last !== null && first !== null && compareStamps(first.stamp, last.stamp) <= 0)
      add(`${path} at byte 0`, 'journal record: its stamp is too early');
    if (fault !== null || endOffset < file.sizeBytes)
      add(`${path} at byte ${endOffset}`, fault ?? 'journal record: it is cut');
    isFirst = fault !== null || endOffset < file.sizeBytes;
    // Behind a wrong one it is not known what comes next.
    last = isFirst ? null : (scanned.last ?? last);
  }
}

/** Null: it is not there. */
async function scanWhole(
  context: JournalContext,
  path: string,
  { firstOrdinal, sizeBytes }: RecordsFile,
): Promise<Scanned | null> {
  const file = await context.disk.open(path, 'read').catch((error) => {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  });
  if (file === null) return null;
  try {
    const from = { byteOffset: 0, last: null, afterOrdinal: firstOrdinal - 1 };
    const there = Math.min(sizeBytes, await file.size());
    const scanned = await scanFile(context, file, from, there);
    const isShort = there < sizeBytes && scanned.fault === null;
    return isShort ? { ...scanned, fault: `it has ${there} bytes, and had ${sizeBytes}` } : scanned;
  } finally {
    await file.close();
  }
}

async function stillThere(place: JournalPlace, state: () => Promise<LoadedJournal | null>): Promise<boolean> {
  return state().then(
    (loaded) => loaded !== null,
    (error) => isStillpointError(error) && place.journalId !== '',
  );
}
