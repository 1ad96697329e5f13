/** The sealed texts of a journal: what it is, how it ended, what audits found. */
import { join } from 'node:path';
import { MiB } from '../../domain/base/limits.js';
import { isHexId } from '../../domain/base/names.js';
import type { JournalAudit, JournalEnd, JournalMark } from '../../domain/journal/journal.js';
import { type Disk, readSmallFile, writeDurably } from '../disk/disk.js';
import { toStoreError } from '../disk/errors.js';
import { JOURNAL_AUDITS, JOURNAL_END, JOURNAL_FILE } from '../disk/layout.js';
import { decodeSealed, encodeSealed, type SealedMagic } from '../disk/sealed-text.js';
import { damaged, type JournalPlace } from './context.js';

/** 10,000 audits with a clause each, and more. */
const BYTES_MAX = 64 * MiB;
const STAMP = /^(0|[1-9]\d{0,19})$/;

/** What was told, and what the store had then: from there on a missing byte is damage. */
export interface StoredEnd extends JournalEnd {
  readonly last: JournalMark | null;
  /** The last file of records, by the ordinal of its first one; 0: there was none. */
  readonly lastFile: number;
  readonly lastFileBytes: number;
}

/** The id of its clock; null: there is no such file. Whose it is, is what its folder says. */
export async function readJournalText(disk: Disk, place: JournalPlace): Promise<string | null> {
  const path = join(place.path, JOURNAL_FILE);
  const body = await readText(disk, path, 'stillpoint-journal');
  if (body === null) return null;
  const { device, journalId, clockId } = body;
  if (device !== place.device || journalId !== place.journalId)
    throw damaged(path, 'it is of another journal');
  if (typeof clockId !== 'string' || !isHexId(clockId)) throw damaged(path, 'it names no clock');
  return clockId;
}

export async function writeJournalText(disk: Disk, place: JournalPlace, clockId: string): Promise<void> {
  const { agent, device, journalId, path } = place;
  const bytes = encodeSealed('stillpoint-journal', { agent, device, journalId, clockId });
  await writeDurably(disk, join(path, JOURNAL_FILE), bytes);
}

export async function readEnd(disk: Disk, place: JournalPlace): Promise<StoredEnd | null> {
  const path = join(place.path, JOURNAL_END);
  const body = await readText(disk, path, 'stillpoint-end');
  if (body === null) return null;
  const { reason, stamp, lastOrdinal, last, lastFile, lastFileBytes } = body;
  const isEnd = typeof reason === 'string' && isStamp(stamp) && isCount(lastOrdinal);
  if (!isEnd || !isCount(lastFile) || !isCount(lastFileBytes) || !(last === null || isMark(last)))
    throw damaged(path, 'it does not say how it ended');
  return { reason, stamp, lastOrdinal, last, lastFile, lastFileBytes };
}

export async function writeEnd(disk: Disk, place: JournalPlace, end: StoredEnd): Promise<void> {
  await writeDurably(disk, join(place.path, JOURNAL_END), encodeSealed('stillpoint-end', end));
}

export async function readAudits(disk: Disk, place: JournalPlace): Promise<readonly JournalAudit[]> {
  const path = join(place.path, JOURNAL_AUDITS);
  const body = await readText(disk, path, 'stillpoint-audits');
  if (body === null) return [];
  const { audits } = body;
  if (!Array.isArray(audits) || !audits.every(isAudit)) throw damaged(path, 'it has no audits');
  return audits.map(({ pointId, ordinal, fault }) => ({ pointId, ordinal, fault }));
}

export async function writeAudits(
  disk: Disk,
  place: JournalPlace,
  audits: readonly JournalAudit[],
): Promise<void> {
  await writeDurably(disk, join(place.path, JOURNAL_AUDITS), encodeSealed('stillpoint-audits', { audits }));
}

async function readText(
  disk: Disk,
  path: string,
  magic: SealedMagic,
): Promise<Readonly<Record<string, unknown>> | null> {
  try {
    const bytes = await readSmallFile(disk, path, BYTES_MAX);
    return bytes === null ? null : decodeSealed(magic, bytes, path).body;
  } catch (error) {
    throw toStoreError(error, path);
  }
}

function isStamp(value: unknown): value is string {
  return typeof value === 'string' && STAMP.test(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isMark(value: unknown): value is JournalMark {
  const { ordinal, stamp } = (value ?? {}) as Partial<JournalMark>;
  return isCount(ordinal) && isStamp(stamp);
}

function isAudit(value: unknown): value is JournalAudit {
  const { pointId, ordinal, fault } = (value ?? {}) as Partial<JournalAudit>;
  return typeof pointId === 'string' && isCount(ordinal) && (fault === null || typeof fault === 'string');
}
