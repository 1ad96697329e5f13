/**
 * Which points need records that are known to be damaged and that no copy stands in for: by their trees and
 * the index alone, nothing is read back. Points of a device share most of their trees, and what they share is
 * walked once.
 */
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import {
  type BlockRange,
  intersectRanges,
  mergeRanges,
  rangeBytes,
} from '../../domain/blocks/block-ranges.js';
import { sameGeometry } from '../../domain/blocks/geometry.js';
import { type Point, pointsByDevice, treeOf } from '../../domain/point/point.js';
import {
  isNull,
  type LeafNode,
  type LostLeaves,
  leafParts,
  type ReadNodes,
} from '../../domain/tree/digest-tree.js';
import { RECORD_KIND_BLOCK } from '../../native/index.js';
import type { BadRecord, RecordIndex } from '../index/record-index.js';
import type { DamagedPoint } from '../port/store.js';
import type { RecordReader } from '../records/record-reader.js';
import type { ScrubBook } from './scrub-book.js';

interface DamageContext {
  readonly index: RecordIndex;
  readonly records: RecordReader;
}

/** Damage that an index that was made again does not know. */
export async function enterDamage(book: Pick<ScrubBook, 'damages'>, index: RecordIndex): Promise<void> {
  for (const { packId, offset, digest, kind } of book.damages()) {
    const number = index.packs().get(packId)?.number;
    const bytes = Buffer.from(digest, 'hex');
    if (number === undefined || index.isBad(number, offset, bytes)) continue;
    await index.markBad(number, offset, bytes, kind);
  }
}

/** Copies that a pack has are found and used from now on. @returns the records that have none */
export async function openDamage({ index, records }: DamageContext): Promise<BadRecord[]> {
  const open: BadRecord[] = [];
  for (const bad of [...index.badPlaces()]) {
    if (index.locate(bad.digest, bad.kind) !== null) continue;
    const [located] = await records.locate(bad.kind, [bad.digest]);
    if (!located) open.push(bad);
  }
  return open;
}

/**
 * Remembers by device what was found: it is walked again only if its points have changed since, or damage
 * has. A walk reads all nodes of a device's trees.
 */
export class DamageFinder {
  readonly #context: DamageContext;
  readonly #found = new Map<string, { readonly key: string; readonly points: readonly DamagedPoint[] }>();
  /** One after the other: those who ask meanwhile find what the one before them found. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(context: DamageContext) {
    this.#context = context;
  }

  /** @param points by device, then sequence */
  find(points: readonly Point[]): Promise<readonly DamagedPoint[]> {
    const finding = this.#last.then(() => this.#find(points));
    this.#last = finding.catch(() => undefined);
    return finding;
  }

  async #find(points: readonly Point[]): Promise<readonly DamagedPoint[]> {
    const { index } = this.#context;
    if ((await openDamage(this.#context)).length === 0) return [];
    const places = [...index.badPlaces()].map(
      ({ packNumber, offset, digest, kind }) =>
        `${packNumber} ${offset} ${index.locate(digest, kind) === null}`,
    );
    const damaged: DamagedPoint[] = [];
    const devices = pointsByDevice(points);
    for (const [name, ofDevice] of devices) {
      const key = `${places.join()};${ofDevice.map(({ id }) => id).join()}`;
      const known = this.#found.get(name);
      const found = known?.key === key ? known.points : await findInDevice(ofDevice, this.#context);
      this.#found.set(name, { key, points: found });
      damaged.push(...found);
    }
    for (const name of this.#found.keys()) if (!devices.has(name)) this.#found.delete(name);
    return damaged;
  }
}

/** @param points of one device, by sequence */
async function findInDevice(points: readonly Point[], context: DamageContext): Promise<DamagedPoint[]> {
  const found: DamagedPoint[] = [];
  let earlier: { readonly point: Point; readonly ranges: readonly BlockRange[] } | null = null;
  for (const point of points) {
    const isLike = earlier !== null && sameGeometry(earlier.point.geometry, point.geometry);
    const ranges = await damagedRanges(point, isLike ? earlier : null, context);
    earlier = { point, ranges };
    if (ranges.length === 0) continue;
    const sum = (of: (range: BlockRange) => number) => ranges.reduce((total, range) => total + of(range), 0);
    found.push({
      point,
      blockCount: sum(([start, end]) => end - start),
      byteCount: sum(([start, end]) => rangeBytes(point.geometry, start, end)),
    });
  }
  return found;
}

/** What is new since the earlier point, and what of its damage this point still has. */
async function damagedRanges(
  point: Point,
  earlier: { readonly point: Point; readonly ranges: readonly BlockRange[] } | null,
  context: DamageContext,
): Promise<BlockRange[]> {
  const tree = treeOf(point);
  const readNodes: ReadNodes = (digests) => context.records.readNodes(digests, () => undefined);
  const added = leafParts(tree, earlier && treeOf(earlier.point), readNodes);
  const damaged = await damagedIn(added, context);
  if (earlier !== null && earlier.ranges.length > 0) {
    const { ranges } = earlier;
    const isWanted = (start: number, end: number) => intersectRanges(ranges, start, end).length > 0;
    damaged.push(...(await damagedIn(leafParts(tree, null, readNodes, isWanted), context)));
  }
  return mergeRanges(
    damaged.sort((a, b) => a[0] - b[0]),
    [],
  );
}

async function damagedIn(
  parts: AsyncIterable<LeafNode | LostLeaves>,
  { index }: DamageContext,
): Promise<BlockRange[]> {
  const damaged: BlockRange[] = [];
  for await (const part of parts) {
    if (!('content' in part)) {
      damaged.push([part.start, part.end]);
      continue;
    }
    const { blockIndex, content } = part;
    for (let at = 0; at < content.length; at += DIGEST_BYTES) {
      const leaf = content.subarray(at, at + DIGEST_BYTES);
      const block = blockIndex + at / DIGEST_BYTES;
      if (!isNull(leaf) && index.locate(leaf, RECORD_KIND_BLOCK) === null) damaged.push([block, block + 1]);
    }
  }
  return damaged;
}
