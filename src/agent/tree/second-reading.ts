/**
 * The proof of an instant by reading twice: if neither times nor counters prove that a view stood still
 * (src/domain/device/instant-proof.ts), all of it is read and digested again. Content that is the same in
 * both readings was there at the moment between them, all at once.
 *
 * It compares two roots: of the session's base tree with the leaves that the first reading found, and with
 * those of the second. It needs the memory of a digest scan. The second overlay is a sparse file beside the
 * first one, and is removed afterwards.
 *
 * In a block with sectors that could not be read at first, only the readable ones are compared: the others
 * are not part of the instant, and the point names them. A sector that can be read once and not again proves
 * nothing; the next session knows it as bad from its first reading on.
 */
import { rm } from 'node:fs/promises';
import { type Conclusion, changedError, type Snapshot } from '../../capture/ports.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { blockLength } from '../../domain/blocks/geometry.js';
import type { ByteRange } from '../../domain/point/bad-blocks.js';
import {
  type BadBlock,
  type Device,
  type Digester,
  type LeafOverlay,
  native,
  type Scan,
  type TreeFile,
} from '../../native/index.js';
import type { OnAgentEvent } from '../common/events.js';
import { geometryOf } from '../state/device-state.js';
import { scanDigests } from './digest-device.js';

/** What the first reading found of blocks that it could not read whole. */
export class PartlyRead {
  readonly #digester: Digester;
  readonly #blocks = new Map<number, { readonly digest: Buffer; readonly badRanges: readonly ByteRange[] }>();

  constructor(digester: Digester) {
    this.#digester = digester;
  }

  /** What could not be read must be zero in its bytes. */
  add({ blockIndex, bytes, badRanges }: BadBlock): void {
    this.#blocks.set(blockIndex, { digest: this.#digester.leafDigest(bytes), badRanges });
  }

  get blockIndexes(): readonly number[] {
    return [...this.#blocks.keys()];
  }

  /** @returns null: the block could be read whole. */
  badRangesOf(blockIndex: number): readonly ByteRange[] | null {
    return this.#blocks.get(blockIndex)?.badRanges ?? null;
  }

  isSame(blockIndex: number, byteOffset: number, bytes: Buffer): boolean {
    const known = this.#blocks.get(blockIndex);
    if (known === undefined) return false;
    for (const range of known.badRanges) {
      const start = range.byteOffset - byteOffset;
      bytes.fill(0, start, start + range.byteLength);
    }
    return this.#digester.leafDigest(bytes).equals(known.digest);
  }
}

export interface SecondReadingOptions {
  readonly snapshot: Snapshot;
  readonly path: string;
  /** The first reading: a tree, and the leaves that differ from it; null: none. */
  readonly tree: TreeFile;
  readonly overlay: LeafOverlay | null;
  /** All that was read. Default: everything. */
  readonly ranges?: readonly BlockRange[] | undefined;
  /** Blocks that the first reading made zero without reading them, and a device that has them so. */
  readonly emptied?: { readonly device: Device; readonly ranges: readonly BlockRange[] } | null | undefined;
  readonly partlyRead: PartlyRead;
  /** Where a file can be made; nothing is there, and nothing stays. */
  readonly scratchPath: string;
  /** What differs makes the point fuzzy. */
  readonly fuzzy: boolean;
  readonly signal: AbortSignal;
  readonly onEvent: OnAgentEvent;
  readonly watch: (scan: Scan) => () => void;
}

/**
 * Resolves to what the view was worth, after a second reading if that is what it takes.
 * @throws StillpointError `device-changed`, `device-io`
 */
export async function concludeProven(options: SecondReadingOptions): Promise<Omit<Conclusion, 'unproven'>> {
  const { snapshot, path, fuzzy, onEvent } = options;
  const { unproven, ...concluded } = await snapshot.conclude();
  if (unproven === undefined) return concluded;
  onEvent({
    type: 'notice',
    text: `${path} is read a second time, to prove that it is one instant: ${unproven}`,
  });
  onEvent({ type: 'phase', phase: 'prove' });
  await snapshot.freshen?.();
  const difference = await findDifference(options);
  if (difference === null) return concluded;
  if (!fuzzy) throw changedError(path, difference);
  const warnings = [...concluded.warnings, `${path} ${difference}; the point is fuzzy`];
  return { ...concluded, kind: 'fuzzy', warnings };
}

const WRITTEN = 'was written to while it was read: a second reading found other bytes';

/** @returns a clause that follows "it", or null. */
async function findDifference(options: SecondReadingOptions): Promise<string | null> {
  const { snapshot, path, tree, overlay, ranges, partlyRead, scratchPath, signal, watch } = options;
  const { device } = snapshot;
  const { root } = tree.generation;
  await rm(scratchPath, { force: true });
  const second = await native.createOverlay(scratchPath, device.sizeBytes, tree.blockSize, root);
  try {
    const compared = new Set<number>();
    let differing: number | null = null;
    const comparePart = ({ blockIndex, bytes }: Pick<BadBlock, 'blockIndex' | 'bytes'>) => {
      compared.add(blockIndex);
      if (!partlyRead.isSame(blockIndex, blockIndex * tree.blockSize, bytes)) differing ??= blockIndex;
    };
    await scanDigests({ device, base: tree, overlay: second, ranges, signal, watch }, (block) => {
      const known = partlyRead.badRangesOf(block.blockIndex) ?? [];
      if (!block.badRanges.every((range) => isWithin(range, known)))
        throw unreadable(path, block.blockIndex * tree.blockSize);
      comparePart(block);
    });
    if (options.emptied) {
      const { device: empty, ranges: emptied } = options.emptied;
      const scan = { device: empty, base: tree, overlay: second, ranges: emptied, signal };
      await scanDigests(scan, () => undefined);
    }
    for (const blockIndex of partlyRead.blockIndexes) {
      if (!compared.has(blockIndex))
        comparePart({ blockIndex, bytes: await readBlock(device, tree, blockIndex) });
      // What it counts for in the first root, it counts for in the second.
      second.put(blockIndex, overlay?.get(blockIndex) ?? tree.leaves(blockIndex, 1));
    }
    if (differing !== null) return `${WRITTEN} at ${differing * tree.blockSize}`;
    const [first, again] = await Promise.all([
      overlay === null ? Buffer.from(root, 'hex') : tree.rootWith(overlay),
      tree.rootWith(second),
    ]);
    return first.equals(again) ? null : WRITTEN;
  } finally {
    await second.close();
    await rm(scratchPath, { force: true });
  }
}

function readBlock(device: Device, tree: TreeFile, blockIndex: number): Promise<Buffer> {
  return device.read(blockIndex * tree.blockSize, blockLength(geometryOf(tree), blockIndex));
}

function isWithin(range: ByteRange, outer: readonly ByteRange[]): boolean {
  const end = range.byteOffset + range.byteLength;
  return outer.some(
    (other) => other.byteOffset <= range.byteOffset && end <= other.byteOffset + other.byteLength,
  );
}

function unreadable(path: string, byteOffset: number): StillpointError {
  return new StillpointError('device-io', {
    thing: path,
    reason: `the block at byte ${byteOffset} could be read once but not again, so nothing proves that it was one instant`,
    remedy: 'Back it up again: a block that can never be read is then reported from the start.',
    permanent: false,
  });
}
