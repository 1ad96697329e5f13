/**
 * Which of some packs are needed: by points, whose trees are walked, or by open captures. A pack counts as
 * needed for a block if the index says that the block is in it, even if there are other copies. So a pack
 * that is not needed can be removed without a look at anything else.
 *
 * Memory: one path of a tree, and the numbers of the packs that are asked about.
 */
import { setImmediate } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import { type Point, pointLabel, treeOf } from '../../domain/point/point.js';
import { isNull, leafNodes } from '../../domain/tree/digest-tree.js';
import { RECORD_KIND_BLOCK } from '../../native/index.js';
import type { StoreIndex } from '../index/store-index.js';
import type { PointCatalog } from '../points/catalog.js';
import type { RecordReader } from '../records/record-reader.js';

const NODES_PER_TURN = 64;

export interface NeedContext {
  readonly index: StoreIndex;
  readonly records: RecordReader;
  readonly catalog: PointCatalog;
  /** @throws to end the walk */
  readonly checkStopped: () => void;
}

/**
 * Takes the packs that points need out of `candidates`.
 * @param candidates numbers of packs
 * @throws StillpointError `store-damaged` if a part of a point can't be found: then any pack may have the
 * last copy of it
 */
export async function spareForPoints(
  context: NeedContext,
  points: readonly Point[],
  candidates: Set<number>,
): Promise<void> {
  const { records, catalog } = context;
  for (const point of points) {
    const earlier = catalog.ofDevice(point).findLast(({ sequence }) => sequence < point.sequence) ?? null;
    const readNodes = (digests: readonly Uint8Array[]) =>
      records.readNodes(digests, () => {
        throw partsMissing(pointLabel(point));
      });
    let nodeCount = 0;
    for await (const { content } of leafNodes(treeOf(point), earlier && treeOf(earlier), readNodes)) {
      await visitLeaves(context, content, pointLabel(point), (packNumber) => candidates.delete(packNumber));
      if (candidates.size === 0) return;
      nodeCount += 1;
      if (nodeCount % NODES_PER_TURN === 0) await setImmediate();
      context.checkStopped();
    }
  }
}

/** @param onNeeded gets the number of each leaf's pack */
export async function visitLeaves(
  { index, records }: Pick<NeedContext, 'index' | 'records'>,
  leaves: Uint8Array,
  label: string,
  onNeeded: (packNumber: number) => void,
): Promise<void> {
  const absent: Buffer[] = [];
  for (let at = 0; at < leaves.length; at += DIGEST_BYTES) {
    const digest = leaves.subarray(at, at + DIGEST_BYTES);
    if (isNull(digest)) continue;
    const located = index.locate(digest, RECORD_KIND_BLOCK);
    if (located === null) absent.push(Buffer.from(digest));
    else onNeeded(located.packNumber);
  }
  if (absent.length === 0) return;
  for (const located of await records.locate(RECORD_KIND_BLOCK, absent)) {
    if (located === null) throw partsMissing(label);
    onNeeded(located.packNumber);
  }
}

function partsMissing(label: string): StillpointError {
  return new StillpointError('store-damaged', {
    thing: label,
    reason: 'a part of it is missing in the store, and any pack may have the last copy',
    remedy: 'Run "stillpoint verify".',
  });
}
