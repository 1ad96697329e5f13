/**
 * Turns a target that holds something else into a point, in an order in which a half-done target never passes
 * for a whole one: nobody mounts it, boots from it or backs it up, on any machine, whenever the restore dies.
 *
 * | step                                                                      | a death now leaves   |
 * |---------------------------------------------------------------------------|----------------------|
 * | 1 the head (the first 128 KiB, in whole blocks) is made in memory, proven | the target as it was |
 * |   an image that is shorter than the point is made longer                  | as it was, or longer |
 * | 2 the mark is written in the place of the first sector; flush             | as it was, or marked |
 * | 3 the rest of the 128 KiB is zeroed (superblocks lie there); flush        | marked               |
 * | 4 all differences outside the 128 KiB are written; flush                  | marked               |
 * |   of a moment, what a journal has behind the point is written over it,    | marked               |
 * |   outside of the 128 KiB, and in memory within them; flush                |                      |
 * | 5 the 128 KiB without the first sector; flush                             | marked               |
 * | 6 the first sector; flush                                                 | marked, or the point |
 *
 * A disk writes a sector as a whole, so steps 2 and 6 happen or don't. Step 3 and the flush of 4 are for
 * programs that look at superblocks and not at the mark: wherever there is one, everything behind it is of
 * one time. If nothing differs, nothing is written; of a moment, its records are. A target that another
 * program has open (`--allow-in-use`) is written in the same order; but if that program writes too, it may
 * overwrite the mark.
 */

import { decodeMark, encodeMark, MARK_BYTES } from '../../devices/facts/half-restored.js';
import { KiB } from '../../domain/base/limits.js';
import { type BlockRange, mergeRanges } from '../../domain/blocks/block-ranges.js';
import type { Geometry } from '../../domain/blocks/geometry.js';
import { isNull } from '../../domain/tree/digest-tree.js';
import type { Device } from '../../native/index.js';
import { geometryOf } from '../state/device-state.js';
import { fetchBlocks, type PointSource, PointWriter } from './point-writer.js';

/**
 * Here lie partition tables, and what the common file systems, volume managers and encryption
 * layers know themselves by.
 */
const HEAD_BYTES = 128 * KiB;

/** The device that is written to. */
export interface InPlaceTarget {
  readonly device: Device;
  /**
   * Makes an image longer that holds something and is shorter than the point: what can't be so long is
   * found before it changes.
   */
  prepare(): Promise<void>;
  /**
   * Gives it the point's size, after which, as after `prepare`, `device` may be another object. Does
   * nothing to a block device.
   */
  resize(): Promise<void>;
}

/** What comes over the point before its head is written: on the device behind the head, in it in memory. */
export type WriteOver = (device: Device, head: Buffer) => Promise<void>;

export class InPlaceRestore {
  readonly #source: PointSource;
  readonly #target: InPlaceTarget;
  readonly #mark: Buffer | null;
  #isMarked = false;
  #head: Buffer = Buffer.alloc(0);

  constructor(source: PointSource, target: InPlaceTarget) {
    this.#source = source;
    this.#target = target;
    this.#mark = firstSector(source, target.device);
  }

  /** The mark is there, or may be. */
  get isMarked(): boolean {
    return this.#isMarked;
  }

  /** That was written last. */
  get head(): Buffer {
    return this.#head;
  }

