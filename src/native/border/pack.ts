/** The part of the border for records and packs (docs/format.md section 3); rules as in ../index.ts. */
import type { Digester } from './digest.js';

export const RECORD_KIND_BLOCK = 1;
export const RECORD_KIND_NODE = 2;
export const PACK_KIND_DATA = 1;
export const PACK_KIND_TREE = 2;

export interface PackIndex {
  readonly packId: string;
  readonly kind: number;
  readonly recordCount: number;
  /** recordCount * 56 bytes, as in docs/format.md section 3. */
  readonly entries: Buffer;
}

export interface PackAddon {
  /** One record (header and stored bytes) of a tree node's trimmed content, or of a block. */
  encodeRecord(kind: number, digest: Uint8Array, raw: Uint8Array, compressionLevel: number): Buffer;
  /** Checks one record and returns its raw bytes. `bad-magic`, `bad-checksum`, `bad-digest`, ... */
  decodeRecord(record: Uint8Array, expectedDigest: Uint8Array, digester: Digester): Promise<Buffer>;
  encodePackHeader(packId: string, kind: number): Buffer;
  /** Index and footer for `entries` (n * 56 bytes) of a pack whose records end at indexOffset. */
  encodePackTail(packId: string, indexOffset: number, entries: Uint8Array): Buffer;
  /** Reads header, footer and index of a pack file; checks all three. */
  readPackIndex(path: string): Promise<PackIndex>;
  /**
   * Re-reads every record of a pack file and checks it (checksum, decode, digest) and its index entry. Calls
   * back with each damaged record; rejects only where the file as a whole can't be read.
   */
  verifyPack(
    path: string,
    digester: Digester,
    onDamage: (damage: { offset: number; digest: Buffer | null; reason: string }) => void,
  ): Promise<{ recordCount: number; checkedBytes: number }>;
  /**
   * Finds the valid records of a pack file without believing its index (lost tail, torn write). n * 56 bytes.
   */
  salvagePack(path: string, digester: Digester): Promise<PackIndex>;
}
