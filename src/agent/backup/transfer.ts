/**
 * Sends everything in the view that differs from the base to the receiver. Afterwards it is known what the
 * view was worth, and which root it has.
 *
 * A static view is read once. Of a late one the device itself is read in passes while it changes, and then,
 * at the instant, what is left. The receiver keeps what it was sent last of each block, and so does the
 * overlay: after the last part both hold the device as it was at the instant.
 */
import type { Conclusion, Snapshot, TrackedChanges } from '../../capture/ports.js';
import { type BlockRange, mergeRanges } from '../../domain/blocks/block-ranges.js';
import type { BadRange } from '../../domain/point/point.js';
import type { LeafOverlay } from '../../native/index.js';
import { concludeProven } from '../tree/second-reading.js';
import type { BegunSession, SessionContext } from './context.js';
import {
  checkLeftOut,
  type Emptied,
  isLeftOut,
  type LeftOut,
  openEmptied,
  withoutLeftOut,
} from './exclusion.js';
import { ChangesDoubted } from './findings.js';
import type { Passing } from './passing.js';
import { type ScanTarget, Sending } from './sending.js';

/** All is durable at the receiver. */
export interface Transferred {
  readonly batchCount: number;
  readonly root: string;
  /** Of blocks that differ from the base. */
  readonly changedBytes: number;
  readonly badRanges: readonly BadRange[];
  /** The static view; of a late one what was left at its instant. */
  readonly view: Snapshot;
  readonly conclusion: Omit<Conclusion, 'unproven'>;
}

export interface TransferTarget extends ScanTarget {
  /** Of a late view; null: it is static. */
  readonly passing: Passing | null;
}

/** @throws StillpointError, ChangesDoubted */
export async function transfer(
  context: SessionContext,
  session: BegunSession,
  target: TransferTarget,
): Promise<Transferred> {
  const { tree, overlay, passing } = target;
  const sending = new Sending(context, session, target);
  const emptied = await emptiedOf(context, target);
  context.onEvent({ type: 'phase', phase: 'scan' });
  try {
    const view =
      passing === null
        ? await sendStatic(context, sending, target)
        : await sendInPasses(context, sending, target, passing);
    if (emptied !== null) await sending.sendEmptied(emptied);
    const [root, changedBytes] = await Promise.all([tree.rootWith(overlay), tree.differingBytes(overlay)]);
    const conclusion =
      passing === null
        ? await concludeStatic(context, session, { ...target, emptied }, sending)
        : await concludeLate(context, sending);
    await checkLeftOut(context.options.path, context.leftOut, context.plan.blockSize);
    const { batchCount, badRanges } = sending;
    return { batchCount, root: root.toString('hex'), changedBytes, badRanges, view, conclusion };
  } finally {
    await emptied?.device.close();
  }
}

function emptiedOf(
  { leftOut, name }: SessionContext,
  { tree, overlay }: ScanTarget,
): Promise<Emptied | null> {
  const inMemory = `/dev/shm/stillpoint-empty-${name.sessionId}`;
  return openEmptied(leftOut, tree, [`${overlay.path}.empty`, inMemory]);
}

async function sendStatic(
  { view, leftOut, size }: SessionContext,
  sending: Sending,
  { overlay, differing }: ScanTarget,
): Promise<Snapshot> {
  const changes = view.tracking?.changes ?? null;
  const isAsExpected = sampleCheck(sampleOf(changes?.sample ?? [], leftOut), overlay, sending);
  const ranges = differing ?? (changes === null ? undefined : rangesToRead(changes));
  await sending.send(view.device, withoutLeftOut(ranges, leftOut, size));
  isAsExpected();
  return view;
}

/** @returns the view of what was left at the instant. */
async function sendInPasses(
  context: SessionContext,
  sending: Sending,
  { overlay, differing }: ScanTarget,
  passing: Passing,
): Promise<Snapshot> {
  const { onEvent, view, leftOut, size } = context;
  for (;;) {
    const ranges = await passing.next(differing);
    if (ranges !== null) {
      await sending.sendPass(view.device, withoutLeftOut(ranges, leftOut, size) ?? ranges);
      continue;
    }
    onEvent({ type: 'phase', phase: 'snapshot' });
    const taken = await passing.take();
    onEvent({ type: 'phase', phase: 'scan' });
    if (taken === null) continue;
    const changes = taken.tracking?.changes ?? null;
    if (changes === null) throw new Error(`${context.options.path}: nobody knows what is left to read of it`);
    const isAsExpected = sampleCheck(sampleOf(changes.sample, leftOut), overlay, sending);
    await sending.send(taken.device, withoutLeftOut(rangesToRead(changes), leftOut, size));
    isAsExpected();
    return taken;
  }
}

/** Of a block that is left out the base has nothing to compare with. */
function sampleOf(sample: readonly number[], leftOut: LeftOut | null): number[] {
  return sample.filter((blockIndex) => !isLeftOut(leftOut, blockIndex));
}

function rangesToRead({ ranges, sample }: TrackedChanges): BlockRange[] {
  return mergeRanges(ranges, sample);
}

/**
 * Before the last scan. @returns what is called after it: no block of the sample may differ from the base
 * point, or from what was sent of it before. It throws ChangesDoubted. A block with sectors that can't be
 * read now, or could not in an earlier pass, says nothing: a sector can turn bad or good without a write.
 */
function sampleCheck(sample: readonly number[], overlay: LeafOverlay, { repair }: Sending): () => void {
  const whole = sample.filter((blockIndex) => !repair.isBad(blockIndex));
  const before = whole.map((blockIndex) => overlay.get(blockIndex));
  return () => {
    const missed = whole.filter((blockIndex, i) => {
      const now = overlay.get(blockIndex);
      const isSame = now === null ? before[i] === null : before[i]?.equals(now) === true;
      return !isSame && !repair.isBad(blockIndex);
    });
    if (missed.length === 0) return;
    throw new ChangesDoubted(
      `it missed a change: block ${missed[0]} differs from the last point (${missed.length} of ${sample.length} blocks sampled)`,
    );
  };
}

function concludeStatic(
  context: SessionContext,
  { link }: BegunSession,
  { tree, overlay, emptied }: ScanTarget & { readonly emptied: Emptied | null },
  { repair: { partlyRead } }: Sending,
): Promise<Omit<Conclusion, 'unproven'>> {
  const { options, view, onEvent, leftOut, size } = context;
  return concludeProven({
    ...{ ranges: withoutLeftOut(undefined, leftOut, size), emptied },
    ...{ snapshot: view, path: options.path, fuzzy: options.fuzzy ?? false, onEvent },
    ...{ tree, overlay, partlyRead, scratchPath: `${overlay.path}.second` },
    ...{ signal: link.signal, watch: (scan) => context.watch(scan) },
  });
}

/** What is left at an instant is read once: nothing of it can be proven by a second reading. */
async function concludeLate(
  { options, view }: SessionContext,
  sending: Sending,
): Promise<Omit<Conclusion, 'unproven'>> {
  const { unproven, ...concluded } = await view.conclude();
  if (unproven !== undefined)
    throw new Error(`${options.path}: its instant must not be unproven: ${unproven}`);
  return { ...concluded, facts: { ...concluded.facts, ...sending.facts } };
}
