/**
 * The border to the C++ addon: every native class and function is declared here, and nowhere else is the addon loaded.
 *
 * Threads: functions that return a promise work on native threads and settle on the JavaScript thread; all others return at
 * once. Each `close()` waits for work in flight and then frees; calls after it throw code `closed`.
 * Errors: `NativeError`, with a `code` (an errno name such as `EIO`, or one of NativeErrorCode) and, where known, `path`,
 * `byteOffset`. Rooms above translate them to StillpointError.
 * Ownership: a Buffer passed to a promise-returning call must not be changed until it settles.
 */
import { createRequire } from 'node:module';
import type { PatchAddon, PatchableChunk, PatchEncodeOptions } from './patch.js';
import type { PathAddon } from './path-facts.js';
import type { TapAddon } from './tap.js';

export type NativeErrorCode =
  | 'closed'
  | 'cancelled'
  | 'argument'
  | 'bad-magic'
  | 'bad-version'
  | 'bad-checksum'
  | 'bad-length'
  | 'bad-index'
  | 'bad-order'
  | 'bad-kind'
  | 'bad-codec'
  | 'bad-digest'
  | 'bad-patch'
  | 'bad-session'
  | 'truncated'
  | 'ETRUNCATED'
  | 'geometry-mismatch'
  | 'tree-damaged'
  | 'identity-mismatch';

export interface NativeError extends Error {
  readonly code: NativeErrorCode | (string & {});
  readonly path?: string;
  readonly byteOffset?: number;
}

/** Format constants as compiled in, so that both languages can be checked against each other. */
export interface NativeConstants {
  readonly digestBytes: number;
  readonly treeFanout: number;
  readonly recordHeaderBytes: number;
  readonly packHeaderBytes: number;
  readonly packIndexEntryBytes: number;
  readonly packFooterBytes: number;
  readonly batchHeaderBytes: number;
  readonly batchEntryBytes: number;
  readonly batchTrailerBytes: number;
  readonly zstdVersion: string;
  readonly blake3Version: string;
  readonly sanitizer: '' | 'address' | 'thread';
}

// ---- devices ------------------------------------------------------------------------------------------------------------
export interface OpenDeviceOptions {
  readonly write?: boolean;
  /** O_EXCL: EBUSY where a block device is mounted or held. */
  readonly exclusive?: boolean;
  /** O_DIRECT. Default: true for block devices, false for files. The unaligned tail is read and written through a bounce buffer. */
  readonly direct?: boolean;
  /** Reads of a file are answered by its file system, not by this host's page cache. */
  readonly fresh?: boolean;
  /** Create a missing image file, and set its size. */
  readonly create?: boolean;
  readonly sizeBytes?: number;
}

export interface Device {
  readonly path: string;
  readonly type: 'block' | 'file' | 'memory' | 'snapshot';
  readonly sizeBytes: number;
  readonly logicalSectorSize: number;
  readonly direct: boolean;
  /** Reads any range inside the device. `ETRUNCATED`: the device ends before its `sizeBytes` now, at `byteOffset` or before. */
  read(byteOffset: number, byteLength: number): Promise<Buffer>;
  write(byteOffset: number, bytes: Uint8Array): Promise<void>;
  /** fdatasync, and on block devices the flush of their write cache. */
  flush(): Promise<void>;
  /** Forgets the clean pages of it that this host's page cache holds, and nobody maps. */
  dropCache(): Promise<void>;
  close(): Promise<void>;
}

/** In memory, with faults, for tests of everything above it. */
export interface MemoryDevice extends Device {
  /** Reads that touch the range fail with EIO; after `failures` of them (default: for ever) they succeed again. */
  addBadRange(byteOffset: number, byteLength: number, failures?: number): void;
  addBadWriteRange(byteOffset: number, byteLength: number): void;
  clearFaults(): void;
  /** Every read waits so long first: to have work in flight when a test closes or cancels. */
  setReadDelayMs(delayMs: number): void;
}

