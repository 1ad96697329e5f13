/** The part of the border for digest trees; rules as in ../index.ts. */
import type { Digester } from './digest.js';

export interface TreeGeneration {
  /** 32 hex digits; zeros for a tree of no point (all NULL). */
  readonly pointId: string;
  /** 64 hex digits. */
  readonly root: string;
}

/**
 * A device's digest tree in a memory-mapped sparse file: 512-byte checksummed header (geometry,
 * generation), then the levels from the leaves up, 32 bytes a digest. Old or new, never mixed: changes come
 * only through `apply` of a sealed overlay, whose redo is idempotent, and the header is written last. Not
 * locked: one owner per file.
 */
export interface TreeFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly blockSize: number;
  readonly blockCount: number;
  /** What is compared with this tree is digested with it: by scans, restores, and whoever has a block. */
  readonly digester: Digester;
  readonly generation: TreeGeneration;
  /** Leaves [blockIndex, blockIndex + count). */
  leaves(blockIndex: number, count: number): Buffer;
  /** Digests [index, index + count) of a level: nodes, or leaves for level 0. */
  digests(level: number, index: number, count: number): Buffer;
  /**
   * Recomputes every node from the leaves and compares with the nodes and the header's root.
   * Sparse parts cost nothing.
   */
  verify(): Promise<boolean>;
  /** Root of this tree with the overlay's leaves put over it; changes nothing. */
  rootWith(overlay: LeafOverlay): Promise<Buffer>;
  /** Of the overlay's blocks whose leaves are not those of this tree. */
  differingBytes(overlay: LeafOverlay): Promise<number>;
  /**
   * Writes a sealed overlay's leaves and the changed nodes, syncs, then the header with the overlay's
   * generation, syncs. Repeatable.
   */
  apply(overlay: LeafOverlay): Promise<void>;
  /** Top node's digest. */
  readonly top: Buffer;
  /** First block index >= from whose leaf is not NULL, or blockCount. Skips holes of the file. */
  nextNonNull(blockIndex: number): number;
  /** First block index >= from whose leaf is NULL, or blockCount. */
  nextNull(blockIndex: number): number;
  close(): Promise<void>;
}

/**
 * Changed leaves over some base: a presence bit and a digest per block, in a memory-mapped sparse file. The
 * agent's pending set and the receiver's staged set have this one form. Header (512 bytes, checksummed):
 * geometry, base root, sealed flag.
 */
export interface LeafOverlay {
  readonly path: string;
  readonly blockCount: number;
  /** Blocks present. */
  readonly presentCount: number;
  /** Puts all entries of a batch that `decodeBatch` accepted (zero runs as NULL). */
  putBatch(body: Uint8Array): void;
  put(blockIndex: number, digests: Uint8Array): void;
  /** Null if the block is not present. */
  get(blockIndex: number): Buffer | null;
  /** Index of the first level-1 node >= from with a present leaf, or -1. */
  nextNode(nodeIndex: number): number;
  /** The 64 leaves under a level-1 node: 8 bytes of presence bits (LSB first), then 64 digests. */
  node(nodeIndex: number): Buffer;
  /**
   * Syncs the contents, then the header with the sealed flag and the generation it leads to.
   * Not sealed, it is debris.
   */
  seal(generation: TreeGeneration): Promise<void>;
  /** Null until sealed. */
  readonly generation: TreeGeneration | null;
  readonly baseRoot: string;
  close(): Promise<void>;
}

export interface TreeAddon {
  /** Makes an all-NULL tree file of no point; replaces none (EEXIST). */
  createTree(path: string, sizeBytes: number, blockSize: number, digester: Digester): Promise<TreeFile>;
  /**
   * Checks header, size and checksum; `tree-damaged`, `bad-version`. That it is a tree of this
   * digester, `verify` finds.
   */
  openTree(path: string, digester: Digester): Promise<TreeFile>;
  /**
   * A new tree file for another size: leaves kept where the block is whole in both, nodes recomputed; of no
   * point (its root is not in any store).
   */
  resizeTree(from: TreeFile, path: string, sizeBytes: number): Promise<TreeFile>;
  createOverlay(path: string, sizeBytes: number, blockSize: number, baseRoot: string): Promise<LeafOverlay>;
  openOverlay(path: string): Promise<LeafOverlay>;
}
