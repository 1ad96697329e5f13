/** A comparison that a receiver orders: what is wanted, and what is told of what was found. Pure. */
import type { ConsistencyKind } from '../point/point.js';

/** Of the device with its last point. */
export interface CompareWish {
  /** The receiver digests its stored bytes again. */
  readonly deep: boolean;
  /** The differences become a new point. */
  readonly ship: boolean;
}

export interface ComparedRange {
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly what: 'differs' | 'unreadable' | 'damaged';
  readonly reason?: string;
}

export interface Comparison {
  /** The first of them, up to COMPARED_RANGES_MAX. */
  readonly ranges: readonly ComparedRange[];
  /** All of them. */
  readonly rangeCount: number;
  /** Null: it was not compared, since the receiver has lost parts of the point. */
  readonly differingBlocks: number | null;
  /** Of the device. */
  readonly unreadableBlocks: number;
  /** At the receiver; only looked for with `deep`. */
  readonly damagedBlocks: number;
  readonly deviceSizeBytes: number;
  readonly scannedBytes: number;
  readonly wireBytes: number;
  readonly kind: ConsistencyKind;
  /** The id of the point that the device was compared with. */
  readonly comparedId: string;
}

export function isSameWish(a: CompareWish | undefined, b: CompareWish | undefined): boolean {
  return a?.deep === b?.deep && a?.ship === b?.ship;
}
