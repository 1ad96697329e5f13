/**
 * Makes blocks with unreadable sectors whole (src/domain/point/bad-blocks.ts), with the base point's content
 * where the receiver still has it.
 */

import { StillpointError } from '../../domain/base/errors.js';
import { BAD_BYTES_MAX, BAD_RANGES_MAX, MiB } from '../../domain/base/limits.js';
import { type BlockRange, intersectRanges, withoutRanges } from '../../domain/blocks/block-ranges.js';
import { blockLength, type Geometry, sameGeometry } from '../../domain/blocks/geometry.js';
import { makeWhole, mergeBadRanges } from '../../domain/point/bad-blocks.js';
import { type BadRange, type Point, pointLabel } from '../../domain/point/point.js';
import type { BadBlock, TreeFile } from '../../native/index.js';
import { decodeBlocks } from '../../protocol/codecs/blocks-codec.js';
import type { BlockSource } from '../../protocol/port/point.js';
import { geometryOf } from '../state/device-state.js';
import { PartlyRead } from '../tree/second-reading.js';

export interface RepairFacts {
  readonly receiver: BlockSource;
  readonly path: string;
  /** Null without a base point. */
  readonly basePoint: Point | null;
  /** The scan's base, in the device's geometry. */
  readonly baseTree: TreeFile;
  readonly onWarning: (text: string) => void;
  /** Why nothing of the device can be read any more; null: it is there, and has bad sectors. */
  readonly whyLost: () => Promise<StillpointError | null>;
}

export class BadBlockRepair {
  readonly #facts: RepairFacts;
  /** For a second reading to compare with. */
  readonly partlyRead: PartlyRead;
  #badRanges: readonly BadRange[] = [];
  /** What could not be read, by block. */
  readonly #badBytes = new Map<number, number>();

  constructor(facts: RepairFacts) {
    this.#facts = facts;
    this.partlyRead = new PartlyRead(facts.baseTree.digester);
  }

  /** Of all blocks as they were read last, ascending. */
  get badRanges(): readonly BadRange[] {
    return this.#badRanges;
  }

  /** It could not be read whole when it was read last. */
  isBad(blockIndex: number): boolean {
    return this.#badBytes.has(blockIndex);
  }

  /**
   * These blocks are read now, perhaps once more: what could not be read of them before does not count.
   * @param ranges undefined: all of the device
   */
  begin(ranges: readonly BlockRange[] | undefined): void {
    if (this.#badBytes.size === 0) return;
    const { blockSize, blockCount } = this.#facts.baseTree;
    const read = ranges ?? [[0, blockCount] as const];
    for (const blockIndex of [...this.#badBytes.keys()])
      if (intersectRanges(read, blockIndex, blockIndex + 1).length > 0) this.#badBytes.delete(blockIndex);
    const readBytes = read.map(([start, end]) => [start * blockSize, end * blockSize] as const);
    this.#badRanges = this.#badRanges.flatMap(({ byteOffset, byteLength, content }) =>
      withoutRanges([[byteOffset, byteOffset + byteLength]], readBytes).map(([start, end]) => ({
        byteOffset: start,
        byteLength: end - start,
        content,
      })),
    );
  }

  /**
   * @returns the bytes that the point shall hold.
   * @throws StillpointError `device-io` where too much of the device can't be read for it to be backed up; or
   * why it is gone: then a filler would stand for what is not there any more.
   */
  async repair(block: BadBlock): Promise<Uint8Array> {
    const lost = await this.#facts.whyLost();
    if (lost !== null) throw lost;
    this.partlyRead.add(block);
    const sum = (lengths: Iterable<number>) => [...lengths].reduce((total, length) => total + length, 0);
    this.#badBytes.set(block.blockIndex, sum(block.badRanges.map(({ byteLength }) => byteLength)));
    if (sum(this.#badBytes.values()) > BAD_BYTES_MAX) throw this.#failing(`${BAD_BYTES_MAX / MiB} MiB`);
    const { basePoint } = this.#facts;
    const { blockSize } = this.#facts.baseTree;
    const whole = makeWhole({
      byteOffset: block.blockIndex * blockSize,
      bytes: block.bytes,
      badRanges: block.badRanges,
      previous: await this.#previous(block.blockIndex),
      previousBadRanges: basePoint?.badRanges ?? [],
    });
    this.#badRanges = mergeBadRanges(
      [...this.#badRanges, ...whole.badRanges].sort((a, b) => a.byteOffset - b.byteOffset),
    );
    if (this.#badRanges.length > BAD_RANGES_MAX) throw this.#failing(`${BAD_RANGES_MAX} ranges`);
    return whole.bytes;
  }

  #failing(bound: string): StillpointError {
    return new StillpointError('device-io', {
      thing: this.#facts.path,
      reason: `it has more than ${bound} that can't be read: it is failing`,
      remedy: 'Rescue what is left with a tool made for it, such as ddrescue, and back up its image.',
    });
  }

  /**
   * The block in the base point; null where there is none of the same length, or the receiver can't prove it.
   */
  async #previous(blockIndex: number): Promise<Uint8Array | null> {
    const { basePoint, baseTree, receiver, onWarning } = this.#facts;
    if (basePoint === null) return null;
    const geometry: Geometry = geometryOf(baseTree);
    const byteLength = blockLength(geometry, blockIndex);
    if (blockLength(basePoint.geometry, blockIndex) !== byteLength) return null;
    const leaf = baseTree.leaves(blockIndex, 1);
    if (leaf.every((byte) => byte === 0)) return new Uint8Array(byteLength);
    try {
      const body = await receiver.blocks(basePoint.id, [blockIndex]);
      const expected = sameGeometry(geometry, basePoint.geometry) ? baseTree : undefined;
      const [previous] = await decodeBlocks(body, basePoint, baseTree.digester, expected);
      if (previous === undefined || !baseTree.digester.leafDigest(previous).equals(leaf)) return null;
      return previous;
    } catch (error) {
      if (error instanceof StillpointError && !error.permanent) throw error;
      onWarning(
        `block ${blockIndex} of ${pointLabel(basePoint)}: its content is not available: ${(error as Error).message}`,
      );
      return null;
    }
  }
}