// ---- tree ---------------------------------------------------------------------------------------------------------------
export interface TreeGeneration {
  /** 32 hex digits; zeros for a tree of no point (all NULL). */
  readonly pointId: string;
  /** 64 hex digits. */
  readonly root: string;
}

/**
 * A device's digest tree in a memory-mapped sparse file: 512-byte checksummed header (geometry, generation), then the levels from
 * the leaves up, 32 bytes a digest. Old or new, never mixed: changes come only through `apply` of a sealed overlay, whose
 * redo is idempotent, and the header is written last. Not locked: one owner per file.
 */
export interface TreeFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly blockSize: number;
  readonly blockCount: number;
  readonly generation: TreeGeneration;
  /** Leaves [blockIndex, blockIndex + count). */
  leaves(blockIndex: number, count: number): Buffer;
  /** Digests [index, index + count) of a level: nodes, or leaves for level 0. */
  digests(level: number, index: number, count: number): Buffer;
  /** Recomputes every node from the leaves and compares with the nodes and the header's root. Sparse parts cost nothing. */
  verify(): Promise<boolean>;
  /** Root of this tree with the overlay's leaves put over it; changes nothing. */
  rootWith(overlay: LeafOverlay): Promise<Buffer>;
  /** Writes a sealed overlay's leaves and the changed nodes, syncs, then the header with the overlay's generation, syncs. Repeatable. */
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
 * Changed leaves over some base: a presence bit and a digest per block, in a memory-mapped sparse file. The agent's pending set and the
 * receiver's staged set have this one form. Header (512 bytes, checksummed): geometry, base root, sealed flag.
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
  /** Syncs the contents, then the header with the sealed flag and the generation it leads to. Not sealed, it is debris. */
  seal(generation: TreeGeneration): Promise<void>;
  /** Null until sealed. */
  readonly generation: TreeGeneration | null;
  readonly baseRoot: string;
  close(): Promise<void>;
}

// ---- scan ---------------------------------------------------------------------------------------------------------------
export interface ScanOptions {
  /** Its leaves are the known digests; geometry must be the device's. */
  readonly base: TreeFile;
  /** Gets the leaf of every block that differs from the base, and of no other. */
  readonly overlay?: LeafOverlay;
  /** Only these blocks, ascending ranges [start, end). Default: all. */
  readonly ranges?: readonly (readonly [number, number])[];
  /** Keep no bytes: the overlay is all that comes of it, and chunks have bad blocks alone. Default false. */
  readonly digestOnly?: boolean;
  /** Reader threads: reads in flight. Default 4. */
  readonly readers?: number;
  /** Raw bytes of changed blocks held until they are encoded or released. Default 32 MiB; readers wait when it is reached. */
  readonly memoryBytes?: number;
  /** Changed raw bytes per chunk, about. Default 4 MiB. */
  readonly chunkBytes?: number;
  /** Reads of a failing range before it is halved; sectors are retried so often too. Default 2. */
  readonly readRetries?: number;
}

export interface ScanProgress {
  /** Scanned so far, holes included. */
  readonly scannedBytes: number;
  readonly readBytes: number;
  readonly changedBlocks: number;
  readonly zeroBlocks: number;
  readonly badBytes: number;
}

/** Blocks with unreadable sectors: the readable bytes, and which ranges are not. Not in the chunk's entries or the overlay. */
export interface BadBlock {
  readonly blockIndex: number;
  /** The block as far as it could be read; bad sectors are filled with zeros here and must be replaced before use. */
  readonly bytes: Buffer;
  /** Absolute, sector-grained, ascending. */
  readonly badRanges: readonly { readonly byteOffset: number; readonly byteLength: number }[];
}

export interface EncodeOptions extends PatchEncodeOptions {
  /** 32 hex digits. */
  readonly sessionId: string;
  readonly sequence: number;
  readonly agentTimeMs: number;
  /** Bit i (LSB first) set: payload entry i is held by the receiver and goes without payload. */
  readonly held?: Uint8Array;
  /** zstd level; 0 stores raw. A block that zstd does not shrink goes raw. */
  readonly compressionLevel: number;
}

