/** The part of the border for patches (docs/format.md section 4); rules as in ../index.ts. */
import type { BatchBounds } from './batch.js';
import type { Digester } from './digest.js';

/** What `ScanChunk.encode` may be told besides. */
export interface PatchEncodeOptions {
  /**
   * For each payload entry, in order: u16 number of pieces, 0 or all of its block, and their digests at the
   * base. Blocks that have most of their pieces there go as patches.
   */
  readonly pieces?: Uint8Array;
}

export interface PatchableChunk {
  /** Of the payload entries, in order. */
  readonly blockIndexes: Float64Array;
  /** After `encode`: blocks that went as patches, and the bytes of theirs that had not changed. */
  readonly patchStatistics: { readonly patchedBlocks: number; readonly unsentBytes: number };
}

/** Blocks of a session's base point, as `Store.blocks` answers them. */
export interface BaseBodies {
  readonly bodies: readonly Uint8Array[];
  readonly pointId: string;
  readonly sizeBytes: number;
  readonly blockSize: number;
}

export interface PatchAddon {
  /** Blocks that a batch has patches of; none where its head can't be read, which decodeBatch tells. */
  patchedBlocks(body: Uint8Array, blockCount: number): Float64Array;
  /**
   * Digests of the pieces of all blocks in order, 8 bytes each, keyed by the session; every block is proven.
   */
  pieceDigests(base: BaseBodies, sessionId: string, digester: Digester): Promise<Buffer>;
  /**
   * The batch with whole blocks in place of its patches, each proven. `bad-patch` where the base has no block
   * for one, or another block comes out; what is wrong with the batch as such has the codes of decodeBatch.
   */
  resolvePatches(body: Uint8Array, bounds: BatchBounds, base: BaseBodies): Promise<Buffer>;
}

export const ENTRY_PATCH = 3;
