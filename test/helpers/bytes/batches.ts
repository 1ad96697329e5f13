/**
 * Batches byte by byte (docs/format.md sections 2 and 4), written in the test so that it can write what no
 * encoder of ours would: everything is stated, nothing is checked, and only the checksums are made right.
 */
import { native, RECORD_KIND_BLOCK } from '../../../src/native/index.js';
import { PLAIN } from './digests.js';

export const ENTRY_BYTES = 56;
const HEADER_BYTES = 64;
const RECORD_HEADER_BYTES = 80;

export interface TestEntry {
  readonly blockIndex: number;
  readonly blockCount?: number;
  /** 0 zero run, 1 payload, 2 held, 3 patch. */
  readonly kind?: number;
  readonly digest?: Uint8Array;
  readonly ordinal?: number;
}

export interface TestBatch {
  readonly sessionId: string;
  readonly sequence: number;
  readonly entries: readonly TestEntry[];
  readonly records?: readonly Uint8Array[];
  readonly patches?: readonly Uint8Array[];
  /** Instead of the true ones. */
  readonly entryCount?: number;
  readonly recordCount?: number;
  readonly recordBytes?: number;
  readonly magic?: string;
}

export function encodeTestBatch(batch: TestBatch): Buffer {
  const records = Buffer.concat(batch.records ?? []);
  const header = Buffer.alloc(HEADER_BYTES);
  header.write(batch.magic ?? 'SPBATCH1', 0, 'latin1');
  header.write(batch.sessionId, 8, 'hex');
  header.writeBigUInt64LE(BigInt(batch.sequence), 24);
  header.writeUInt32LE(batch.entryCount ?? batch.entries.length, 32);
  header.writeUInt32LE(batch.recordCount ?? batch.records?.length ?? 0, 36);
  header.writeBigUInt64LE(BigInt(batch.recordBytes ?? records.length), 40);
  header.writeBigUInt64LE(1_700_000_000_000n, 48);
  const entries = batch.entries.map((entry) => {
    const bytes = Buffer.alloc(ENTRY_BYTES);
    bytes.writeBigUInt64LE(BigInt(entry.blockIndex), 0);
    bytes.writeUInt32LE(entry.blockCount ?? 1, 8);
    bytes.writeUInt8(entry.kind ?? 1, 12);
    bytes.set(entry.digest ?? Buffer.alloc(32), 16);
    bytes.writeUInt32LE(entry.ordinal ?? 0, 48);
    return bytes;
  });
  return seal(Buffer.concat([header, ...entries, records, ...(batch.patches ?? [])]));
}

/** With its trailer. */
export function seal(body: Uint8Array): Buffer {
  return Buffer.concat([body, native.checksum(body)]);
}

export function encodeTestRecord(raw: Uint8Array, compressionLevel = 1): Buffer {
  return native.encodeRecord(RECORD_KIND_BLOCK, PLAIN.leafDigest(raw), raw, compressionLevel);
}

/** The record with its header changed and its checksum right again. */
export function alterRecord(record: Uint8Array, alter: (header: Buffer) => void): Buffer {
  const copy = Buffer.from(record);
  alter(copy.subarray(0, 48));
  copy.set(native.checksum(copy.subarray(0, 48), copy.subarray(RECORD_HEADER_BYTES)), 48);
  return copy;
}

/** Blocks as payload entries of one batch, in order of their indexes. */
export function batchOf(
  sessionId: string,
  sequence: number,
  blocks: ReadonlyMap<number, Uint8Array>,
): Buffer {
  const ascending = [...blocks].sort(([a], [b]) => a - b);
  return encodeTestBatch({
    sessionId,
    sequence,
    entries: ascending.map(([blockIndex, bytes], ordinal) => ({
      blockIndex,
      digest: PLAIN.leafDigest(bytes),
      ordinal,
    })),
    records: ascending.map(([, bytes]) => encodeTestRecord(bytes)),
  });
}

/** Root of a device of up to 64 blocks: one node. */
export function rootOf(
  geometry: { sizeBytes: number; blockSize: number },
  blocks: ReadonlyMap<number, Uint8Array>,
): string {
  const leaves = Buffer.alloc(64 * 32);
  for (const [blockIndex, bytes] of blocks) leaves.set(PLAIN.leafDigest(bytes), blockIndex * 32);
  return PLAIN.rootDigest(geometry.sizeBytes, geometry.blockSize, PLAIN.nodeDigest(leaves)).toString('hex');
}
