/** Batch bodies made by hand from docs/format.md section 4, for tests of what takes them. */
import {
  ENTRY_HELD,
  ENTRY_PAYLOAD,
  ENTRY_ZERO,
  native,
  RECORD_KIND_BLOCK,
} from '../../../src/native/index.js';
import { PLAIN } from './digests.js';

export type BatchItem =
  | { readonly blockIndex: number; readonly bytes: Uint8Array }
  | { readonly blockIndex: number; readonly held: Uint8Array }
  | { readonly blockIndex: number; readonly zeroCount: number };

/** All-zero bytes become a zero run of one block, as an agent sends them. */
export function makeBatch(
  sessionId: string,
  sequence: number,
  items: readonly BatchItem[],
  compressionLevel = 1,
): Buffer {
  const entries: Buffer[] = [];
  const records: Buffer[] = [];
  const ordinals = new Map<string, number>();
  for (const item of items) {
    const entry = Buffer.alloc(56);
    entry.writeBigUInt64LE(BigInt(item.blockIndex), 0);
    entry.writeUInt32LE('zeroCount' in item ? item.zeroCount : 1, 8);
    entry[12] = ENTRY_ZERO;
    if ('held' in item) {
      entry[12] = ENTRY_HELD;
      entry.set(item.held, 16);
    } else if ('bytes' in item && item.bytes.some((byte) => byte !== 0)) {
      const digest = PLAIN.leafDigest(item.bytes);
      const ordinal = ordinals.get(digest.toString('hex')) ?? records.length;
      if (ordinal === records.length) {
        records.push(native.encodeRecord(RECORD_KIND_BLOCK, digest, item.bytes, compressionLevel));
      }
      ordinals.set(digest.toString('hex'), ordinal);
      entry[12] = ENTRY_PAYLOAD;
      entry.set(digest, 16);
      entry.writeUInt32LE(ordinal, 48);
    }
    entries.push(entry);
  }
  const recordBytes = Buffer.concat(records);
  const header = Buffer.alloc(64);
  header.write('SPBATCH1', 'latin1');
  header.write(sessionId, 8, 'hex');
  header.writeBigUInt64LE(BigInt(sequence), 24);
  header.writeUInt32LE(entries.length, 32);
  header.writeUInt32LE(records.length, 36);
  header.writeBigUInt64LE(BigInt(recordBytes.length), 40);
  const body = Buffer.concat([header, ...entries, recordBytes]);
  return Buffer.concat([body, native.checksum(body)]);
}
