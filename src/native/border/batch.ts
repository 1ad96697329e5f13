/** The part of the border for batches (docs/format.md section 4); rules as in ../index.ts. */
import type { Digester } from './digest.js';
import type { TreeFile } from './tree.js';

export const ENTRY_ZERO = 0;
export const ENTRY_PAYLOAD = 1;
export const ENTRY_HELD = 2;

export interface BatchBounds {
  readonly sessionId: string;
  readonly sequence: number;
  readonly sizeBytes: number;
  readonly blockSize: number;
  readonly digester: Digester;
  /** Tree files and restores: also require that every leaf equals this tree's. */
  readonly expected?: TreeFile;
}

export interface DecodedBatch {
  readonly entryCount: number;
  /** Entries in order: block index (float64), block count, kind, record ordinal. */
  readonly blockIndexes: Float64Array;
  readonly blockCounts: Uint32Array;
  readonly kinds: Uint8Array;
  readonly recordOrdinals: Uint32Array;
  /** n * 32 bytes, in entry order; NULL for zero runs. */
  readonly digests: Buffer;
  /** Where the records lie in the body, so that they can be appended to a pack as they are. */
  readonly recordsOffset: number;
  readonly recordsLength: number;
  /** Per record: offset relative to recordsOffset, stored length, raw length, codec, digest (n * 32). */
  readonly recordOffsets: Float64Array;
  readonly recordStoredLengths: Uint32Array;
  readonly recordRawLengths: Uint32Array;
  readonly recordCodecs: Uint8Array;
  readonly recordDigests: Buffer;
}

/** Blocks as records that lie in pieces of packs: compressed, and proven by nobody yet. */
export interface StoredBlocks {
  readonly blockIndexes: Float64Array;
  /** Per block, which record. */
  readonly recordOrdinals: Uint32Array;
  /** Pieces of packs. */
  readonly runs: readonly Uint8Array[];
  /** Per record: in which run, where in it, digest (n * 32 bytes). */
  readonly recordRuns: Uint32Array;
  readonly recordOffsets: Uint32Array;
  readonly recordDigests: Uint8Array;
}

export interface BatchAddon {
  /**
   * Checks everything: structure, bounds, checksums, decompression, digests. Nothing of a batch
   * that it rejects may be used.
   */
  decodeBatch(body: Uint8Array, bounds: BatchBounds): Promise<DecodedBatch>;
  /** Decoded blocks of a restore batch in order, each proven against the tree: for standard output. */
  decodeBlocks(body: Uint8Array, bounds: BatchBounds): Promise<Buffer[]>;
  /**
   * A batch body from records as they lie in packs: what `blocks` of the protocol answers. Each record must
   * be the one of its digest, and as it was made (checksum); it is not decoded. `bad-digest`,
   * `bad-checksum`, `truncated`, ...
   */
  encodeBatch(
    options: StoredBlocks & { sessionId: string; sequence: number; agentTimeMs: number },
  ): Promise<Buffer>;
  /** One batch entry and record from bytes at hand (a block with bad sectors, made whole). */
  encodeBlock(options: {
    sessionId: string;
    sequence: number;
    agentTimeMs: number;
    blockIndex: number;
    bytes: Uint8Array;
    digester: Digester;
    compressionLevel: number;
  }): Promise<Buffer>;
}
