/**
 * Sends everything in the view that differs from the base to the receiver. Afterwards it is known what the
 * view was worth, and which root it has.
 */
import type { Conclusion, TrackedChanges } from '../../capture/ports.js';
import { BATCH_RAW_BYTES_TARGET } from '../../domain/base/limits.js';
import { type BlockRange, mergeRanges } from '../../domain/blocks/block-ranges.js';
import type { BadRange } from '../../domain/point/point.js';
import { partsToScan, type ScanPart } from '../../domain/session/resume.js';
import { type LeafOverlay, native, type Scan } from '../../native/index.js';
import { retrying, throwIfCancelled } from '../common/cancel.js';
import { Pace } from '../common/pace.js';
import { concludeProven } from '../tree/second-reading.js';
import { BadBlockRepair } from './bad-block-repair.js';
import type { PreparedBase } from './base.js';
import type { BegunSession, SessionContext } from './context.js';
import { ChangesDoubted } from './doubts.js';
import { sendChanges } from './sender.js';
import type { SessionLink } from './session-link.js';

/**
 * Of changed blocks that are read and not encoded yet: some batches ahead of those that are being prepared.
 */
const SCAN_MEMORY_BYTES = 8 * BATCH_RAW_BYTES_TARGET;

export interface ScanTarget extends PreparedBase {
  /** Takes the leaves that differ from the tree. */
  readonly overlay: LeafOverlay;
}

/** All is durable at the receiver. */
export interface Transferred {
  readonly batchCount: number;
  readonly root: string;
  readonly overlay: LeafOverlay;
  readonly badRanges: readonly BadRange[];
  readonly conclusion: Omit<Conclusion, 'unproven'>;
}

/** @throws StillpointError, ChangesDoubted */
export async function transfer(
  context: SessionContext,
  session: BegunSession,
  target: ScanTarget,
): Promise<Transferred> {
  const { options, view } = context;
  const { link, answer } = session;
  const { tree, overlay } = target;
  const repair = new BadBlockRepair({
    receiver: retrying(context.receiver, link.signal),
    path: options.path,
    basePoint: answer.base,
    baseTree: tree,
    onWarning: (text) => context.warn(text),
    whyLost: async () => (await view.lost?.()) ?? null,
  });
  const batchCount = await scanAndSend(context, session, target, repair);
  const root = (await tree.rootWith(overlay)).toString('hex');
  const conclusion = await concludeProven({
    ...{ snapshot: view, path: options.path, fuzzy: options.fuzzy ?? false, onEvent: context.onEvent },
    ...{ tree, overlay, partlyRead: repair.partlyRead, scratchPath: `${overlay.path}.second` },
    ...{ signal: link.signal, watch: (scan) => context.watch(scan) },
  });
  return { batchCount, root, overlay, badRanges: repair.badRanges, conclusion };
}

/** @returns the number of the last batch */
async function scanAndSend(
  context: SessionContext,
  { link, answer }: BegunSession,
  target: ScanTarget,
  repair: BadBlockRepair,
): Promise<number> {
  context.onEvent({ type: 'phase', phase: 'scan' });
  const { tree: baseTree, overlay, differing } = target;
  const changes = context.view.tracking?.changes ?? null;
  const { meter = null, compressionLevel = 'auto', patch = 'auto' } = context.options;
  const pace = new Pace(meter, compressionLevel);
  const sending = {
    ...{ link, baseTree, overlay, repair, pace },
    patch: context.findings.sendsWholeBlocks ? ('never' as const) : patch,
    linkBytesPerSecond: meter === null ? undefined : () => pace.bytesPerSecond,
  };
  let lastSequence = answer.durableSequence;
  const durableBytes = answer.durableBlockEnd * baseTree.blockSize;
  for (const part of partsToScan(differing ?? rangesToScan(changes), answer, baseTree.blockCount)) {
    const { isDurable } = part;
    const scanning = { context, link, target, part, beforeBytes: isDurable ? 0 : durableBytes };
    lastSequence = await withScan(scanning, (scan) =>
      sendChanges({ ...sending, scan, lastSequence, isDurable }),
    );
  }
  if (changes !== null) checkSample(changes, overlay);
  return lastSequence;
}

interface Scanning {
  readonly context: SessionContext;
  readonly link: SessionLink;
  readonly target: ScanTarget;
  readonly part: ScanPart;
  /** What of the device lies before it. */
  readonly beforeBytes: number;
}

async function withScan<T>(
  { context, link, target, part: { ranges }, beforeBytes }: Scanning,
  use: (scan: Scan) => Promise<T>,
): Promise<T> {
  const scan = native.createScan(context.view.device, {
    ...{ base: target.tree, overlay: target.overlay },
    ...{ chunkBytes: BATCH_RAW_BYTES_TARGET, memoryBytes: SCAN_MEMORY_BYTES },
    ...(ranges === undefined ? {} : { ranges }),
  });
  const cancelScan = () => scan.cancel();
  link.signal.addEventListener('abort', cancelScan, { once: true });
  const stopWatching = context.watch(scan, beforeBytes);
  try {
    throwIfCancelled(context.signal);
    return await use(scan);
  } finally {
    stopWatching();
    link.signal.removeEventListener('abort', cancelScan);
    scan.cancel();
    await scan.close();
  }
}

/** What the scan reads. Undefined: everything. */
function rangesToScan(changes: TrackedChanges | null): readonly BlockRange[] | undefined {
  if (changes === null) return undefined;
  return mergeRanges(changes.ranges, changes.sample);
}

/**
 * After the scan: no block of the sample may differ from the base point.
 * @throws ChangesDoubted
 */
function checkSample(changes: TrackedChanges, overlay: LeafOverlay): void {
  const missed = changes.sample.filter((blockIndex) => overlay.get(blockIndex) !== null);
  if (missed.length === 0) return;
  throw new ChangesDoubted(
    `it missed a change: block ${missed[0]} differs from the last point (${missed.length} of ${changes.sample.length} blocks sampled)`,
  );
}
