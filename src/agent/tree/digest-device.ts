/**
 * The digest tree of a device's present content: everything is read and digested natively, and only digests
 * are kept.
 */
import { rename, rm } from 'node:fs/promises';
import type { LatePasses } from '../../capture/ports.js';
import { type BlockRange, intersectRanges } from '../../domain/blocks/block-ranges.js';
import { type Geometry, sameGeometry } from '../../domain/blocks/geometry.js';
import {
  type BadBlock,
  type Device,
  type Digester,
  type LeafOverlay,
  native,
  type Scan,
  type TreeFile,
} from '../../native/index.js';
import { throwIfCancelled, unlessAborted } from '../common/cancel.js';
import { geometryOf } from '../state/device-state.js';

/** Of a tree that is not a point's. */
const NO_POINT = '0'.repeat(32);

export interface DigestDeviceOptions {
  readonly device: Device;
  /** Of a late snapshot: it is read in passes, and then what is left at its instant. */
  readonly passes?: LatePasses | undefined;
  readonly blockSize: number;
  readonly digester: Digester;
  /** Where the tree file is made; it must not exist. Nothing stays behind on failure. */
  readonly path: string;
  /** Only these blocks, the others' leaves are NULL. Default: all. */
  readonly ranges?: readonly BlockRange[] | undefined;
  readonly signal: AbortSignal;
  /** Is given the scan, to ask it for its progress; ended by what it returns. */
  readonly watch?: (scan: Scan) => () => void;
  /** Is given each block that can't be read whole. */
  readonly onBad?: (block: BadBlock) => void;
}

export interface DeviceTree {
  readonly tree: TreeFile;
  /** Blocks that can't be read, ascending: their leaves are NULL, and say nothing. */
  readonly badBlocks: readonly number[];
}

export async function digestDevice(options: DigestDeviceOptions): Promise<DeviceTree> {
  const { device, blockSize, digester, path, signal, watch, onBad } = options;
  const overlayPath = `${path}.overlay`;
  const tree = await native.createTree(path, device.sizeBytes, blockSize, digester);
  try {
    const { root } = tree.generation;
    const overlay = await native.createOverlay(overlayPath, device.sizeBytes, blockSize, root);
    try {
      const bad = new Set<number>();
      await readAll(options, async (from, ranges) => {
        for (const blockIndex of bad) if (isWithin(blockIndex, ranges)) bad.delete(blockIndex);
        await scanDigests({ device: from, base: tree, overlay, ranges, signal, watch }, (block) => {
          bad.add(block.blockIndex);
          onBad?.(block);
        });
      });
      const badBlocks = [...bad].sort((a, b) => a - b);
      await overlay.seal({ pointId: NO_POINT, root: (await tree.rootWith(overlay)).toString('hex') });
      await tree.apply(overlay);
      return { tree, badBlocks };
    } finally {
      await overlay.close();
      await rm(overlayPath, { force: true });
    }
  } catch (error) {
    await tree.close();
    await rm(path, { force: true });
    throwIfCancelled(signal);
    throw error;
  }
}

type Read = (device: Device, ranges: readonly BlockRange[] | undefined) => Promise<void>;

async function readAll(options: DigestDeviceOptions, read: Read): Promise<void> {
  const { device, passes, ranges, signal } = options;
  if (passes === undefined) return read(device, ranges);
  const wanted = (told: readonly BlockRange[]) =>
    ranges === undefined ? told : told.flatMap(([start, end]) => intersectRanges(ranges, start, end));
  for (;;) {
    const next = await unlessAborted(signal, passes.next());
    if (next !== null) {
      await read(device, wanted(next));
      continue;
    }
    const taken = await passes.take();
    if (taken === null) continue;
    const changes = taken.tracking?.changes ?? null;
    if (changes === null) throw new Error('nobody knows what is left to read');
    return read(taken.device, wanted(changes.ranges));
  }
}

function isWithin(blockIndex: number, ranges: readonly BlockRange[] | undefined): boolean {
  return ranges === undefined || intersectRanges(ranges, blockIndex, blockIndex + 1).length > 0;
}

export interface DigestScan {
  readonly device: Device;
  readonly base: TreeFile;
  /** Gets the leaves that differ from the base. */
  readonly overlay: LeafOverlay;
  readonly ranges?: readonly BlockRange[] | undefined;
  readonly signal: AbortSignal;
  readonly watch?: ((scan: Scan) => () => void) | undefined;
}

/** @param onBad is given each block that can't be read whole: the overlay has none of them. */
export async function scanDigests(
  { device, base, overlay, ranges, signal, watch }: DigestScan,
  onBad: (block: BadBlock) => void,
): Promise<void> {
  const running = native.createScan(device, {
    ...{ base, overlay, digestOnly: true },
    ...(ranges === undefined ? {} : { ranges }),
  });
  const cancel = () => running.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  const stopWatching = watch?.(running);
  try {
    throwIfCancelled(signal);
    for (let chunk = await running.next(); chunk !== null; chunk = await running.next()) {
      for (const block of chunk.badBlocks) onBad(block);
      chunk.release();
    }
  } finally {
    stopWatching?.();
    signal.removeEventListener('abort', cancel);
    running.cancel();
    await running.close();
  }
}

/**
 * The tree under another path, for a device of another size if need be: leaves of blocks that are whole in
 * both. Under the given path it is gone.
 */
export async function treeInGeometry(tree: TreeFile, path: string, geometry: Geometry): Promise<TreeFile> {
  try {
    if (!sameGeometry(geometryOf(tree), geometry))
      return await native.resizeTree(tree, path, geometry.sizeBytes);
    await rename(tree.path, path);
  } finally {
    await tree.close();
    await rm(tree.path, { force: true });
  }
  return native.openTree(path, tree.digester);
}
