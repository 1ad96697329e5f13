/**
 * The commit of a capture, in the order of docs/format.md section 6: everything that the point needs
 * first, its manifest last.
 */

import { setImmediate } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { DIGEST_BYTES, MiB } from '../../domain/base/limits.js';
import { blockLength } from '../../domain/blocks/geometry.js';
import { type Point, pointLabel, treeOf } from '../../domain/point/point.js';
import type { CommitRequest } from '../../domain/session/messages.js';
import {
  type ChangedLeaves,
  isNull,
  leafNodes,
  type Tree,
  updateTree,
} from '../../domain/tree/digest-tree.js';
import { native, PACK_KIND_TREE, RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import { pointKey } from '../disk/layout.js';
import { digestKey, PACK_ENTRY_BYTES, RECORD_HEADER_BYTES } from '../packs/entries.js';
import { PackWriter } from '../packs/writer.js';
import { encodeManifest } from '../points/manifest.js';
import { copyManifest, readManifest } from '../points/manifest-files.js';
import type { CaptureDescription } from '../port/store.js';
import type { RecordReader } from '../records/record-reader.js';
import type { StoreContext } from './context.js';
import { type CaptureStaging, publishPack } from './staging.js';

const FLUSH_BYTES = MiB;
const NODES_PER_TURN = 64;
/** Missing blocks that an error names. */
const NAMED_BLOCKS_MAX = 5;
/** Missing blocks that are looked for in all packs; where more are missing, they are not there. */
const MISSING_LOOKED_FOR_MAX = 4096;

interface MissingLeaf {
  readonly blockIndex: number;
  readonly digest: Buffer;
}

/** All is stored that the point needs; only its manifest is missing. */
export interface PreparedPoint {
  readonly point: Point;
  readonly base: Point | null;
}

/**
 * @throws StillpointError `base-mismatch`, `bad-batch` (a block is missing), `root-mismatch`: the capture is
 * as it was. Anything else: not known, ask again.
 */
export async function preparePoint(
  context: StoreContext,
  staging: CaptureStaging,
  description: CaptureDescription,
  request: CommitRequest,
): Promise<PreparedPoint> {
  const { catalog, index } = context;
  await context.upgrade();
  const base = baseOf(context, description);
  await staging.drain();
  const { top, treeBytes } = await buildTree(context, staging, description, base);
  const root = context.digester
    .rootDigest(description.geometry.sizeBytes, description.geometry.blockSize, top)
    .toString('hex');
  if (root !== request.root) {
    throw new StillpointError('root-mismatch', {
      thing: `session ${description.sessionId} of ${description.device}`,
      reason: `its blocks give root ${root}, but its agent says ${request.root}`,
      remedy: 'Begin another session; the agent then compares with what the store holds.',
    });
  }
  if (index.hasUnhealed()) await checkWhole(context, description, { geometry: description.geometry, top });

  const { geometry, identity } = description;
  const point: Point = {
    id: description.sessionId,
    agent: description.agent,
    device: description.device,
    sequence: catalog.nextSequence(description),
    baseSequence: base?.sequence ?? null,
    geometry,
    identity,
    root,
    top: Buffer.from(top).toString('hex'),
    kind: request.kind,
    provider: request.provider,
    providerFacts: request.providerFacts,
    instant: request.instant,
    committedAt: context.commitTime().toISOString(),
    statistics: request.statistics,
    storedBytes: staging.storedBytes + treeBytes,
    badRanges: request.badRanges,
    ...(request.excluded === undefined ? {} : { excluded: request.excluded }),
    warnings: request.warnings,
    ...(request.journal === undefined ? {} : { journal: request.journal }),
  };
  return { point, base };
}

/** The commit point of a session that becomes a point by itself. */
export async function publishPoint(
  context: StoreContext,
  { point, base }: PreparedPoint,
  description: CaptureDescription,
): Promise<Point> {
  const { catalog, objects, log } = context;
  const key = pointKey(point, point.sequence);
  const manifest = encodeManifest(point);
  const committed = (await objects.put(key, manifest)) ? point : await existingPoint(context, key, point);
  catalog.add(committed, manifest.length);
  if (committed.id !== point.id) {
    throw baseMismatch(description, `${pointLabel(committed)} was committed meanwhile`);
  }
  // The point is there. A copy that can't be made now is made at the next opening.
  await copyManifest(objects, key).catch((error) => log(`copy of manifest ${key}: ${String(error)}`));
  await markHeld(context, { point, base });
  return committed;
}

/** All its blocks are held: the session's since they came, the base's since that was walked. */
export async function markHeld(
  { index, log }: Pick<StoreContext, 'index' | 'log'>,
  { point, base }: PreparedPoint,
): Promise<void> {
  if (base !== null && !index.isWalked(base.id)) return;
  // The point is there; that it is not marked costs a walk at the next opening.
  await index.markWalked(point.id).catch((error) => log(`${pointLabel(point)}: ${String(error)}`));
}

/**
 * The manifest under the name is there already: this session's, if an earlier try
 * failed after its last rename.
 */
async function existingPoint(context: StoreContext, key: string, point: Point): Promise<Point> {
  const sizeBytes = (await context.objects.size(key)) ?? 0;
  const found = await readManifest(context.objects, key, sizeBytes);
  if (!('reason' in found)) return found;
  throw new StillpointError('store-damaged', {
    thing: `manifest ${key}`,
    reason: `it is in the place of ${pointLabel(point)} and can't be read: ${found.reason}`,
  });
}

function baseOf({ catalog }: StoreContext, description: CaptureDescription): Point | null {
  if (description.basePointId === null) return null;
  const base = catalog.byId(description.basePointId);
  const last = catalog.ofDevice(description).at(-1);
  if (base !== undefined && base === last) return base;
  throw baseMismatch(description, 'its base is no longer the last point of the device');
}

function baseMismatch(description: CaptureDescription, reason: string): StillpointError {
  return new StillpointError('base-mismatch', {
    thing: `session ${description.sessionId} of ${description.device}`,
    reason,
    remedy: 'Begin another session.',
  });
}

/** Stores the nodes that the new tree has and the store has not. */
async function buildTree(
  context: StoreContext,
  staging: CaptureStaging,
  description: CaptureDescription,
  base: Point | null,
): Promise<{ top: Uint8Array; treeBytes: number }> {
  const { disk, index, reader, randomId } = context;
  const missing: MissingLeaf[] = [];
  let missingCount = 0;
  let nodeCount = 0;
  let treeBytes = 0;
  let pack: PackWriter | null = null;

  async function putNode(digest: Uint8Array, content: Uint8Array): Promise<void> {
    nodeCount += 1;
    // Also those that another device has: see CaptureStaging.storedBytes.
    treeBytes += RECORD_HEADER_BYTES + content.length + PACK_ENTRY_BYTES;
    if (nodeCount % NODES_PER_TURN === 0) await setImmediate();
    const bytes = Buffer.from(digest.buffer, digest.byteOffset, digest.length);
    if (pack?.rawLength(digestKey(bytes)) !== undefined) return;
    const located = index.locate(bytes, RECORD_KIND_NODE);
    if (located !== null) return staging.pin(located.packId);
    pack ??= await PackWriter.create(disk, staging.dir, randomId(), PACK_KIND_TREE);
    pack.add(
      bytes,
      content.length,
      0,
      RECORD_KIND_NODE,
      native.encodeRecord(RECORD_KIND_NODE, bytes, content, 0),
    );
    if (pack.unwrittenBytes >= FLUSH_BYTES) await pack.flush();
    if (pack.isFull(context.packBytesTarget)) {
      await publishPack(context, pack);
      pack = null;
    }
  }

  function onNewLeaf(blockIndex: number, digest: Uint8Array): void {
    const located = index.locate(digest, RECORD_KIND_BLOCK);
    if (located !== null) staging.pin(located.packId);
    if (located?.rawLength === blockLength(description.geometry, blockIndex)) return;
    missingCount += 1;
    if (missing.length < MISSING_LOOKED_FOR_MAX) missing.push({ blockIndex, digest: Buffer.from(digest) });
  }

  const changes: ChangedLeaves = staging.overlay;
  try {
    const top = await updateTree({
      base: base === null ? null : treeOf(base),
      geometry: description.geometry,
      changes,
      readNodes: base === null ? async () => [] : reader.readNodesOf(base),
      hashNode: (content) => context.digester.nodeDigest(content),
      putNode,
      onNewLeaf,
    });
    const lost =
      missingCount > missing.length ? missing : await reallyMissing(context, staging, description, missing);
    if (lost.length > 0) {
      const named = lost.slice(0, NAMED_BLOCKS_MAX).map(({ blockIndex }) => blockIndex);
      throw new StillpointError('bad-batch', {
        thing: `session ${description.sessionId} of ${description.device}`,
        reason: `${Math.max(missingCount - missing.length, 0) + lost.length} blocks are missing in the store: ${named.join(', ')}${lost.length > named.length ? ', …' : ''}`,
        remedy: 'Send them again.',
      });
    }
    const last = pack as PackWriter | null;
    pack = null;
    if (last !== null) await publishPack(context, last);
    return { top, treeBytes };
  } catch (error) {
    const unfinished = pack as PackWriter | null;
    await unfinished?.close().catch(() => undefined);
    if (unfinished !== null) await disk.remove(unfinished.path).catch(() => undefined);
    throw error;
  }
}

/**
 * The index names one place of a block; where that place was collected, or is damaged, another pack
 * may have the block still.
 */
async function reallyMissing(
  { index, records }: StoreContext,
  staging: CaptureStaging,
  { geometry }: CaptureDescription,
  leaves: readonly MissingLeaf[],
): Promise<MissingLeaf[]> {
  if (leaves.length === 0) return [];
  await records.locate(
    RECORD_KIND_BLOCK,
    leaves.map(({ digest }) => digest),
  );
  return leaves.filter(({ blockIndex, digest }) => {
    // Looked for again: a collection may have gone on since, and a pack counts from its pinning on.
    const at = index.locate(digest, RECORD_KIND_BLOCK);
    if (at !== null) staging.pin(at.packId);
    return at?.rawLength !== blockLength(geometry, blockIndex);
  });
}

/** Damage is known in the store: none of it may be in the new point. */
async function checkWhole(context: StoreContext, description: CaptureDescription, tree: Tree): Promise<void> {
  const lost = await firstLostPart(context, tree);
  if (lost === null) return;
  throw baseMismatch(description, `${lost} of its base is damaged in the store`);
}

/** Names a part of the tree that the store can't give, as far as is known; null if there is none. */
export async function firstLostPart(
  { index, records }: { readonly index: StoreContext['index']; readonly records: RecordReader },
  tree: Tree,
): Promise<string | null> {
  let lostNode = false;
  const readNodes = (digests: readonly Uint8Array[]) =>
    records.readNodes(digests, () => {
      lostNode = true;
    });
  for await (const { blockIndex, content } of leafNodes(tree, null, readNodes)) {
    for (let at = 0; at < content.length; at += DIGEST_BYTES) {
      const leaf = content.subarray(at, at + DIGEST_BYTES);
      if (!isNull(leaf) && index.locate(leaf, RECORD_KIND_BLOCK) === null) {
        return `block ${blockIndex + at / DIGEST_BYTES}`;
      }
    }
    if (lostNode) break;
  }
  return lostNode ? 'a part of the tree' : null;
}