  /**
   * @param differing blocks; of the others the target has the point's bytes
   * @param writeOver null: the point is all
   */
  async run(differing: readonly BlockRange[], writeOver: WriteOver | null): Promise<void> {
    if (differing.length === 0 && writeOver === null) return this.#target.resize();
    const { tree } = this.#source;
    const end = headBlocks(geometryOf(tree));
    const head = await this.#makeHead(differing, end);
    await this.#target.prepare();
    await this.mark();
    await this.#target.resize();
    const { device } = this.#target;
    const writer = new PointWriter(this.#source, device);
    try {
      if (this.#mark !== null) {
        const from = this.#mark.length;
        await writer.zero(from, Math.min(HEAD_BYTES, tree.sizeBytes) - from);
        await writer.flush();
      }
      await writer.write(behind(differing, end), false);
      // Of large blocks the head has more than was zeroed.
      if (head.length > HEAD_BYTES) await device.write(HEAD_BYTES, head.subarray(HEAD_BYTES));
      await writer.flush();
      this.#head = head.subarray(0, HEAD_BYTES);
      if (writeOver !== null) {
        await writeOver(device, this.#head);
        await writer.flush();
      }
      await this.#writeHead(device, this.#head);
    } finally {
      await writer.close();
    }
  }

  /** Also for a target that turns out not to hold what was written. */
  async mark(): Promise<void> {
    if (this.#mark === null) return;
    const { device } = this.#target;
    this.#isMarked = true;
    try {
      await device.write(0, this.#mark);
    } catch (error) {
      const bytes = await device.read(0, MARK_BYTES).catch(() => null);
      this.#isMarked = bytes === null || decodeMark(bytes) !== null;
      throw error;
    }
    await device.flush();
  }

  async #makeHead(differing: readonly BlockRange[], end: number): Promise<Buffer> {
    const { tree, onDone } = this.#source;
    const head = Buffer.alloc(Math.min(end * tree.blockSize, tree.sizeBytes));
    const wanted: number[] = [];
    for (let blockIndex = 0; blockIndex < end; blockIndex += 1) {
      const into = head.subarray(blockIndex * tree.blockSize, (blockIndex + 1) * tree.blockSize);
      const differs = differing.some(([from, to]) => from <= blockIndex && blockIndex < to);
      const leaf = tree.leaves(blockIndex, 1);
      if (isNull(leaf)) {
        if (differs) onDone(into.length, false);
      } else if (differs || !(await this.#readOwn(blockIndex, into, leaf))) {
        wanted.push(blockIndex);
      }
    }
    if (wanted.length === 0) return head;
    const blocks = await fetchBlocks(this.#source, wanted);
    for (const [n, block] of blocks.entries()) block.copy(head, (wanted[n] ?? 0) * tree.blockSize);
    return head;
  }

  /** What the target has already is not fetched for having been in the head. False where it has not. */
  async #readOwn(blockIndex: number, into: Buffer, leaf: Buffer): Promise<boolean> {
    const byteOffset = blockIndex * this.#source.tree.blockSize;
    const { device } = this.#target;
    const byteLength = Math.min(into.length, Math.max(0, device.sizeBytes - byteOffset));
    const bytes = await device.read(byteOffset, byteLength).catch(() => null);
    bytes?.copy(into);
    return bytes !== null && this.#source.tree.digester.leafDigest(into).equals(leaf);
  }

  async #writeHead(device: Device, head: Buffer): Promise<void> {
    const from = this.#mark?.length ?? head.length;
    if (from < head.length) {
      await device.write(from, head.subarray(from));
      await device.flush();
    }
    await device.write(0, head.subarray(0, from));
    await device.flush();
    this.#isMarked = false;
  }
}

/**
 * The mark and zeros, as long as what the target writes as a whole. Null: the point is not longer, and
 * written as a whole itself.
 */
function firstSector({ point }: PointSource, device: Device): Buffer | null {
  const sectorBytes = Math.max(MARK_BYTES, device.type === 'block' ? device.logicalSectorSize : 0);
  if (point.geometry.sizeBytes < sectorBytes) return null;
  const sector = Buffer.alloc(sectorBytes);
  encodeMark(point, new Date()).copy(sector);
  return sector;
}

export function headBlocks({ sizeBytes, blockSize }: Geometry): number {
  return Math.ceil(Math.min(HEAD_BYTES, sizeBytes) / blockSize);
}

function behind(ranges: readonly BlockRange[], start: number): BlockRange[] {
  const clipped = ranges.map(([from, to]): BlockRange => [Math.max(from, start), to]);
  return mergeRanges(
    clipped.filter(([from, to]) => from < to),
    [],
  );
}
