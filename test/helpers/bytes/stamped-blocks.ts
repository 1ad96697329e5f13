/**
 * Self-describing test blocks: every 32-byte cell of a block is a function of (seed, block index, generation)
 * and its own place, so that a block that lands in the wrong place, is torn, or is of another generation is
 * recognised from its bytes alone. Not compressible beyond the repetition within a cell, never all zero.
 */
import { type FileHandle, open } from 'node:fs/promises';

export interface Stamp {
  readonly seed: number;
  readonly blockIndex: number;
  readonly generation: number;
}

const CELL_BYTES = 32;

/** A 32-bit mixer (the finalizer of MurmurHash3). */
function mix(value: number): number {
  let h = value >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * Cell: u32 'STMP', u32 seed, u48 block index, u16 cell number (low bits), u32
 * generation, then 12 mixed bytes.
 */
export function stampedBlock(stamp: Stamp, byteLength: number): Buffer {
  const block = Buffer.alloc(Math.ceil(byteLength / CELL_BYTES) * CELL_BYTES);
  let state = mix(stamp.seed ^ mix(stamp.blockIndex) ^ mix(stamp.generation + 0x9e3779b9));
  for (let offset = 0; offset < block.length; offset += CELL_BYTES) {
    block.write('STMP', offset, 'latin1');
    block.writeUInt32LE(stamp.seed >>> 0, offset + 4);
    block.writeUIntLE(stamp.blockIndex, offset + 8, 6);
    block.writeUInt16LE((offset / CELL_BYTES) & 0xffff, offset + 14);
    block.writeUInt32LE(stamp.generation >>> 0, offset + 16);
    for (let word = 20; word < CELL_BYTES; word += 4) {
      state = mix(state + 0x9e3779b9);
      block.writeUInt32LE(state, offset + word);
    }
  }
  return block.subarray(0, byteLength);
}

/** What the block says it is, if all of it says the same; else null. */
export function readStamp(block: Uint8Array): Stamp | null {
  const bytes = Buffer.from(block.buffer, block.byteOffset, block.byteLength);
  if (bytes.length < 20 || bytes.toString('latin1', 0, 4) !== 'STMP') return null;
  const stamp = {
    seed: bytes.readUInt32LE(4),
    blockIndex: bytes.readUIntLE(8, 6),
    generation: bytes.readUInt32LE(16),
  };
  return stampedBlock(stamp, bytes.length).equals(bytes) ? stamp : null;
}

/** Writes one stamped block to its place in an open file; the last block of `sizeBytes` may be short. */
export async function writeStamped(
  file: FileHandle,
  stamp: Stamp,
  blockSize: number,
  sizeBytes: number = Number.MAX_SAFE_INTEGER,
): Promise<void> {
  const byteOffset = stamp.blockIndex * blockSize;
  await file.write(
    stampedBlock(stamp, Math.min(blockSize, sizeBytes - byteOffset)),
    0,
    undefined,
    byteOffset,
  );
}

/** Makes an image of `sizeBytes` with these blocks stamped and holes elsewhere. */
export async function makeStampedImage(
  path: string,
  options: {
    readonly sizeBytes: number;
    readonly blockSize: number;
    readonly seed: number;
    readonly generation?: number;
    readonly blockIndexes: Iterable<number>;
  },
): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.truncate(options.sizeBytes);
    for (const blockIndex of options.blockIndexes) {
      await writeStamped(
        file,
        { seed: options.seed, blockIndex, generation: options.generation ?? 0 },
        options.blockSize,
        options.sizeBytes,
      );
    }
  } finally {
    await file.close();
  }
}
