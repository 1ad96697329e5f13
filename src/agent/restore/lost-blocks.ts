/**
 * What of a point the receiver can't give: asked for before anything is written, and found while the tree and
 * blocks are fetched. Restores that skip it write zeros in its place, unless the target has it already.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import {
  type BlockRange,
  intersectRanges,
  mergeRanges,
  rangeBytes,
} from '../../domain/blocks/block-ranges.js';
import { coverageOf } from '../../domain/blocks/coverage.js';
import { blockCount } from '../../domain/blocks/geometry.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { PointPort } from '../../protocol/port/point.js';
import type { LostParts } from '../tree/tree-descent.js';

export type DamageSource = Pick<PointPort, 'damage' | 'check'>;

export interface LostRange {
  readonly byteOffset: number;
  readonly byteLength: number;
}

const RANGES_NAMED_MAX = 20;

/** By what the receiver knows now: no block is read back for it. Blocks, ascending, apart. */
export async function knownLost(receiver: DamageSource, point: Point): Promise<BlockRange[]> {
  if (!(await isDamaged(receiver, point))) return [];
  const lost: BlockRange[] = [];
  const all: BlockRange = [0, blockCount(point.geometry)];
  for await (const event of receiver.check(point.id, [all], { known: true }))
    if (event.type === 'damaged') lost.push([event.start, event.end]);
  return mergeRanges(lost, []);
}

/** A receiver of a former version can't be asked: the restore finds out. */
async function isDamaged(receiver: DamageSource, point: Point): Promise<boolean> {
  try {
    return (await receiver.damage(point.device)).some(({ pointId }) => pointId === point.id);
  } catch (error) {
    if (isStillpointError(error) && error.permanent) return false;
    throw error;
  }
}

/** The receiver's store does not have the block, or not as the point has it. */
export function isLostBlock(error: unknown): boolean {
  return isStillpointError(error, 'store-damaged') || isStillpointError(error, 'bad-digest');
}

export class LostBlocks {
  readonly #point: Point;
  /** By what the receiver says beforehand; ascending, apart. */
  known: readonly BlockRange[] = [];
  /** Under nodes of the tree that can't be had. */
  readonly #missing: BlockRange[] = [];
  /** Found by fetching blocks. */
  readonly #late = new Set<number>();

  constructor(point: Point) {
    this.#point = point;
  }

  /** For a comparison of trees that goes on without what is lost. */
  get parts(): LostParts {
    return { isLost: isLostBlock, onLost: (range) => void this.#missing.push(range) };
  }

  add(blockIndex: number): void {
    this.#late.add(blockIndex);
  }

  get late(): readonly number[] {
    return [...this.#late].sort((a, b) => a - b);
  }

  /** What the target has zeros for. In bytes of the point, ascending, apart. */
  ranges(): LostRange[] {
    return inBytes(this.#point, mergeRanges(mergeRanges(inOrder(this.#missing), []), this.late));
  }

  /** What is known beforehand, for people; null: nothing. */
  describeKnown(): string | null {
    if (this.known.length === 0) return null;
    const ranges = inBytes(this.#point, this.known);
    const bytes = ranges.reduce((sum, { byteLength }) => sum + byteLength, 0);
    return `${bytes} bytes of ${pointLabel(this.#point)} are damaged in the store: ${describeRanges(ranges)}`;
  }

  /**
   * @param wanted blocks that are to be written
   * @throws StillpointError `store-damaged`: they would be zeros, and nothing else
   */
  throwIfNothingIsWhole(wanted: readonly BlockRange[]): void {
    const lost = mergeRanges(inOrder([...this.known, ...this.#missing]), []);
    const all: BlockRange = [0, blockCount(this.#point.geometry)];
    if (wanted.length === 0 || coverageOf(lost, all) !== 'all') return;
    throw new StillpointError('store-damaged', {
      thing: `point ${pointLabel(this.#point)}`,
      reason: 'the top of its tree is damaged in the store, so nothing of it can be proven',
      remedy: 'Nothing was written. Restore another point.',
    });
  }

  /**
   * Before the first byte is written, where damage is not to be skipped.
   * @param wanted blocks that are to be fetched
   * @throws StillpointError `store-damaged` if one of them can't be had
   */
  throwIfNeeded(wanted: readonly BlockRange[]): void {
    const needed = wanted.flatMap(([start, end]) => intersectRanges(this.known, start, end));
    if (needed.length === 0) return;
    const bytes = needed.reduce((sum, [start, end]) => sum + rangeBytes(this.#point.geometry, start, end), 0);
    throw new StillpointError('store-damaged', {
      thing: `point ${pointLabel(this.#point)}`,
      reason: `${bytes} bytes of it are damaged in the store: ${describeRanges(inBytes(this.#point, needed))}`,
      remedy:
        'Nothing was written. A backup of the device heals what the device still has. Otherwise restore another ' +
        'point, or all that is whole of this one with --skip-bad.',
    });
  }
}

function inOrder(ranges: readonly BlockRange[]): BlockRange[] {
  return [...ranges].sort((a, b) => a[0] - b[0]);
}

function inBytes({ geometry }: Point, ranges: readonly BlockRange[]): LostRange[] {
  return ranges.map(([start, end]) => ({
    byteOffset: start * geometry.blockSize,
    byteLength: rangeBytes(geometry, start, end),
  }));
}

/** `bytes 65536 to 131071, ...`: the last byte is part of the range. */
export function describeRanges(ranges: readonly LostRange[]): string {
  const named = ranges
    .slice(0, RANGES_NAMED_MAX)
    .map(({ byteOffset, byteLength }) => `bytes ${byteOffset} to ${byteOffset + byteLength - 1}`);
  const rest = ranges.length - named.length;
  return `${named.join(', ')}${rest > 0 ? ` and ${rest} more ranges` : ''}`;
}
