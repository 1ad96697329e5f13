/** Geometry of a device and of its digest tree (docs/format.md section 1). Pure arithmetic. */
import { StillpointError } from '../base/errors.js';
import { BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, DEVICE_SIZE_MAX, TREE_FANOUT } from '../base/limits.js';

export interface Geometry {
  readonly sizeBytes: number;
  /** A power of two from 4 KiB to 4 MiB. */
  readonly blockSize: number;
}

/** @throws StillpointError `bad-geometry` */
export function geometry(sizeBytes: number, blockSize: number): Geometry {
  const isPowerOfTwo = Number.isInteger(Math.log2(blockSize));
  if (!isPowerOfTwo || blockSize < BLOCK_SIZE_MIN || blockSize > BLOCK_SIZE_MAX) {
    throw new StillpointError('bad-geometry', {
      thing: `block size ${blockSize}`,
      reason: 'it is not a power of two from 4 KiB to 4 MiB',
      remedy: 'Use for example 64K.',
    });
  }
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > DEVICE_SIZE_MAX) {
    throw new StillpointError('bad-geometry', {
      thing: `device size ${sizeBytes}`,
      reason: 'it is not a whole number of bytes below 8 PiB',
    });
  }
  return { sizeBytes, blockSize };
}

export function blockCount(g: Geometry): number {
  return Math.ceil(g.sizeBytes / g.blockSize);
}

/** Bytes of one block: the block size, or less for the last block. */
export function blockLength(g: Geometry, blockIndex: number): number {
  return Math.min(g.blockSize, g.sizeBytes - blockIndex * g.blockSize);
}

/** Levels above the leaves: the smallest h >= 1 with 64^h >= block count. */
export function treeHeight(g: Geometry): number {
  let height = 1;
  for (let reach = TREE_FANOUT; reach < blockCount(g); reach *= TREE_FANOUT) height += 1;
  return height;
}

/** Nodes (leaves for level 0) that a level can have non-null. */
export function levelCount(g: Geometry, level: number): number {
  return Math.ceil(blockCount(g) / TREE_FANOUT ** level);
}

export function sameGeometry(a: Geometry, b: Geometry): boolean {
  return a.sizeBytes === b.sizeBytes && a.blockSize === b.blockSize;
}