/** A run of changed blocks in device order, ready to become one batch. */
export interface ScanChunk extends PatchableChunk {
  readonly entryCount: number;
  /** Digests of the non-zero entries in order (payload entries): n * 32 bytes. Input of `have`. */
  readonly digests: Buffer;
  readonly rawBytes: number;
  readonly badBlocks: readonly BadBlock[];
  /** Builds the batch body (docs/format.md section 4) on the native pool and frees the raw bytes. Once only. */
  encode(options: EncodeOptions): Promise<Buffer>;
  /** First entries, one or more, of at most `rawBytes` that are not held; the rest or null. Bad blocks are in neither. */
  split(rawBytes: number, held: Uint8Array): [first: ScanChunk, rest: ScanChunk | null];
  release(): void;
}

/** read -> zero check -> BLAKE3 -> compare with the known digest, on threads of its own, bounded, pulled. */
export interface Scan {
  /** Next chunk with changes (or bad blocks), in device order; null at the end. Rejects with `cancelled` after cancel(). */
  next(): Promise<ScanChunk | null>;
  progress(): ScanProgress;
  cancel(): void;
  close(): Promise<void>;
}

// ---- batches, packs -----------------------------------------------------------------------------------------------------
export interface BatchBounds {
  readonly sessionId: string;
  readonly sequence: number;
  readonly sizeBytes: number;
  readonly blockSize: number;
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

export interface PackIndex {
  readonly packId: string;
  readonly kind: number;
  readonly recordCount: number;
  /** recordCount * 56 bytes, as in docs/format.md section 3. */
  readonly entries: Buffer;
}

// ---- restore ------------------------------------------------------------------------------------------------------------
/** Writes verified blocks: decompress, digest, compare with the tree, aligned write; on threads of its own. */
export interface RestoreWriter {
  /** A batch as `blocks` answers it. Resolves when its blocks are written (not flushed). Rejects `bad-digest` before any write of a wrong block. */
  write(batchBody: Uint8Array, pointId: string): Promise<{ readonly writtenBytes: number }>;
  /** Makes [byteOffset, +byteLength) read as zeros: BLKZEROOUT, hole, or written zeros. Never a discard alone. */
  zero(byteOffset: number, byteLength: number): Promise<void>;
  flush(): Promise<void>;
  /** Re-reads the target (past the page cache where possible) and compares with the tree. First differing block index, or null. */
  verify(onProgress?: (doneBytes: number) => void): Promise<number | null>;
  close(): Promise<void>;
}

// ---- the addon ----------------------------------------------------------------------------------------------------------
export interface Addon extends TapAddon, PatchAddon, PathAddon {
  readonly constants: NativeConstants;

  /**
   * Frees the memory of a Buffer that has all of its ArrayBuffer and that nobody reads any more, native work included: it is empty
   * afterwards. V8 collects garbage, all of it, whenever Buffers took some 32 MiB since the last time; freed ones don't count.
   */
  freeBuffer(buffer: Uint8Array): void;

  /** Leaf digest: NULL for all-zero bytes, else BLAKE3. */
  leafDigest(bytes: Uint8Array): Buffer;
  /** Plain BLAKE3 of the concatenation of the parts. */
  checksum(...parts: Uint8Array[]): Buffer;
  /** Node digest of up to 64 concatenated child digests; trims trailing NULLs itself. */
  nodeDigest(children: Uint8Array): Buffer;
  rootDigest(sizeBytes: number, blockSize: number, top: Uint8Array): Buffer;

  openDevice(path: string, options?: OpenDeviceOptions): Promise<Device>;
  createMemoryDevice(sizeBytes: number, options?: { logicalSectorSize?: number }): MemoryDevice;

