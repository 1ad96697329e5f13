/**
 * store.json: what makes a directory a store, and which one. store-copy.json has the same content, so that a
 * store with a damaged or missing store.json is still the one that its agents know; the index names it too.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { KiB } from '../../domain/base/limits.js';
import { isHexId } from '../../domain/base/names.js';
import { type Disk, readSmallFile, writeDurably } from '../disk/disk.js';
import {
  INDEX_DIR,
  PACKS_PREFIX,
  POINTS_COPY_PREFIX,
  POINTS_PREFIX,
  pointPlaceOf,
  STORE_COPY,
  STORE_FILE,
} from '../disk/layout.js';
import { decodeSealed, encodeSealed, SEALED_VERSION } from '../disk/sealed-text.js';
import type { ObjectStore } from '../objects/object-store.js';
import { isDataError } from '../packs/contents.js';
import { readIndexedStoreId } from './shared-index.js';

const BYTES_MAX = 64 * KiB;

export interface StoreIdentity {
  readonly storeId: string;
  /** ISO 8601; null: not known. */
  readonly createdAt: string | null;
  /**
   * A former version's, which who writes brings to the present one: from then on a program of that
   * version refuses the store.
   */
  readonly isFormer: boolean;
  /** What is wrong with store.json, and where the id is from instead; null: nothing. */
  readonly fault: string | null;
}

/** @throws StillpointError `store-missing`, `store-damaged`, `version` */
export async function readStoreFile(
  disk: Disk,
  dir: string,
  file: string = STORE_FILE,
): Promise<Omit<StoreIdentity, 'fault'>> {
  const path = join(dir, file);
  const bytes = await readSmallFile(disk, path, BYTES_MAX);
  if (bytes === null) {
    throw new StillpointError('store-missing', {
      thing: `store ${dir}`,
      reason: `it has no ${file}`,
      remedy: 'Name the directory of a store, or make one with "stillpoint receiver init".',
    });
  }
  const { version, body } = decodeSealed('stillpoint-store', bytes, path);
  const { storeId, createdAt } = body;
  if (typeof storeId === 'string' && isHexId(storeId)) {
    const isFormer = version < SEALED_VERSION;
    return { storeId, createdAt: typeof createdAt === 'string' ? createdAt : null, isFormer };
  }
  throw new StillpointError('store-damaged', { thing: path, reason: 'it has no store id' });
}

/**
 * The store's id, from the best source that there is: store.json, its copy, the index. Where all of them are
 * lost and points are there, the store gets a new id: agents then compare with it once.
 * @throws as `readStoreFile`, where there is nothing that was a store
 */
export async function identifyStore(
  disk: Disk,
  dir: string,
  objects: ObjectStore,
  newId: () => string,
): Promise<StoreIdentity> {
  let problem: StillpointError;
  try {
    return { ...(await readStoreFile(disk, dir)), fault: null };
  } catch (error) {
    if (isStillpointError(error)) problem = error;
    else if (isDataError(error)) {
      const reason = error instanceof Error ? error.message : String(error);
      problem = new StillpointError('store-damaged', { thing: join(dir, STORE_FILE), reason, cause: error });
    } else throw error;
  }
  const fault =
    problem.code === 'store-missing' ? `${STORE_FILE} is gone` : `${STORE_FILE}: ${problem.reason}`;
  const copy = await readStoreFile(disk, dir, STORE_COPY).catch(() => null);
  // A newer program writes both, the copy first: a copy of this version says that a
  // bit of the version flipped.
  if (copy !== null) return { ...copy, fault: `${fault}; ${STORE_COPY} has the store's id` };
  if (problem.code === 'version' || !(await hasPoints(objects))) throw problem;
  const unknown = { createdAt: null, isFormer: false };
  const indexed = readIndexedStoreId(join(dir, INDEX_DIR));
  if (indexed !== null)
    return { ...unknown, storeId: indexed, fault: `${fault}; the index has the store's id` };
  const lost = `${fault}, and nothing else has the store's id: it gets a new one`;
  return { ...unknown, storeId: newId(), fault: lost };
}

/** True for a directory that is a store or was one: there is no other to be made of it. */
export function looksLikeStore(dir: string): boolean {
  return [STORE_FILE, STORE_COPY, PACKS_PREFIX, POINTS_PREFIX, POINTS_COPY_PREFIX].some((name) =>
    existsSync(join(dir, name)),
  );
}

async function hasPoints(objects: ObjectStore): Promise<boolean> {
  for (const prefix of [POINTS_PREFIX, POINTS_COPY_PREFIX]) {
    if ((await objects.list(prefix)).some(({ key }) => pointPlaceOf(key) !== null)) return true;
  }
  return false;
}

/**
 * For verify: what is wrong with both files. A store that an earlier version made has no copy until it is
 * opened to be written to.
 */
export async function checkStoreFiles(disk: Disk, dir: string): Promise<{ what: string; reason: string }[]> {
  const findings: { what: string; reason: string }[] = [];
  for (const what of [STORE_FILE, STORE_COPY]) {
    try {
      await readStoreFile(disk, dir, what);
    } catch (error) {
      if (what === STORE_COPY && isStillpointError(error, 'store-missing')) continue;
      findings.push({ what, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return findings;
}

/** Brings store.json and its copy to what the store's id is, and to the present version: the copy first. */
export async function repairStoreFile(
  disk: Disk,
  dir: string,
  identity: StoreIdentity,
  now: Date,
): Promise<void> {
  const { storeId, isFormer, fault } = identity;
  const createdAt = identity.createdAt ?? now.toISOString();
  const copy = await readStoreFile(disk, dir, STORE_COPY).catch(() => null);
  if (copy?.storeId !== storeId || copy.isFormer)
    await writeFile(disk, dir, STORE_COPY, { storeId, createdAt });
  if (fault !== null || isFormer) await writeFile(disk, dir, STORE_FILE, { storeId, createdAt });
}

/** Its copy is made by `repairStoreFile`. */
export function writeStoreFile(disk: Disk, dir: string, storeId: string, createdAt: Date): Promise<void> {
  return writeFile(disk, dir, STORE_FILE, { storeId, createdAt: createdAt.toISOString() });
}

async function writeFile(
  disk: Disk,
  dir: string,
  file: string,
  body: { readonly storeId: string; readonly createdAt: string },
): Promise<void> {
  await writeDurably(disk, join(dir, file), encodeSealed('stillpoint-store', body));
}
