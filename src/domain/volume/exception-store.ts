/**
 * The persistent exception store of the kernel's dm-snapshot: which chunks of the origin were written since
 * the snapshot was taken. All numbers are little-endian; the unit of all places is the chunk.
 *
 *   chunk 0: "SnAp", valid, version, chunk size in sectors
 *   chunk 1: area 0, then as many chunks of originals as an area has entries, then area 1, and so on
 *   an area: entries of (chunk of the origin, chunk of the store); the first one of (…, 0) is the end
 *
 * The kernel writes an entry before it lets the write to the origin through. So what is read here after an
 * instant names at least all chunks that were written before it.
 */
import type { BlockRange } from '../blocks/block-ranges.js';

export const STORE_HEADER_BYTES = 512;
const SECTOR_BYTES = 512;
const MAGIC = 0x70416e53;
const VERSION = 1;
const HEADER_CHUNKS = 1;
const ENTRY_BYTES = 16;
/** The kernel's own limits: a page at least in practice, half a mebibyte in LVM; a few times that here. */
const CHUNK_BYTES_MAX = 16 * 1024 * 1024;

/** What a store is refused for, a clause. */
export class BadStore extends Error {}

export interface StoreShape {
  readonly chunkBytes: number;
  /** Chunks of the origin, the last one maybe short. */
  readonly originChunks: number;
  /** Whole chunks of the store. */
  readonly storeChunks: number;
}

/** @throws BadStore */
export function parseStoreHeader(bytes: Buffer, originBytes: number, storeBytes: number): StoreShape {
  if (bytes.length < 16 || bytes.readUInt32LE(0) !== MAGIC) throw new BadStore('it has no exception store');
  if (bytes.readUInt32LE(4) === 0) throw new BadStore('it overflowed');
  const version = bytes.readUInt32LE(8);
  if (version !== VERSION) throw new BadStore(`its exception store has version ${version}`);
  const chunkBytes = bytes.readUInt32LE(12) * SECTOR_BYTES;
  const isPowerOfTwo = chunkBytes > 0 && Number.isInteger(Math.log2(chunkBytes));
  if (!isPowerOfTwo || chunkBytes > CHUNK_BYTES_MAX)
    throw new BadStore(`its exception store has chunks of ${chunkBytes} bytes`);
  // The kernel makes none that has no room for an original.
  const storeChunks = Math.floor(storeBytes / chunkBytes);
  if (storeChunks <= HEADER_CHUNKS + 1) throw new BadStore('its exception store is too small to be one');
  return {
    chunkBytes,
    originChunks: Math.ceil(originBytes / chunkBytes),
    storeChunks,
  };
}

const entriesPerArea = ({ chunkBytes }: StoreShape): number => chunkBytes / ENTRY_BYTES;

/** Where area number `index` is in the store; null: the store has ended before it. */
export function areaOffset(shape: StoreShape, index: number): number | null {
  const chunk = HEADER_CHUNKS + index * (entriesPerArea(shape) + 1);
  return chunk < shape.storeChunks ? chunk * shape.chunkBytes : null;
}

export interface Area {
  /** Chunks of the origin, in the order in which they were first written. */
  readonly chunks: readonly number[];
  /** There may be another area after it. */
  readonly isFull: boolean;
}

/** @param bytes one chunk. @throws BadStore */
export function parseArea(bytes: Buffer, shape: StoreShape): Area {
  if (bytes.length !== shape.chunkBytes) throw new BadStore('its exception store ends inside of an area');
  const chunks: number[] = [];
  for (let at = 0; at < bytes.length; at += ENTRY_BYTES) {
    const stored = bytes.readBigUInt64LE(at + 8);
    if (stored === 0n) return { chunks, isFull: false };
    const original = bytes.readBigUInt64LE(at);
    if (original >= BigInt(shape.originChunks))
      throw new BadStore('an entry is of a chunk behind the origin');
    const isStored = stored < BigInt(shape.storeChunks) && holdsOriginals(shape, Number(stored));
    if (!isStored) throw new BadStore('an entry has its original where none can be');
    chunks.push(Number(original));
  }
  return { chunks, isFull: true };
}

/** Neither the header nor an area is there. */
function holdsOriginals(shape: StoreShape, chunk: number): boolean {
  return chunk > HEADER_CHUNKS && (chunk - HEADER_CHUNKS) % (entriesPerArea(shape) + 1) !== 0;
}

/** The blocks of another size that hold a byte of [start, end) of these units, clipped to the device. */
export function scaledRange(
  [start, end]: BlockRange,
  unitBytes: number,
  { blockSize, sizeBytes }: { readonly blockSize: number; readonly sizeBytes: number },
): BlockRange {
  const last = Math.min(end * unitBytes, sizeBytes);
  return [Math.floor((start * unitBytes) / blockSize), Math.ceil(last / blockSize)];
}
