/** What a journal's folder holds: from names, the sealed texts and the records of its last file. */
import type { JournalAudit, JournalEnd, JournalMark, StoredJournal } from '../../domain/journal/journal.js';
import { errnoOf } from '../disk/disk.js';
import { toStoreError } from '../disk/errors.js';
import { recordsFirstOf } from '../disk/layout.js';
import {
  damaged,
  type JournalContext,
  type JournalPlace,
  ordinalOf,
  type RecordsFile,
  recordsPath,
} from './context.js';
import { hasRecordsBehind, type Scanned, scanFile } from './scan-file.js';
import { readAudits, readEnd, readJournalText, type StoredEnd } from './texts.js';

const HEADER_BYTES = 64;

export interface LoadedJournal {
  readonly clockId: string;
  /** Ascending, without gaps. Of the last one its whole records count; where it is damaged, all. */
  readonly files: readonly RecordsFile[];
  readonly first: JournalMark | null;
  readonly last: JournalMark | null;
  readonly told: StoredEnd | null;
  readonly audits: readonly JournalAudit[];
  /** What is wrong with the last file, behind `last`: nothing can be appended. Null: nothing. */
  readonly damage: string | null;
}

/** The last file, as far as it was proven before. */
export interface Tail {
  readonly firstOrdinal: number;
  readonly endOffset: number;
  readonly last: JournalMark | null;
}

/**
 * Null: there is none, only the beginnings of one.
 * @throws StillpointError `store-damaged` names the file
 */
export async function loadJournal(
  context: JournalContext,
  place: JournalPlace,
  tails: Map<string, Tail> = new Map(),
): Promise<LoadedJournal | null> {
  const { disk } = context;
  const listed = await listFiles(context, place);
  const clockId = await readJournalText(disk, place);
  if (clockId === null) {
    if (listed.length === 0) return null;
    throw damaged(`${place.path}/journal`, 'it is gone');
  }
  const told = await readEnd(disk, place);
  const audits = await readAudits(disk, place);
  const ended = told === null ? null : endedFiles(place, listed, told);
  const { files, last, damage } = ended ?? (await openFiles(context, place, listed, tails));
  const [oldest] = files;
  const first = oldest === undefined || last === null ? null : await firstOf(context, place, oldest);
  return { clockId, files, first, last, told, audits, damage };
}

async function listFiles({ disk }: JournalContext, place: JournalPlace): Promise<RecordsFile[]> {
  const files: RecordsFile[] = [];
  for (const { name } of await disk.list(place.path)) {
    const firstOrdinal = recordsFirstOf(name);
    if (firstOrdinal === null) continue;
    const sizeBytes = await disk.size(recordsPath(place, { firstOrdinal }));
    if (sizeBytes !== null) files.push({ firstOrdinal, sizeBytes });
  }
  return files.sort((a, b) => a.firstOrdinal - b.firstOrdinal);
}

type Found = Pick<LoadedJournal, 'files' | 'last' | 'damage'>;

/** It says itself what there was: nothing of that may be missing. */
function endedFiles(place: JournalPlace, listed: readonly RecordsFile[], told: StoredEnd): Found {
  const { last, lastFile, lastFileBytes } = told;
  // A write that failed may have left one more.
  const counting = listed.filter(({ firstOrdinal }) => firstOrdinal <= lastFile);
  const newest = counting.at(-1);
  const path = recordsPath(place, { firstOrdinal: lastFile });
  if ((newest?.firstOrdinal ?? 0) !== lastFile) throw damaged(path, 'it is gone');
  if (newest !== undefined && newest.sizeBytes < lastFileBytes)
    throw damaged(path, `it has ${newest.sizeBytes} bytes, and had ${lastFileBytes} when the journal ended`);
  const files = counting.map((file) => (file === newest ? { ...file, sizeBytes: lastFileBytes } : file));
  return { files, last, damage: null };
}

