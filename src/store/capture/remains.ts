/** What an open capture relies on (for a collection), and what it leaves when it ends without a point. */
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import type { CaptureDescription } from '../port/store.js';
import type { StoreContext } from './context.js';
import { loggedPackIds } from './recovery.js';
import type { CaptureStaging } from './staging.js';

/** Nodes of the overlay whose leaves are given at once. */
const NODES_PER_SLICE = 256;
/** Of a node of the overlay, before its leaves. */
const PRESENCE_BYTES = 8;

/** Packs that it made, and those that it relies on since it is in memory. */
export function* packIdsOf(staging: CaptureStaging | null): Generator<string> {
  if (staging === null) return;
  yield* staging.packIds;
  yield* staging.pinnedPackIds;
}

/**
 * Leaves under some nodes from this one on, and the node to go on with, -1 at the end. NULL in place of
 * blocks that are in no indexed pack yet: no other pack is needed for them.
 */
export function sliceOfLeaves(staging: CaptureStaging, from: number): { leaves: Buffer; next: number } {
  const { overlay } = staging;
  const slices: Buffer[] = [];
  let at = overlay.nextNode(from);
  for (; at !== -1 && slices.length < NODES_PER_SLICE; at = overlay.nextNode(at + 1)) {
    slices.push(overlay.node(at).subarray(PRESENCE_BYTES));
  }
  const leaves = Buffer.concat(slices);
  for (let i = 0; i < leaves.length; i += DIGEST_BYTES) {
    const leaf = leaves.subarray(i, i + DIGEST_BYTES);
    if (staging.isStaged(leaf)) leaf.fill(0);
  }
  return { leaves, next: at };
}

/**
 * Writes down which packs an ending capture leaves. Before it ends, so that they are known whatever happens.
 * That it can't be written is no reason to keep a full disk full: then the packs stay.
 * @param staging null: it could not be recovered, and its log tells what there is of it
 */
export async function recordRemains(
  context: StoreContext,
  description: CaptureDescription,
  staging: CaptureStaging | null,
  lastActivityAt: Date,
): Promise<void> {
  const { partials, index, now, log } = context;
  const { agent, device, sessionId, begunAt = null } = description;
  try {
    const packIds = [...(staging?.packIds ?? (await loggedPackIds(context, sessionId)))];
    if (packIds.length === 0) return;
    await context.upgrade();
    const sizeOf = (packId: string) => index.packs().get(packId)?.sizeBytes ?? 0;
    await partials.add({
      ...{ agent, device, sessionId, begunAt, packIds },
      lastActivityAt: lastActivityAt.toISOString(),
      endedAt: now().toISOString(),
      durableBytes: staging?.storedBytes ?? packIds.reduce((sum, packId) => sum + sizeOf(packId), 0),
    });
  } catch (error) {
    log(`session ${sessionId} of ${device}: what it delivered is not recorded: ${String(error)}`);
    // Its packs are nobody's then.
    await index.noteGarbage().catch((reason) => log(`it is not collected yet: ${String(reason)}`));
  }
}
