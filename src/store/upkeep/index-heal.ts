/**
 * Brings the index up to date with packs/ and points/: incrementally when the store is opened, from nothing
 * if the index was lost. Memory: one pack's index, or one path of a tree.
 */

import { DIGEST_BYTES } from '../../domain/base/limits.js';
import { type Point, pointLabel, treeOf } from '../../domain/point/point.js';
import { isNull, leafNodes } from '../../domain/tree/digest-tree.js';
import { type Digester, RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import { isFull } from '../disk/disk.js';
import { packIdOf, packKey } from '../disk/layout.js';
import type { StoreIndex } from '../index/store-index.js';
import type { ObjectStore, StoredObject } from '../objects/object-store.js';
import { readPackEntries } from '../packs/contents.js';
import type { PointCatalog } from '../points/catalog.js';
import type { RecordReader } from '../records/record-reader.js';

/** Level-1 nodes whose leaves are entered at once. */
const NODES_PER_WRITE = 256;

/** Of the work that opening a store may need; `total` is known from the start. */
export interface OpenProgress {
  readonly step: 'copying manifests' | 'indexing packs' | 'walking points';
  readonly done: number;
  readonly total: number;
}

export interface HealContext {
  readonly objects: ObjectStore;
  readonly index: StoreIndex;
  readonly digester: Digester;
  readonly log: (message: string) => void;
  readonly onProgress: (progress: OpenProgress) => void;
}

/**
 * If a pack that the index knows is gone or has another size, nothing in the index is to be
 * believed: it is cleared.
 */
export async function dropLostPacks(context: HealContext, packs: readonly StoredObject[]): Promise<void> {
  const { index, log } = context;
  const sizes = new Map(packs.map(({ key, sizeBytes }) => [packIdOf(key), sizeBytes]));
  for (const [packId, { sizeBytes }] of index.packs()) {
    if (sizes.get(packId) === sizeBytes) continue;
    const what = sizes.has(packId) ? 'has another size than when it was written' : 'is gone';
    log(`pack ${packId} ${what}; the index is made again`);
    await index.clear();
    return;
  }
}

/**
 * Indexes packs that the index does not have. Where there is no room for that, those are left for later that
 * no point needs: a point is walked only when all its packs are in the index.
 */
export async function indexPacks(
  context: HealContext,
  catalog: PointCatalog,
  packs: readonly StoredObject[],
): Promise<void> {
  const { objects, index, log, onProgress } = context;
  const absent = packs.filter(({ key }) => {
    const packId = packIdOf(key);
    return packId !== null && !index.hasPack(packId);
  });
  for (const [i, { key, sizeBytes }] of absent.entries()) {
    onProgress({ step: 'indexing packs', done: i, total: absent.length });
    const packId = packIdOf(key);
    if (packId === null) continue;
    const { entries, salvaged } = await readPackEntries(objects, packId, context.digester);
    if (salvaged !== null) {
      log(
        `${packKey(packId)}: its index is damaged (${salvaged}); ${entries.length / 56} records were found without it`,
      );
    }
    try {
      await index.addPack(packId, sizeBytes, entries, { salvaged: salvaged !== null });
    } catch (error) {
      if (!isFull(error) || !catalog.all().every((point) => index.isWalked(point.id))) throw error;
      log(`${key} is not in the index yet, and no point needs it: ${String(error)}`);
    }
  }
  if (absent.length > 0) onProgress({ step: 'indexing packs', done: absent.length, total: absent.length });
}

/**
 * Enters the blocks of points that were not walked yet into what their devices hold. That saves sending them
 * again, no more: where it fails (a full disk), points can be restored all the same, and it is tried again
 * when the store is opened the next time.
 */
export async function walkPoints(
  context: HealContext,
  catalog: PointCatalog,
  records: RecordReader,
): Promise<void> {
  try {
    await walkAll(context, catalog, records);
  } catch (error) {
    context.log(`points were not walked to the end: ${String(error)}`);
  }
}

async function walkAll(context: HealContext, catalog: PointCatalog, records: RecordReader): Promise<void> {
  const { index, log, onProgress } = context;
  const points = catalog.all().filter((point) => !index.isWalked(point.id));
  for (const [i, point] of points.entries()) {
    onProgress({ step: 'walking points', done: i, total: points.length });
    const earlier = catalog.ofDevice(point).findLast(({ sequence }) => sequence < point.sequence);
    const isWhole = await holdPoint(index, records, point, earlier ?? null);
    if (isWhole) await index.markWalked(point.id);
    else log(`point ${pointLabel(point)}: a part of it is missing in the store`);
  }
  if (points.length > 0) onProgress({ step: 'walking points', done: points.length, total: points.length });
}

async function holdPoint(
  index: StoreIndex,
  records: RecordReader,
  point: Point,
  earlier: Point | null,
): Promise<boolean> {
  const deviceNumber = await index.deviceNumber(point);
  const unlike = earlier !== null && index.isWalked(earlier.id) ? treeOf(earlier) : null;
  const lostNodes: Buffer[] = [];
  const readNodes = (digests: readonly Uint8Array[]) =>
    records.readNodes(digests, (digest) => lostNodes.push(digest));
  let isWhole = true;
  let waiting: Buffer[] = [];
  const hold = async () => {
    const leaves = Buffer.concat(waiting);
    waiting = [];
    await index.hold(deviceNumber, leaves);
    isWhole = !(await markLost(index, RECORD_KIND_BLOCK, digestsOf(leaves))) && isWhole;
  };
  for await (const { content } of leafNodes(treeOf(point), unlike, readNodes)) {
    waiting.push(Buffer.from(content.buffer, content.byteOffset, content.length));
    if (waiting.length === NODES_PER_WRITE) await hold();
  }
  await hold();
  return !(await markLost(index, RECORD_KIND_NODE, lostNodes)) && isWhole;
}

/** Remembers those that no pack has, so that no session builds on them. True if there are any. */
async function markLost(index: StoreIndex, kind: number, digests: Iterable<Buffer>): Promise<boolean> {
  let found = false;
  for (const digest of digests) {
    if (index.locate(digest, kind) !== null) continue;
    found = true;
    await index.markLost(digest, kind);
  }
  return found;
}

function* digestsOf(leaves: Buffer): Generator<Buffer> {
  for (let at = 0; at < leaves.length; at += DIGEST_BYTES) {
    const digest = leaves.subarray(at, at + DIGEST_BYTES);
    if (!isNull(digest)) yield digest;
  }
}
