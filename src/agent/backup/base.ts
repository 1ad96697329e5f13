/** Carries out what src/domain/session/plan.ts decided: afterwards the local tree is the session's base, in the device's geometry. */

import { StillpointError } from '../../domain/base/errors.js';
import { type BlockRange, mergeRanges } from '../../domain/blocks/block-ranges.js';
import type { BlockSet } from '../../domain/blocks/block-set.js';
import { blockCount, type Geometry } from '../../domain/blocks/geometry.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { BasePlan, LocalBase } from '../../domain/session/plan.js';
import { type Device, native, type Scan, type TreeFile } from '../../native/index.js';
import type { NodeSource } from '../../protocol/port/point.js';
import type { OnAgentEvent } from '../common/events.js';
import type { DeviceState } from '../state/device-state.js';
import { digestDevice, treeInGeometry } from '../tree/digest-device.js';
import { completeTree } from '../tree/fetch-tree.js';

export interface BaseOptions {
  readonly plan: BasePlan;
  readonly state: DeviceState;
  readonly receiver: NodeSource;
  /** The session's static view, all of which can be read where the plan is to compare. */
  readonly device: Device;
  /** The point that the session's blocks are a difference to. */
  readonly basePoint: Point | null;
  readonly geometry: Geometry;
  readonly onEvent: OnAgentEvent;
  readonly signal: AbortSignal;
  /** Is given a scan that digests the device; ended by what it returns. */
  readonly watch: (scan: Scan) => () => void;
  readonly onCompared?: ((differing: BlockSet) => void) | undefined;
}

export interface PreparedBase {
  readonly tree: TreeFile;
  /** After a comparison, what of the device may differ from the tree. Undefined: nothing is known of that. */
  readonly differing: readonly BlockRange[] | undefined;
}

/** The facts that the plan goes by. @param compare the local tree is not to be believed */
export function localBase(state: DeviceState, compare = false): LocalBase {
  return compare ? { tree: null, pending: null, problem: 'it was asked for' } : state.local;
}

export async function prepareBase(options: BaseOptions): Promise<PreparedBase> {
  const { plan, state, geometry, onEvent } = options;
  const { tree, differing } = await startingTree(options);
  if (plan.resizeFrom === null) return { tree, differing };
  const verb = geometry.sizeBytes > plan.resizeFrom ? 'grew' : 'shrank';
  onEvent({
    type: 'notice',
    text: `the device ${verb} from ${plan.resizeFrom} to ${geometry.sizeBytes} bytes; its chain goes on`,
  });
  return {
    tree: await state.replaceTree((path) => native.resizeTree(tree, path, geometry.sizeBytes)),
    differing: differing && withTail(differing, plan.resizeFrom, geometry),
  };
}

async function startingTree(options: BaseOptions): Promise<PreparedBase> {
  const { plan, state, geometry, onEvent } = options;
  switch (plan.start) {
    case 'use-local':
      return { tree: presentTree(state), differing: undefined };
    case 'apply-pending':
      onEvent({ type: 'notice', text: plan.reason });
      await state.commit();
      return { tree: presentTree(state), differing: undefined };
    case 'compare':
      return compared(options);
    case 'new-chain':
      onEvent({ type: 'notice', text: `a new chain of points begins: ${plan.reason}` });
      return { tree: await emptyTree(state, geometry), differing: undefined };
    case 'empty':
      return { tree: await emptyTree(state, geometry), differing: undefined };
  }
}

/**
 * The tree of the base point, made from the device's own digests and those of the receiver that differ from them: of a point that is
 * nearly what the device holds, next to nothing crosses.
 */
async function compared(options: BaseOptions): Promise<PreparedBase> {
  const { plan, state, receiver, device, basePoint, onEvent, signal, watch } = options;
  if (basePoint === null) throw new Error('there is no point to compare with');
  const label = pointLabel(basePoint);
  onEvent({ type: 'notice', text: `comparing digests with ${label} at the receiver: ${plan.reason}` });
  onEvent({ type: 'phase', phase: 'compare' });
  let differing: BlockRange[] = [];
  const tree = await state.replaceTree(async (path) => {
    const { blockSize } = basePoint.geometry;
    const digested = await digestDevice({
      ...{ device, blockSize, digester: state.digester },
      ...{ path: `${path}.device`, signal, watch },
    });
    const made = await treeInGeometry(digested.tree, path, basePoint.geometry);
    try {
      const blocks = await completeTree(receiver, basePoint, made, signal);
      onEvent({ type: 'notice', text: `${blocks.count} blocks differ from ${label}` });
      options.onCompared?.(blocks);
      // What can't be read has no digest, and may seem to be zero.
      differing = mergeRanges([...blocks.ranges()], digested.badBlocks);
      return made;
    } catch (error) {
      await made.close();
      throw error;
    }
  });
  return { tree, differing };
}

/** What the comparison in the former size says of the present one: from where one of them ends, anything may differ. */
function withTail(
  differing: readonly BlockRange[],
  formerBytes: number,
  { sizeBytes, blockSize }: Geometry,
): BlockRange[] {
  const count = blockCount({ sizeBytes, blockSize });
  const kept = Math.min(Math.floor(Math.min(formerBytes, sizeBytes) / blockSize), count);
  const below = differing
    .filter(([start]) => start < kept)
    .map(([start, end]): BlockRange => [start, Math.min(end, kept)]);
  return kept < count ? mergeRanges([...below, [kept, count]], []) : below;
}

function emptyTree(state: DeviceState, { sizeBytes, blockSize }: Geometry): Promise<TreeFile> {
  return state.replaceTree((path) => native.createTree(path, sizeBytes, blockSize, state.digester));
}

function presentTree(state: DeviceState): TreeFile {
  if (state.tree === null) {
    throw new StillpointError('internal', {
      thing: 'local tree',
      reason: 'it is gone although it was planned with',
    });
  }
  return state.tree;
}
