/** Proves the records of a file, window by window. */
import { JOURNAL_APPEND_BYTES_MAX } from '../../domain/base/limits.js';
import { compareStamps, type JournalMark } from '../../domain/journal/journal.js';
import { type JournalRun, type JournalScanOptions, type NativeError, native } from '../../native/index.js';
import type { DiskFile } from '../disk/disk.js';
import { errnoOf } from '../disk/disk.js';
import type { JournalContext } from './context.js';

/** A record came in a message, so a window has one at least. */
const WINDOW_BYTES = 2 * JOURNAL_APPEND_BYTES_MAX;
const HEADER_BYTES = 64;
const MAGIC = 'SPJR';

export interface Scanned {
  readonly first: JournalMark | null;
  readonly last: JournalMark | null;
  /** Where the last whole record ends. */
  readonly endOffset: number;
  /** What is wrong there, a clause; null: the file ends there, or a record begins that is cut. */
  readonly fault: string | null;
}

export interface RunBefore {
  readonly run: JournalRun;
  /** What is wrong behind it; null: nothing. */
  readonly fault: string | null;
}

/** Whole records up to the first wrong one. */
export async function scanBefore(
  scan: JournalContext['scan'],
  bytes: Uint8Array,
  options: JournalScanOptions,
): Promise<RunBefore> {
  try {
    return { run: await scan(bytes, options), fault: null };
  } catch (error) {
    if (!/^bad-/.test(errnoOf(error) ?? '')) throw error;
    const { byteOffset = 0, message } = error as NativeError;
    return { run: await scan(bytes.subarray(0, byteOffset), options), fault: message };
  }
}

/**
 * @param from where records begin, and which is before it
 * @param byteLength so much of the file counts
 */
export async function scanFile(
  { scan }: Pick<JournalContext, 'scan'>,
  file: DiskFile,
  from: { readonly byteOffset: number; readonly last: JournalMark | null; readonly afterOrdinal: number },
  byteLength: number,
): Promise<Scanned> {
  let { byteOffset, last, afterOrdinal } = from;
  let first: JournalMark | null = null;
  while (byteOffset < byteLength) {
    const window = await file.read(byteOffset, Math.min(WINDOW_BYTES, byteLength - byteOffset));
    const { run, fault } = await scanBefore(scan, window, { afterOrdinal });
    native.freeBuffer(window);
    const isBack = run.first !== null && last !== null && compareStamps(run.first.stamp, last.stamp) <= 0;
    if (isBack)
      return { first, last, endOffset: byteOffset, fault: 'journal record: its stamp is too early' };
    first ??= run.first;
    last = run.last ?? last;
    afterOrdinal = run.last?.ordinal ?? afterOrdinal;
    byteOffset += run.byteLength;
    if (fault !== null) return { first, last, endOffset: byteOffset, fault };
    if (run.byteLength > 0) continue;
    const isCut = byteLength - byteOffset < WINDOW_BYTES;
    return { first, last, endOffset: byteOffset, fault: isCut ? null : 'journal record: it is too long' };
  }
  return { first, last, endOffset: byteOffset, fault: null };
}

/**
 * Whether a whole record that could follow comes behind the place where one is wrong. What a cut of power
 * left of the last records has none, as a rule; where bytes flipped, there are.
 */
export async function hasRecordsBehind(
  { scan }: Pick<JournalContext, 'scan'>,
  file: DiskFile,
  byteOffset: number,
  byteLength: number,
  last: JournalMark | null,
): Promise<boolean> {
  const rest = await file.read(byteOffset, byteLength - byteOffset);
  const ordinalMax = BigInt(last?.ordinal ?? 0) + BigInt(Math.ceil(rest.length / HEADER_BYTES));
  for (let at = rest.indexOf(MAGIC, 1); at !== -1; at = rest.indexOf(MAGIC, at + 1)) {
    if (at + HEADER_BYTES > rest.length) return false;
    const ordinal = rest.readBigUInt64LE(at + 16);
    const stamp = rest.readBigUInt64LE(at + 24);
    // Payloads may be of a disk that has journals, too.
    if (ordinal <= BigInt(last?.ordinal ?? 0) || ordinal > ordinalMax) continue;
    if (stamp <= BigInt(last?.stamp ?? 0)) continue;
    const { run } = await scanBefore(scan, rest.subarray(at), { afterOrdinal: null, bytesMax: 1 });
    if (run.recordCount > 0) return true;
  }
  return false;
}

/** Where the record after `ordinal` begins. @param records proven ones, which have it */
export function offsetAfter(records: Uint8Array, ordinal: number): number {
  const bytes = Buffer.from(records.buffer, records.byteOffset, records.byteLength);
  let at = 0;
  while (at < bytes.length && bytes.readBigUInt64LE(at + 16) <= BigInt(ordinal))
    at += HEADER_BYTES + bytes.readUInt32LE(at + 8);
  return at;
}

/** The mark of the record of proven ones that has this ordinal; null: none has. */
export function markIn(records: Uint8Array, ordinal: number): JournalMark | null {
  const bytes = Buffer.from(records.buffer, records.byteOffset, records.byteLength);
  const at = offsetAfter(records, ordinal - 1);
  if (at >= bytes.length || bytes.readBigUInt64LE(at + 16) !== BigInt(ordinal)) return null;
  return { ordinal, stamp: String(bytes.readBigUInt64LE(at + 24)) };
}
