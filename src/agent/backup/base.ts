/**
 * The base of a session, as src/domain/session/plan.ts decided: afterwards the local tree is that of the
 * base, in the device's geometry.
 */

import { StillpointError } from '../../domain/base/errors.js';
import { type BlockRange, mergeRanges } from '../../domain/blocks/block-ranges.js';
import { blockCount, type Geometry } from '../../domain/blocks/geometry.js';
import { pointLabel } from '../../domain/point/point.js';
import { type LocalBase, resizedFrom } from '../../domain/session/plan.js';
import { native, type Scan, type TreeFile } from '../../native/index.js';
import { retrying } from '../common/retrying.js';
import type { DeviceState } from '../state/device-state.js';
import { digestDevice, treeInGeometry } from '../tree/digest-device.js';
import { completeTree } from '../tree/fetch-tree.js';
import type { BegunSession, SessionContext } from './context.js';
import { withoutLeftOut } from './exclusion.js';

export interface PreparedBase {
  readonly tree: TreeFile;
  /** After a comparison, what of the device may differ from the tree. Undefined: nothing is known of that. */
  readonly differing: readonly BlockRange[] | undefined;
}

/** The facts that the plan goes by. @param compare the local tree is not to be believed */
export function localBase(state: DeviceState, compare = false): LocalBase {
  return compare ? { tree: null, pending: null, problem: 'it was asked for' } : state.local;
}

export async function prepareBase(context: SessionContext, session: BegunSession): Promise<PreparedBase> {
  const { state, size } = context;
  const { tree, differing } = await startingTree(context, session);
  const formerBytes = resizedFrom(session.answer.base, size);
  if (formerBytes === null) return { tree, differing };
  const verb = size.sizeBytes > formerBytes ? 'grew' : 'shrank';
  context.notice(`the device ${verb} from ${formerBytes} to ${size.sizeBytes} bytes; its chain continues`);
  return {
    tree: await state.replaceTree((path) => native.resizeTree(tree, path, size.sizeBytes)),
    differing: differing && withTail(differing, formerBytes, size),
  };
}

async function startingTree(context: SessionContext, session: BegunSession): Promise<PreparedBase> {
  const { state, size } = context;
  const { start, reason } = session.base;
  switch (start) {
    case 'use-local':
      return { tree: presentTree(state), differing: undefined };
    case 'apply-pending':
      context.notice(reason);
      await state.commit();
      return { tree: presentTree(state), differing: undefined };
    case 'compare':
      return compared(context, session);
    case 'new-chain':
      context.notice(`a new chain of points begins: ${reason}`);
      return { tree: await emptyTree(state, size), differing: undefined };
    case 'empty':
      return { tree: await emptyTree(state, size), differing: undefined };
  }
}

/**
 * The tree of the base point, made from the device's own digests and those of the receiver that differ from
 * them: of a point that is nearly what the device holds, next to nothing crosses.
 */
async function compared(
  context: SessionContext,
  { link: { signal }, answer, base }: BegunSession,
): Promise<PreparedBase> {
  const { base: basePoint } = answer;
  if (basePoint === null) throw new Error('there is no point to compare with');
  const label = pointLabel(basePoint);
  context.notice(`comparing digests with ${label} at the receiver: ${base.reason}`);
  context.onEvent({ type: 'phase', phase: 'compare' });
  let differing: BlockRange[] = [];
  const tree = await context.state.replaceTree(async (path) => {
    const digested = await digestDevice({
      ...{ device: context.view.device, blockSize: basePoint.geometry.blockSize, path: `${path}.device` },
      ranges: withoutLeftOut(undefined, context.leftOut, context.size),
      ...{ digester: context.state.digester, signal, watch: (scan: Scan) => context.watch(scan) },
    });
    const made = await treeInGeometry(digested.tree, path, basePoint.geometry);
    try {
      const blocks = await completeTree(retrying(context.receiver, signal), basePoint, made, signal);
      context.notice(`${blocks.count} blocks differ from ${label}`);
      context.options.onCompared?.(blocks);
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

/**
 * What the comparison in the former size says of the present one: from where one of them
 * ends, anything may differ.
 */
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
      reason: 'it disappeared after it was chosen as the base',
    });
  }
  return state.tree;
}
