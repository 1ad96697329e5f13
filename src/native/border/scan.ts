/** The part of the border for scans; rules as in ../index.ts. */
import type { Device } from './device.js';
import type { PatchableChunk, PatchEncodeOptions } from './patch.js';
import type { LeafOverlay, TreeFile } from './tree.js';

export interface ScanOptions {
  /** Its leaves are the known digests, but for those of the overlay; geometry must be the device's. */
  readonly base: TreeFile;
  /**
   * Gets the leaf of every block that differs from what is known of it. What is in it before, from an
   * earlier scan, is what is known of that block: it is reported if it went back to the base's content, too.
   */
  readonly overlay?: LeafOverlay;
  /** Only these blocks, ascending ranges [start, end). Default: all. */
  readonly ranges?: readonly (readonly [number, number])[];
  /** Keep no bytes: the overlay is all that comes of it, and chunks have bad blocks alone. Default false. */
  readonly digestOnly?: boolean;
  /** Reader threads: reads in flight. Default 4. */
  readonly readers?: number;
  /**
   * Raw bytes of changed blocks held until they are encoded or released. Default 32 MiB; readers
   * wait when it is reached.
   */
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
  /** Of changed blocks that the overlay had content of from an earlier scan, unless they are zero now. */
  readonly againBytes: number;
  readonly zeroBlocks: number;
  readonly badBytes: number;
}

/**
 * Blocks with unreadable sectors: the readable bytes, and which ranges are not. Not in the
 * chunk's entries or the overlay.
 */
export interface BadBlock {
  readonly blockIndex: number;
  /**
   * The block as far as it could be read; bad sectors are filled with zeros here and
   * must be replaced before use.
   */
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
  /**
   * Builds the batch body (docs/format.md section 4) on the native pool and frees the raw bytes. Once only.
   */
  encode(options: EncodeOptions): Promise<Buffer>;
  /**
   * First entries, one or more, of at most `rawBytes` that are not held; the rest or null.
   * Bad blocks are in neither.
   */
  split(rawBytes: number, held: Uint8Array): [first: ScanChunk, rest: ScanChunk | null];
  release(): void;
}

/** read -> zero check -> BLAKE3 -> compare with the known digest, on threads of its own, bounded, pulled. */
export interface Scan {
  /**
   * Next chunk with changes (or bad blocks), in device order; null at the end. Rejects with
   * `cancelled` after cancel().
   */
  next(): Promise<ScanChunk | null>;
  progress(): ScanProgress;
  cancel(): void;
  close(): Promise<void>;
}

export interface ScanAddon {
  createScan(device: Device, options: ScanOptions): Scan;
}
