/**
 * What whole records of a journal say (docs/journal.md, "A record"): where each is, and that they follow each
 * other. Their checksums are the addon's business; until it has proven them, nothing here is more than a
 * claim, so nothing is read beyond the bytes that there are.
 */
import { StillpointError } from '../base/errors.js';
import { compareStamps, type JournalMark, type Stamp } from './journal.js';
import { RECORD_HEADER_BYTES, type RecordHeader, readRecordHeader } from './record-header.js';

export interface JournalRecord extends JournalMark {
  readonly kind: 'write' | 'zero' | 'stamp' | 'instant';
  /** On the device; 0 of a stamp and an instant. */
  readonly byteOffset: number;
  /** That it changes there. */
  readonly byteLength: number;
  /** Of a write; else empty. A view. */
  readonly payload: Buffer;
}

export interface RecordsWanted {
  /** They follow this one. */
  readonly after: JournalMark;
  readonly throughStamp: Stamp;
  /** Of the device: no record reaches beyond. */
  readonly sizeBytes: number;
}

const KINDS = [undefined, 'write', 'zero', 'stamp', 'instant'] as const;

const KIND_OFFSET = 5;
const BYTE_OFFSET_OFFSET = 32;
const BYTE_LENGTH_OFFSET = 40;

/** @throws StillpointError `bad-batch`: these are not the records that are wanted */
export function* journalRecords(
  bytes: Buffer,
  { after, throughStamp, sizeBytes }: RecordsWanted,
): Generator<JournalRecord> {
  let former = after;
  for (let at = 0; at < bytes.length; ) {
    const record = recordAt(bytes, at);
    if (record === null) throw wrong(after, `what is at byte ${at} is not a whole record`);
    if (record.ordinal !== former.ordinal + 1)
      throw wrong(former, `the record after it has the number ${record.ordinal}`);
    if (compareStamps(record.stamp, former.stamp) <= 0)
      throw wrong(former, `the record after it has the stamp ${record.stamp}, which is not later`);
    if (compareStamps(record.stamp, throughStamp) > 0)
      throw wrong(former, 'the record after it is later than those that were asked for');
    if (record.byteOffset + record.byteLength > sizeBytes)
      throw wrong(former, `the record after it reaches beyond the ${sizeBytes} bytes of the device`);
    yield record;
    former = record;
    at += record.recordBytes;
  }
}

function recordAt(bytes: Buffer, at: number): (JournalRecord & RecordHeader) | null {
  const header = readRecordHeader(bytes, at);
  const kind = KINDS[bytes[at + KIND_OFFSET] ?? 0];
  if (header === null || kind === undefined || at + header.recordBytes > bytes.length) return null;
  const isChange = kind === 'write' || kind === 'zero';
  const byteLength = isChange ? numberAt(bytes, at + BYTE_LENGTH_OFFSET) : 0;
  const payloadOffset = at + RECORD_HEADER_BYTES;
  const payload = bytes.subarray(payloadOffset, kind === 'write' ? at + header.recordBytes : payloadOffset);
  if (kind === 'write' && payload.length !== byteLength) return null;
  const byteOffset = isChange ? numberAt(bytes, at + BYTE_OFFSET_OFFSET) : 0;
  return { ...header, kind, byteOffset, byteLength, payload };
}

/** What no number holds is beyond every device. */
function numberAt(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64LE(at));
}

function wrong({ ordinal }: JournalMark, reason: string): StillpointError {
  return new StillpointError('bad-batch', {
    thing: `journal, after record ${ordinal}`,
    reason: `the receiver sent something other than its records: ${reason}`,
    remedy: 'Check the store with "stillpoint verify".',
  });
}
