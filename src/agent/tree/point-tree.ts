/**
 * The digest tree of a point for a restore: the local one if it is that point's, otherwise fetched into a
 * file that nobody sees.
 */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { isStillpointError } from '../../domain/base/errors.js';
import { errnoNameOf } from '../../domain/base/system-errors.js';
import type { Point } from '../../domain/point/point.js';
import type { Digester, TreeFile } from '../../native/index.js';
import type { TreeSource } from '../../protocol/port/point.js';
import { treeFileBytes, withScratch } from '../common/scratch.js';
import { DeviceState, deviceStateDirectory, type StateKey } from '../state/device-state.js';
import { fetchTree } from './fetch-tree.js';
import type { LostParts } from './tree-descent.js';

export interface PointTree {
  readonly tree: TreeFile;
  readonly isFetched: boolean;
  close(): Promise<void>;
}

export async function openPointTree(
  receiver: TreeSource,
  point: Point,
  digester: Digester,
  stateDirectory: string | null,
  signal: AbortSignal | undefined,
): Promise<PointTree> {
  const local = await openLocalTree(receiver, point, digester, stateDirectory);
  return local ?? fetchUnnamed(receiver, point, digester, stateDirectory, signal);
}

/** Null where there is none of this point, or a backup of the device is using it. */
export async function openLocalTree(
  receiver: TreeSource,
  point: Point,
  digester: Digester,
  stateDirectory: string | null,
): Promise<PointTree | null> {
  if (stateDirectory === null) return null;
  const { storeId } = await receiver.info();
  return openLocal(stateDirectory, { storeId, agent: point.agent, device: point.device }, digester, point);
}

async function openLocal(
  stateDirectory: string,
  key: StateKey,
  digester: Digester,
  point: Point,
): Promise<PointTree | null> {
  try {
    await access(deviceStateDirectory(stateDirectory, key));
  } catch {
    return null;
  }
  const state = await DeviceState.open(stateDirectory, key, digester).catch((error: unknown) => {
    // It is a copy: where it can not be had (a read-only state directory, one of another user),
    // the receiver has the same.
    if (isStillpointError(error, 'session-busy') || errnoNameOf(error) !== null) return null;
    throw error;
  });
  if (state === null) return null;
  const { tree } = state;
  if (tree?.generation.pointId === point.id && tree.generation.root === point.root) {
    return { tree, isFetched: false, close: () => state.close() };
  }
  await state.close();
  return null;
}

/**
 * The file loses its name as soon as it is whole.
 * @param lost as `completeTree`
 */
export async function fetchUnnamed(
  receiver: TreeSource,
  point: Point,
  digester: Digester,
  stateDirectory: string | null,
  signal: AbortSignal | undefined,
  lost?: LostParts,
): Promise<PointTree> {
  return withScratch(stateDirectory, treeFileBytes(point.geometry), async (directory) => {
    const tree = await fetchTree(receiver, point, digester, join(directory, 'tree'), signal, lost);
    return { tree, isFetched: true, close: () => tree.close() };
  });
}