  /** Makes an all-NULL tree file of no point; replaces none (EEXIST). */
  createTree(path: string, sizeBytes: number, blockSize: number): Promise<TreeFile>;
  /** Checks header, size and checksum; `tree-damaged`, `bad-version`. */
  openTree(path: string): Promise<TreeFile>;
  /** A new tree file for another size: leaves kept where the block is whole in both, nodes recomputed; of no point (its root is not in any store). */
  resizeTree(from: TreeFile, path: string, sizeBytes: number): Promise<TreeFile>;
  createOverlay(path: string, sizeBytes: number, blockSize: number, baseRoot: string): Promise<LeafOverlay>;
  openOverlay(path: string): Promise<LeafOverlay>;

  createScan(device: Device, options: ScanOptions): Scan;
  createRestoreWriter(device: Device, tree: TreeFile): RestoreWriter;

  /** Checks everything: structure, bounds, checksums, decompression, digests. Nothing of a batch that it rejects may be used. */
  decodeBatch(body: Uint8Array, bounds: BatchBounds): Promise<DecodedBatch>;
  /** Decoded blocks of a restore batch in order, each proven against the tree: for standard output. */
  decodeBlocks(body: Uint8Array, bounds: BatchBounds): Promise<Buffer[]>;
  /**
   * A batch body from records as they lie in packs: what `blocks` answers. Each record must be the one of its digest, and as it was
   * made (checksum); it is not decoded. `bad-digest`, `bad-checksum`, `truncated`, ...
   */
  encodeBatch(options: {
    sessionId: string;
    sequence: number;
    agentTimeMs: number;
    blockIndexes: Float64Array;
    /** Per block index, which record. */
    recordOrdinals: Uint32Array;
    /** Pieces of packs. */
    runs: readonly Uint8Array[];
    /** Per record: in which run, where in it, digest (n * 32 bytes). */
    recordRuns: Uint32Array;
    recordOffsets: Uint32Array;
    recordDigests: Uint8Array;
  }): Promise<Buffer>;
  /** One batch entry and record from bytes at hand (a block with bad sectors, made whole). */
  encodeBlock(options: {
    sessionId: string;
    sequence: number;
    agentTimeMs: number;
    blockIndex: number;
    bytes: Uint8Array;
    compressionLevel: number;
  }): Promise<Buffer>;

  /** One record (header and stored bytes) of a tree node's trimmed content, or of a block. */
  encodeRecord(kind: number, digest: Uint8Array, raw: Uint8Array, compressionLevel: number): Buffer;
  /** Checks one record and returns its raw bytes. `bad-magic`, `bad-checksum`, `bad-digest`, ... */
  decodeRecord(record: Uint8Array, expectedDigest: Uint8Array): Promise<Buffer>;
  encodePackHeader(packId: string, kind: number): Buffer;
  /** Index and footer for `entries` (n * 56 bytes) of a pack whose records end at indexOffset. */
  encodePackTail(packId: string, indexOffset: number, entries: Uint8Array): Buffer;
  /** Reads header, footer and index of a pack file; checks all three. */
  readPackIndex(path: string): Promise<PackIndex>;
  /**
   * Re-reads every record of a pack file and checks it (checksum, decode, digest) and its index entry. Calls back with each damaged
   * record; rejects only where the file as a whole can't be read.
   */
  verifyPack(
    path: string,
    onDamage: (damage: { offset: number; digest: Buffer | null; reason: string }) => void,
  ): Promise<{ recordCount: number; checkedBytes: number }>;
  /** Finds the valid records of a pack file without believing its index (lost tail, torn write). n * 56 bytes. */
  salvagePack(path: string): Promise<PackIndex>;
}

export const RECORD_KIND_BLOCK = 1;
export const RECORD_KIND_NODE = 2;
export const PACK_KIND_DATA = 1;
export const PACK_KIND_TREE = 2;
export const ENTRY_ZERO = 0;
export const ENTRY_PAYLOAD = 1;
export const ENTRY_HELD = 2;

const require = createRequire(import.meta.url);

function load(): Addon {
  const path = new URL('../../../native/Release/stillpoint.node', import.meta.url).pathname;
  try {
    return require(path) as Addon;
  } catch (cause) {
    throw new Error(`native addon ${path}: it can't be loaded. Build it with "npm run build:native".`, {
      cause,
    });
  }
}

export const native: Addon = load();
