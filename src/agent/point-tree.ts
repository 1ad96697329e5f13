/** The digest tree of a point for a restore: the local one where it is that point's, else fetched into a file that nobody sees. */
import { access, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isStillpointError } from '../domain/errors.js';
import type { Point } from '../domain/point.js';
import { lockFile } from '../native/files.js';
import type { TreeFile } from '../native/index.js';
import type { ReceiverPort } from '../protocol/receiver-port.js';
import { fetchTree } from './fetch-tree.js';
import { DeviceState, deviceStateDirectory, type StateKey } from './state.js';

export interface PointTree {
  readonly tree: TreeFile;
  readonly isFetched: boolean;
  close(): Promise<void>;
}

export async function openPointTree(
  receiver: ReceiverPort,
  point: Point,
  stateDirectory: string,
  signal: AbortSignal | undefined,
): Promise<PointTree> {
  const { storeId } = await receiver.info();
  const local = await openLocal(stateDirectory, { storeId, agent: point.agent, device: point.device }, point);
  return local ?? fetchUnnamed(receiver, point, stateDirectory, signal);
}

/** Null where there is none of this point, or a backup of the device is using it. */
async function openLocal(stateDirectory: string, key: StateKey, point: Point): Promise<PointTree | null> {
  try {
    await access(deviceStateDirectory(stateDirectory, key));
  } catch {
    return null;
  }
  const state = await DeviceState.open(stateDirectory, key).catch((error: unknown) => {
    if (isStillpointError(error, 'session-busy')) return null;
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

const DIRECTORY_PREFIX = 'restore-';
/** Younger ones may not be locked yet. */
const LEFTOVER_AGE_MS = 60_000;

/** The file loses its name as soon as it is whole. What a restore that was killed before that has left, the next one removes. */
async function fetchUnnamed(
  receiver: ReceiverPort,
  point: Point,
  stateDirectory: string,
  signal: AbortSignal | undefined,
): Promise<PointTree> {
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  await removeLeftovers(stateDirectory);
  const directory = await mkdtemp(join(stateDirectory, DIRECTORY_PREFIX));
  const lock = await lockFile(join(directory, 'lock'));
  try {
    const tree = await fetchTree(receiver, point, join(directory, 'tree'), signal);
    return { tree, isFetched: true, close: () => tree.close() };
  } finally {
    await rm(directory, { recursive: true, force: true });
    await lock?.close();
  }
}

async function removeLeftovers(stateDirectory: string): Promise<void> {
  for (const name of await readdir(stateDirectory)) {
    if (!name.startsWith(DIRECTORY_PREFIX)) continue;
    const directory = join(stateDirectory, name);
    const status = await stat(directory).catch(() => null);
    if (status === null || Date.now() - status.mtimeMs < LEFTOVER_AGE_MS) continue;
    const lock = await lockFile(join(directory, 'lock')).catch(() => null);
    if (lock === null) continue;
    await rm(directory, { recursive: true, force: true }).catch(() => undefined);
    await lock.close();
  }
}
