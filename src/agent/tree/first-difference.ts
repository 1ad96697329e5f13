/** Whether parts of a device are what a tree says, found by digests. The device may be longer. */
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { blockLength } from '../../domain/blocks/geometry.js';
import type { Device, Scan, TreeFile } from '../../native/index.js';
import { geometryOf } from '../state/device-state.js';
import { digestDevice } from './digest-device.js';

export interface DifferenceOptions {
  readonly device: Device;
  readonly tree: TreeFile;
  /** Ascending, apart. */
  readonly ranges: readonly BlockRange[];
  /** Where a file can be made; nothing is there. */
  readonly path: string;
  readonly signal: AbortSignal;
  readonly watch: (scan: Scan) => () => void;
}

const LEAVES_AT_ONCE = 4096;

/** @returns the first block that differs or can't be read; null: none */
export async function firstDifference(options: DifferenceOptions): Promise<number | null> {
  const { device, tree, ranges, path, signal, watch } = options;
  const { blockSize, digester } = tree;
  const { tree: own, badBlocks } = await digestDevice({
    ...{ device, blockSize, digester, path, ranges, signal, watch },
  });
  try {
    const bad = new Set(badBlocks);
    // In a longer device the last block has more than the tree's.
    const lastIsCut = device.sizeBytes > tree.sizeBytes && tree.sizeBytes % blockSize !== 0;
    const isSame = async (blockIndex: number): Promise<boolean> => {
      const leaf = tree.leaves(blockIndex, 1);
      if (bad.has(blockIndex)) return false;
      if (!lastIsCut || blockIndex !== tree.blockCount - 1) return own.leaves(blockIndex, 1).equals(leaf);
      const bytes = await device.read(blockIndex * blockSize, blockLength(geometryOf(tree), blockIndex));
      return digester.leafDigest(bytes).equals(leaf);
    };
    for (const [start, end] of ranges) {
      for (let from = start; from < end; from += LEAVES_AT_ONCE) {
        const count = Math.min(LEAVES_AT_ONCE, end - from);
        const areSame = badBlocks.length === 0 && own.leaves(from, count).equals(tree.leaves(from, count));
        for (let n = from; !areSame && n < from + count; n += 1) if (!(await isSame(n))) return n;
      }
    }
    return null;
  } finally {
    await own.close();
  }
}
