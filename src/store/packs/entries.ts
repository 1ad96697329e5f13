/**
 * Index entries of packs (docs/format.md section 3) as bytes: 56 each, back to back,
 * since a pack has thousands.
 */
import { native } from '../../native/index.js';

export const PACK_ENTRY_BYTES = native.constants.packIndexEntryBytes;
export const PACK_HEADER_BYTES = native.constants.packHeaderBytes;
export const PACK_FOOTER_BYTES = native.constants.packFooterBytes;
export const RECORD_HEADER_BYTES = native.constants.recordHeaderBytes;

export interface PackEntry {
  readonly digest: Uint8Array;
  /** Of the record header, from the start of the pack. */
  readonly offset: number;
  readonly storedLength: number;
  readonly rawLength: number;
  readonly codec: number;
  readonly kind: number;
}

/** @param at where in `bytes` it goes */
export function encodePackEntry(bytes: Buffer, at: number, entry: PackEntry): void {
  bytes.set(entry.digest, at);
  writeUint64LE(bytes, entry.offset, at + 32);
  bytes.writeUInt32LE(entry.storedLength, at + 40);
  bytes.writeUInt32LE(entry.rawLength, at + 44);
  bytes[at + 48] = entry.codec;
  bytes[at + 49] = entry.kind;
}

export function decodePackEntry(entries: Buffer, ordinal: number): PackEntry {
  const at = ordinal * PACK_ENTRY_BYTES;
  return {
    digest: entries.subarray(at, at + 32),
    offset: readUint64LE(entries, at + 32),
    storedLength: entries.readUInt32LE(at + 40),
    rawLength: entries.readUInt32LE(at + 44),
    codec: entries[at + 48] ?? 0,
    kind: entries[at + 49] ?? 0,
  };
}

export function packEntryCount(entries: Buffer): number {
  return entries.length / PACK_ENTRY_BYTES;
}

/** Numbers up to 2^53, as all offsets and counts here are. */
export function writeUint64LE(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

export function readUint64LE(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

/** A digest as a map key: short and made without hexadecimal. */
export function digestKey(digests: Buffer, ordinal = 0): string {
  return digests.toString('latin1', ordinal * 32, ordinal * 32 + 32);
}
