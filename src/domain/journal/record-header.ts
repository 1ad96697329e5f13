/** The header of a record of a journal (docs/journal.md, "A record"): enough to walk over records. Pure. */
import { MiB } from '../base/limits.js';
import type { JournalMark } from './journal.js';

export const RECORD_HEADER_BYTES = 64;
/** Of the payload of one record in a spool. */
const PAYLOAD_BYTES_MAX = MiB;
export const RECORD_BYTES_MAX = RECORD_HEADER_BYTES + PAYLOAD_BYTES_MAX;

const MAGIC = 'SPJR';
const VERSION = 1;

export interface RecordHeader extends JournalMark {
  /** With its header. */
  readonly recordBytes: number;
}

/** Nothing is proven but its bounds. Null: no record begins there. */
export function readRecordHeader(bytes: Buffer, at: number): RecordHeader | null {
  if (at + RECORD_HEADER_BYTES > bytes.length) return null;
  if (bytes.toString('latin1', at, at + MAGIC.length) !== MAGIC || bytes[at + 4] !== VERSION) return null;
  const payloadBytes = bytes.readUInt32LE(at + 8);
  const ordinal = bytes.readBigUInt64LE(at + 16);
  if (payloadBytes > PAYLOAD_BYTES_MAX || ordinal < 1n || ordinal > BigInt(Number.MAX_SAFE_INTEGER))
    return null;
  return {
    ordinal: Number(ordinal),
    stamp: String(bytes.readBigUInt64LE(at + 24)),
    recordBytes: RECORD_HEADER_BYTES + payloadBytes,
  };
}
