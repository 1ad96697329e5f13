/** Which points of a device lack a part, as far as the index knows of damage. Nothing is read but trees. */
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import { type Point, treeOf } from '../../domain/point/point.js';
import { isNull, leafNodes } from '../../domain/tree/digest-tree.js';
import { RECORD_KIND_BLOCK } from '../../native/index.js';
import type { StoreIndex } from '../index/store-index.js';
import type { RecordReader } from '../records/record-reader.js';

export interface DamageContext {
  readonly index: StoreIndex;
  readonly records: RecordReader;
}

/** @param points of one device, by sequence: what a point shares with the one before is looked at once */
export async function damagedPoints(
  context: DamageContext,
  points: readonly Point[],
): Promise<ReadonlySet<string>> {
  const damaged = new Set<string>();
  if (!context.index.hasUnhealed()) return damaged;
  let whole: Point | null = null;
  for (const point of points) {
    if (await isWhole(context, point, whole)) whole = point;
    else damaged.add(point.id);
  }
  return damaged;
}

async function isWhole(
  { index, records }: DamageContext,
  point: Point,
  like: Point | null,
): Promise<boolean> {
  let lostNode = false;
  const readNodes = (digests: readonly Uint8Array[]) =>
    records.readNodes(digests, () => {
      lostNode = true;
    });
  for await (const { content } of leafNodes(treeOf(point), like === null ? null : treeOf(like), readNodes)) {
    if (lostNode) return false;
    for (let from = 0; from < content.length; from += DIGEST_BYTES) {
      const leaf = content.subarray(from, from + DIGEST_BYTES);
      if (!isNull(leaf) && index.locate(leaf, RECORD_KIND_BLOCK) === null) return false;
    }
  }
  return !lostNode;
}