async function openFiles(
  context: JournalContext,
  place: JournalPlace,
  listed: readonly RecordsFile[],
  tails: Map<string, Tail>,
): Promise<Found> {
  const newest = listed.at(-1);
  if (newest === undefined) return { files: [], last: null, damage: null };
  const tail = await scanTail(context, place, newest, tails);
  const before = listed.at(-2);
  const path = recordsPath(place, newest);
  // It was made, and nothing came into it: the last record is in the one before.
  const last =
    tail.last ?? (before === undefined ? null : (await scanTail(context, place, before, new Map())).last);
  if (tail.last === null && before !== undefined && ordinalOf(last) + 1 !== newest.firstOrdinal)
    throw damaged(recordsPath(place, before), `it does not end before record ${newest.firstOrdinal}`);
  if (tail.damage !== null)
    return { files: listed, last, damage: `${path} at byte ${tail.endOffset}: ${tail.damage}` };
  const files = listed.map((file) => (file === newest ? { ...file, sizeBytes: tail.endOffset } : file));
  return { files, last, damage: null };
}

async function scanTail(
  context: JournalContext,
  place: JournalPlace,
  { firstOrdinal, sizeBytes }: RecordsFile,
  tails: Map<string, Tail>,
): Promise<Tail & { readonly damage: string | null }> {
  const path = recordsPath(place, { firstOrdinal });
  const known = tails.get(place.path);
  const isKnown = known?.firstOrdinal === firstOrdinal && known.endOffset <= sizeBytes;
  const from = isKnown && known !== undefined ? known : { firstOrdinal, endOffset: 0, last: null };
  const file = await context.disk.open(path, 'read');
  try {
    const scanned: Scanned = await scanFile(
      context,
      file,
      { ...from, byteOffset: from.endOffset, afterOrdinal: from.last?.ordinal ?? firstOrdinal - 1 },
      sizeBytes,
    );
    const { endOffset, last, fault } = scanned;
    const tail = { firstOrdinal, endOffset, last };
    tails.set(place.path, tail);
    // A flipped length may also reach beyond the end.
    const isDamaged =
      endOffset < sizeBytes && (await hasRecordsBehind(context, file, endOffset, sizeBytes, last));
    return { ...tail, damage: isDamaged ? (fault ?? 'journal record: its length is wrong') : null };
  } finally {
    await file.close();
  }
}

/** Of a file that has a whole record. */
export async function firstOf(
  { disk, scan }: JournalContext,
  place: JournalPlace,
  { firstOrdinal, sizeBytes }: RecordsFile,
): Promise<JournalMark> {
  const path = recordsPath(place, { firstOrdinal });
  const file = await disk.open(path, 'read');
  try {
    const header = await file.read(0, HEADER_BYTES);
    const byteLength = Math.min(sizeBytes, HEADER_BYTES + header.readUInt32LE(8));
    const run = await scan(await file.read(0, byteLength), { afterOrdinal: firstOrdinal - 1, bytesMax: 1 });
    if (run.first !== null) return run.first;
    throw damaged(`${path} at byte 0`, 'its first record is cut');
  } catch (error) {
    if (!/^bad-|ETRUNCATED/.test(errnoOf(error) ?? '')) throw toStoreError(error, path);
    throw damaged(`${path} at byte 0`, error instanceof Error ? error.message : String(error));
  } finally {
    await file.close();
  }
}

/** That it goes on no more, for whatever reason but damage. */
export function endOf({ told, audits, last }: LoadedJournal): JournalEnd | null {
  if (told !== null) return { reason: told.reason, stamp: told.stamp, lastOrdinal: told.lastOrdinal };
  const fault = audits.at(-1)?.fault ?? null;
  if (fault === null) return null;
  const reason = `an audit found a fault: ${fault}`;
  return { reason, stamp: last?.stamp ?? '0', lastOrdinal: ordinalOf(last) };
}

export function bytesOf(files: readonly RecordsFile[]): number {
  return files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

export function storedOf(place: JournalPlace, loaded: LoadedJournal): StoredJournal {
  const { agent, device, journalId } = place;
  const { clockId, files, first, last, audits } = loaded;
  return {
    ...{ agent, device, journalId, clockId, first, last },
    ...{ sizeBytes: bytesOf(files), end: endOf(loaded), audits },
  };
}

/** By agent, device, and time of the first record; those without one are the last. */
export function compareStored(a: StoredJournal, b: StoredJournal): number {
  const keyOf = ({ agent, device, first, journalId }: StoredJournal) => [
    agent,
    device,
    // Of twenty digits at most, which then compare as texts.
    first === null ? '~' : first.stamp.padStart(20, '0'),
    journalId,
  ];
  const [left, right] = [keyOf(a), keyOf(b)];
  for (const [i, part] of left.entries()) {
    const other = right[i] ?? '';
    if (part !== other) return part < other ? -1 : 1;
  }
  return 0;
}
