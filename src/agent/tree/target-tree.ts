/**
 * Where a restore's target differs from the point: the target is digested in place, and its tree is completed
 * to the point's, from the local tree if that is the point's, otherwise by asking the receiver below nodes
 * that differ. Nothing is written.
 */
import { join } from 'node:path';
import { MiB, TREE_FANOUT } from '../../domain/base/limits.js';
import { type BlockRange, mergeRanges, withoutRanges } from '../../domain/blocks/block-ranges.js';
import { blockCount, blockLength, levelCount } from '../../domain/blocks/geometry.js';
import type { Point } from '../../domain/point/point.js';
import { trimNode } from '../../domain/tree/digest-tree.js';
import type { Device, Digester, Scan, TreeFile } from '../../native/index.js';
import type { NodeSource, TreeSource } from '../../protocol/port/point.js';
import type { OnAgentEvent } from '../common/events.js';
import { treeFileBytes, withScratch } from '../common/scratch.js';
import { geometryOf } from '../state/device-state.js';
import { digestDevice, treeInGeometry } from './digest-device.js';
import { completeTree } from './fetch-tree.js';
import { openLocalTree } from './point-tree.js';
import type { LostParts } from './tree-descent.js';

export interface TargetTreeOptions {
  readonly receiver: TreeSource;
  readonly point: Point;
  readonly device: Device;
  readonly digester: Digester;
  /** Null: there is none. */
  readonly stateDirectory: string | null;
  /** As `completeTree`. */
  readonly lost?: LostParts | undefined;
  /** Blocks that count as the same, and are not read. Ascending, apart. Default: none. */
  readonly leftAlone?: readonly BlockRange[];
  readonly signal: AbortSignal;
  readonly onEvent: OnAgentEvent;
  /** Is given the scan; ended by what it returns. */
  readonly watch: (scan: Scan) => () => void;
}

export interface TargetTree {
  /** The point's, but for what is lost. Its file has lost its name. */
  readonly tree: TreeFile;
  /** Blocks of the point that the target does not hold, or that can't be read there. Ascending, apart. */
  readonly differing: readonly BlockRange[];
}

export function openTargetTree(options: TargetTreeOptions): Promise<TargetTree> {
  const { point, device, digester, stateDirectory, leftAlone = [], signal, onEvent, watch } = options;
  const { blockSize, sizeBytes } = point.geometry;
  return withScratch(stateDirectory, 2 * treeFileBytes(point.geometry), async (directory) => {
    onEvent({ type: 'phase', phase: 'compare' });
    const commonBytes = Math.min(sizeBytes, device.sizeBytes);
    const { tree: digested, badBlocks } = await digestDevice({
      ...{ device, blockSize, digester, path: join(directory, 'target'), signal, watch },
      ranges: withoutRanges([[0, blockCount({ sizeBytes: commonBytes, blockSize })]], leftAlone),
    });
    const tree = await treeInGeometry(digested, join(directory, 'tree'), point.geometry);
    try {
      onEvent({ type: 'phase', phase: 'fetch-tree' });
      const blocks = await complete(options, tree);
      const cut = await cutBlock(device, tree);
      const whole = [...blocks.ranges()].flatMap((range) => without(range, cut?.blockIndex));
      const others = [...badBlocks, ...(cut?.differs === true ? [cut.blockIndex] : [])];
      return {
        tree,
        differing: withoutRanges(
          mergeRanges(
            whole,
            [...new Set(others)].sort((one, two) => one - two),
          ),
          leftAlone,
        ),
      };
    } catch (error) {
      await tree.close();
      throw error;
    }
  });
}

async function complete(options: TargetTreeOptions, tree: TreeFile) {
  const { receiver, point, digester, stateDirectory, signal, lost } = options;
  const local = await openLocalTree(receiver, point, digester, stateDirectory);
  try {
    return await completeTree(local === null ? receiver : nodesOf(local.tree), point, tree, signal, lost);
  } finally {
    await local?.close();
  }
}

/** Answers as the receiver does, without it. */
function nodesOf(tree: TreeFile): NodeSource {
  return {
    nodes: async (_, requests) =>
      Buffer.concat(
        requests.flatMap(({ level, index }) => {
          const first = index * TREE_FANOUT;
          const count = Math.min(TREE_FANOUT, levelCount(geometryOf(tree), level - 1) - first);
          const content = trimNode(tree.digests(level - 1, first, count));
          const byteLength = Buffer.alloc(4);
          byteLength.writeUInt32LE(content.length);
          return [byteLength, content];
        }),
      ),
    compareNodes: () => Promise.reject(new Error('a local tree is read, not asked')),
  };
}

function without(range: BlockRange, blockIndex: number | undefined): BlockRange[] {
  if (blockIndex === undefined) return [range];
  const parts: BlockRange[] = [
    [range[0], Math.min(range[1], blockIndex)],
    [Math.max(range[0], blockIndex + 1), range[1]],
  ];
  return parts.filter(([start, end]) => start < end);
}

/**
 * The block in which the shorter one of target and point ends, so that the other's tree has no digest to
 * compare with. What the target lacks there will be zeros.
 */
async function cutBlock(device: Device, tree: TreeFile) {
  const commonBytes = Math.min(device.sizeBytes, tree.sizeBytes);
  if (device.sizeBytes === tree.sizeBytes || commonBytes % tree.blockSize === 0) return null;
  const blockIndex = Math.floor(commonBytes / tree.blockSize);
  const byteOffset = blockIndex * tree.blockSize;
  const bytes = Buffer.alloc(blockLength(geometryOf(tree), blockIndex));
  const read = await device.read(byteOffset, commonBytes - byteOffset).catch(() => null);
  if (read === null) return { blockIndex, differs: true };
  bytes.set(read);
  return { blockIndex, differs: !tree.digester.leafDigest(bytes).equals(tree.leaves(blockIndex, 1)) };
}

const SAMPLES = 64;
const SAMPLE_BYTES = MiB / 16;
const ZEROS = Buffer.alloc(SAMPLE_BYTES);

/**
 * A disk without a byte that is not zero at its beginning, its end and 64 random places is as good as blank:
 * to read all of it would find nothing. Files tell themselves where they have holes.
 */
export async function looksBlank(device: Device, sizeBytes: number): Promise<boolean> {
  if (device.type !== 'block') return false;
  const last = Math.max(0, sizeBytes - SAMPLE_BYTES);
  const random = Array.from({ length: SAMPLES }, () => Math.floor((Math.random() * last) / 4096) * 4096);
  for (const byteOffset of [0, last, ...random]) {
    const byteLength = Math.min(SAMPLE_BYTES, sizeBytes - byteOffset);
    const bytes = await device.read(byteOffset, byteLength).catch(() => null);
    if (bytes === null || !bytes.equals(ZEROS.subarray(0, byteLength))) return false;
  }
  return true;
}
