/** Carries out what src/domain/plan.ts decided: afterwards the local tree is the session's base, in the device's geometry. */
import { StillpointError } from '../domain/errors.js';
import type { Geometry } from '../domain/geometry.js';
import type { BasePlan } from '../domain/plan.js';
import type { Point } from '../domain/point.js';
import { native, type TreeFile } from '../native/index.js';
import type { ReceiverPort } from '../protocol/receiver-port.js';
import type { OnAgentEvent } from './events.js';
import { fetchTree } from './fetch-tree.js';
import type { DeviceState } from './state.js';

export interface BaseOptions {
  readonly plan: BasePlan;
  readonly state: DeviceState;
  readonly receiver: ReceiverPort;
  /** The point that the session's blocks are a difference to. */
  readonly basePoint: Point | null;
  readonly geometry: Geometry;
  readonly onEvent: OnAgentEvent;
  readonly signal: AbortSignal;
}

export async function prepareBase(options: BaseOptions): Promise<TreeFile> {
  const { plan, state, geometry, onEvent } = options;
  const tree = await startingTree(options);
  if (plan.resizeFrom === null) return tree;
  const verb = geometry.sizeBytes > plan.resizeFrom ? 'grew' : 'shrank';
  onEvent({
    type: 'notice',
    text: `the device ${verb} from ${plan.resizeFrom} to ${geometry.sizeBytes} bytes; its chain goes on`,
  });
  return state.replaceTree((path) => native.resizeTree(tree, path, geometry.sizeBytes));
}

async function startingTree(options: BaseOptions): Promise<TreeFile> {
  const { plan, state, receiver, basePoint, geometry, onEvent, signal } = options;
  switch (plan.start) {
    case 'use-local':
      return presentTree(state);
    case 'apply-pending':
      onEvent({ type: 'notice', text: plan.reason });
      await state.commit();
      return presentTree(state);
    case 'fetch': {
      if (basePoint === null) throw new Error('there is no point to fetch a tree of');
      onEvent({ type: 'notice', text: `fetching the digest tree from the receiver: ${plan.reason}` });
      onEvent({ type: 'phase', phase: 'fetch-tree' });
      return state.replaceTree((path) => fetchTree(receiver, basePoint, path, signal));
    }
    case 'new-chain':
      onEvent({ type: 'notice', text: `a new chain of points begins: ${plan.reason}` });
      return emptyTree(state, geometry);
    case 'empty':
      return emptyTree(state, geometry);
  }
}

function emptyTree(state: DeviceState, { sizeBytes, blockSize }: Geometry): Promise<TreeFile> {
  return state.replaceTree((path) => native.createTree(path, sizeBytes, blockSize));
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
