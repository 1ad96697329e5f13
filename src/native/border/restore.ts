/** The part of the border for restores; rules as in ../index.ts. */
import type { Device } from './device.js';
import type { TreeFile } from './tree.js';

/**
 * Writes verified blocks: decompress, digest, compare with the tree, aligned write; on threads of its own.
 */
export interface RestoreWriter {
  /**
   * A batch as `blocks` answers it. Resolves when its blocks are written (not flushed). Rejects `bad-digest`
   * before any write of a wrong block.
   */
  write(batchBody: Uint8Array, pointId: string): Promise<{ readonly writtenBytes: number }>;
  /**
   * Makes [byteOffset, +byteLength) read as zeros: BLKZEROOUT, hole, or written zeros. Never a discard alone.
   */
  zero(byteOffset: number, byteLength: number): Promise<void>;
  flush(): Promise<void>;
  /**
   * Re-reads the target (past the page cache where possible) and compares with the tree. First
   * differing block index, or null.
   */
  verify(onProgress?: (doneBytes: number) => void): Promise<number | null>;
  close(): Promise<void>;
}

export interface RestoreAddon {
  createRestoreWriter(device: Device, tree: TreeFile): RestoreWriter;
}
