/**
 * The marking half of a collection: every digest that a point's tree or an open session's durable leaves
 * name goes into a LiveSet. Memory: that set, one path of a tree, a slice of a session's leaves.
 */
import { setImmediate } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import { type Point, pointLabel, treeOf } from '../../domain/point/point.js';
import { isNull, leafNodes } from '../../domain/tree/digest-tree.js';
import type { PointCatalog } from '../points/catalog.js';
import type { RecordReader } from '../records/record-reader.js';
import type { LiveSet } from './live-set.js';

/** Of 64 leaves, between two looks at the event loop. */
const NODES_PER_TURN = 64;

export interface MarkContext {
  readonly catalog: PointCatalog;
  readonly records: RecordReader;
  /** Before more is read. @throws to end the walk */
  readonly paced: (bytes: number) => Promise<void>;
}

/** A capture as a collection sees it. */
export interface PinningCapture {
  /** Packs that it made or relies on, as far as it knows since it is in memory. */
  pinnedPackIds(): Iterable<string>;
  /** The leaves of its durable batches, in pieces. None once it is committed: they are a point's then. */
  durableLeaves(): AsyncIterable<Buffer>;
}

/**
 * When it resolves, all points are marked that the catalog has at that moment, and in the same turn of the
 * event loop the caller can rely on that.
 * @param uncertain points that the catalog does not have, and that may exist. It is asked when the leaves of
 * open sessions are marked: a session whose commit fails later had its leaves marked, but one whose commit
 * failed meanwhile may have ended without them
 * @throws StillpointError `store-damaged` if a node can't be read: what is under it is not known, and may be
 * anything
 */
export async function markLive(
  context: MarkContext,
  captures: readonly PinningCapture[],
  uncertain: () => Promise<readonly Point[]>,
  live: LiveSet,
): Promise<void> {
  for (const capture of captures) {
    for await (const leaves of capture.durableLeaves()) {
      markLeaves(live, leaves);
      await context.paced(leaves.length);
    }
  }
  for (const point of await uncertain()) await markPoint(context, point, null, live);
  // A point that is removed meanwhile stays marked.
  const marked = new Set<string>();
  const lastOfDevice = new Map<string, Point>();
  for (;;) {
    const points = context.catalog.all().filter(({ id }) => !marked.has(id));
    if (points.length === 0) return;
    for (const point of points) {
      const device = `${point.agent}/${point.device}`;
      await markPoint(context, point, lastOfDevice.get(device) ?? null, live);
      marked.add(point.id);
      lastOfDevice.set(device, point);
    }
  }
}

/** @param marked a point of the same device, whose common subtrees need not be walked again */
async function markPoint(
  { records, paced }: MarkContext,
  point: Point,
  marked: Point | null,
  live: LiveSet,
): Promise<void> {
  let readBytes = 0;
  const readNodes = async (digests: readonly Uint8Array[]) => {
    for (const digest of digests) live.add(digest);
    const contents = await records.readNodes(digests, () => {
      throw nodeMissing(pointLabel(point));
    });
    for (const content of contents) readBytes += content?.length ?? 0;
    return contents;
  };
  let nodeCount = 0;
  for await (const { content } of leafNodes(treeOf(point), marked && treeOf(marked), readNodes)) {
    markLeaves(live, content);
    nodeCount += 1;
    if (nodeCount % NODES_PER_TURN === 0) await setImmediate();
    await paced(readBytes);
    readBytes = 0;
  }
  await paced(readBytes);
}

function markLeaves(live: LiveSet, leaves: Uint8Array): void {
  for (let at = 0; at < leaves.length; at += DIGEST_BYTES) {
    if (!isNull(leaves.subarray(at, at + DIGEST_BYTES))) live.add(leaves, at);
  }
}

function nodeMissing(label: string): StillpointError {
  return new StillpointError('store-damaged', {
    thing: label,
    reason: 'a node of its tree is missing in the store, so nobody knows which blocks it needs',
    remedy: 'Run "stillpoint verify". The next backup of the device heals it, or forget the point.',
  });
}
