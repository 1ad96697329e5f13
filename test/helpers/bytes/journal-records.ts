/** Records of journals, written by docs/journal.md alone ("A record"), and `scanJournal` once more. */
import type { JournalRun, JournalScanOptions } from '../../../src/native/index.js';
import { native } from '../../../src/native/index.js';

const HEADER_BYTES = 64;
const SUM_OFFSET = 48;
const PAYLOAD_BYTES_MAX = 32 * 1024 * 1024;
const KINDS = ['write', 'zero', 'stamp', 'instant'] as const;

export type JournalRecord = { readonly ordinal: number; readonly stamp: string | bigint } & (
  | { readonly kind: 'write'; readonly byteOffset: number; readonly payload: Uint8Array }
  | { readonly kind: 'zero'; readonly byteOffset: number; readonly byteLength: number }
  | { readonly kind: 'stamp' }
  | { readonly kind: 'instant'; readonly sessionId: string }
);

export function journalRecord(record: JournalRecord): Buffer {
  const payload =
    record.kind === 'write'
      ? record.payload
      : Buffer.from(record.kind === 'instant' ? record.sessionId : '', 'hex');
  const header = Buffer.alloc(HEADER_BYTES);
  header.write('SPJR', 'latin1');
  header[4] = 1;
  header[5] = KINDS.indexOf(record.kind) + 1;
  header.writeUInt32LE(payload.length, 8);
  header.writeBigUInt64LE(BigInt(record.ordinal), 16);
  header.writeBigUInt64LE(BigInt(record.stamp), 24);
  if ('byteOffset' in record) header.writeBigUInt64LE(BigInt(record.byteOffset), 32);
  const byteLength =
    record.kind === 'zero' ? record.byteLength : record.kind === 'write' ? payload.length : 0;
  header.writeBigUInt64LE(BigInt(byteLength), 40);
  sumOf(header, payload).copy(header, SUM_OFFSET);
  return Buffer.concat([header, payload]);
}

function sumOf(header: Buffer, payload: Uint8Array): Buffer {
  return native.checksum(payload, header.subarray(0, SUM_OFFSET)).subarray(0, HEADER_BYTES - SUM_OFFSET);
}

/**
 * Records `first` to `last` of a journal: an instant, then writes of `payloadBytes` that know their ordinal.
 * The stamp of a record is its ordinal times 1000, after `stampBase`.
 */
export function journalRecords(
  first: number,
  last: number,
  { payloadBytes = 512, stampBase = 1_800_000_000_000_000_000n } = {},
): Buffer {
  const records: Buffer[] = [];
  for (let ordinal = first; ordinal <= last; ordinal += 1) {
    const stamp = stampBase + BigInt(ordinal) * 1000n;
    const payload = Buffer.alloc(payloadBytes, `${ordinal}/`);
    records.push(
      ordinal === 1
        ? journalRecord({ kind: 'instant', ordinal, stamp, sessionId: 'e'.repeat(32) })
        : journalRecord({ kind: 'write', ordinal, stamp, byteOffset: ordinal * 4096, payload }),
    );
  }
  return Buffer.concat(records);
}

interface Parsed {
  readonly ordinal: number;
  readonly stamp: bigint;
  readonly byteLength: number;
}

/** As the addon's. */
export async function scanJournal(records: Uint8Array, options: JournalScanOptions): Promise<JournalRun> {
  const bytes = Buffer.from(records.buffer, records.byteOffset, records.byteLength);
  const through = options.throughStamp === undefined ? null : BigInt(options.throughStamp);
  let first: Parsed | null = null;
  let last: Parsed | null = null;
  let [at, recordCount] = [0, 0];
  while (at < bytes.length) {
    const record = parse(bytes, at);
    if (record === null) break;
    const expected: number | null = last === null ? options.afterOrdinal : last.ordinal;
    const isNext = expected === null || record.ordinal === expected + 1;
    if (!isNext || (last !== null && record.stamp <= last.stamp)) throw bad('bad-order', at);
    if (through !== null && record.stamp > through) break;
    if (first !== null && at + record.byteLength > (options.bytesMax ?? Number.POSITIVE_INFINITY)) break;
    first ??= record;
    last = record;
    at += record.byteLength;
    recordCount += 1;
  }
  const markOf = (record: Parsed | null) =>
    record === null ? null : { ordinal: record.ordinal, stamp: String(record.stamp) };
  return { recordCount, byteLength: at, first: markOf(first), last: markOf(last) };
}

/** Null: it is cut. */
function parse(bytes: Buffer, at: number): Parsed | null {
  if (bytes.length - at < HEADER_BYTES) return null;
  const header = bytes.subarray(at, at + HEADER_BYTES);
  if (header.toString('latin1', 0, 4) !== 'SPJR') throw bad('bad-magic', at);
  if (header[4] !== 1 || header.readUInt16LE(6) !== 0 || header.readUInt32LE(12) !== 0)
    throw bad('bad-version', at);
  const kind = KINDS[(header[5] ?? 0) - 1];
  if (kind === undefined) throw bad('bad-kind', at);
  const payloadBytes = header.readUInt32LE(8);
  const [ordinal, stamp, byteOffset, byteLength] = [16, 24, 32, 40].map((o) => header.readBigUInt64LE(o)) as [
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  const isRange = byteLength > 0n && byteOffset + byteLength < 2n ** 63n;
  const isNone = byteLength === 0n && byteOffset === 0n;
  const fits = {
    write: isRange && BigInt(payloadBytes) === byteLength && payloadBytes <= PAYLOAD_BYTES_MAX,
    zero: isRange && payloadBytes === 0,
    stamp: isNone && payloadBytes === 0,
    instant: isNone && payloadBytes === 16,
  }[kind];
  if (!fits || ordinal === 0n || stamp === 0n) throw bad('bad-length', at);
  const end = at + HEADER_BYTES + payloadBytes;
  if (end > bytes.length) return null;
  const sum = sumOf(header, bytes.subarray(at + HEADER_BYTES, end));
  if (!sum.equals(header.subarray(SUM_OFFSET))) throw bad('bad-checksum', at);
  return { ordinal: Number(ordinal), stamp, byteLength: end - at };
}

function bad(code: string, byteOffset: number): Error {
  return Object.assign(new Error(`journal record: ${code}`), { code, byteOffset });
}
