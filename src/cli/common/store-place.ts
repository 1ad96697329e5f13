/**
 * The store of a directory: made at its first use, and reported as missing if it was known there.
 * src/agent/state/known-stores.ts has what is known.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  checkStore,
  directoryPlace,
  rememberStore,
  type StorePlace,
  whyNoStore,
} from '../../agent/state/known-stores.js';
import {
  PACKS_PREFIX,
  POINTS_COPY_PREFIX,
  POINTS_PREFIX,
  STORE_COPY,
  STORE_FILE,
} from '../../store/disk/layout.js';
import { findStoreIdentity } from '../../store/open.js';
import { makeStoreIfMissing } from './open-store.js';

export interface PlaceChoice {
  readonly newStore?: boolean | undefined;
  readonly acceptStore?: boolean | undefined;
  /** Makes the store; default: as this user. */
  readonly make?: (directory: string) => Promise<void>;
}

/** @throws StillpointError `store-missing` where a store was, or a disk should be, and none may be made */
export async function placeToRead(stateDirectory: string | null, directory: string): Promise<StorePlace> {
  const place = await directoryPlace(directory);
  // Without a state directory no store is known; opening it says that there is none.
  if (stateDirectory === null || (await isStore(directory))) return place;
  const missing = await whyNoStore(stateDirectory, place, false);
  if (missing !== null) throw missing;
  return place;
}

/** The store is there when it resolves. @throws StillpointError as above, and `usage` as createStore does */
export async function placeToFill(
  stateDirectory: string,
  directory: string,
  { newStore = false, make = makeStoreIfMissing }: PlaceChoice,
): Promise<StorePlace> {
  const place = await directoryPlace(directory);
  if (await isStore(directory)) {
    await make(directory);
    return place;
  }
  const missing = newStore ? null : await whyNoStore(stateDirectory, place, true);
  if (missing !== null) throw missing;
  await make(directory);
  const { storeId } = await findStoreIdentity(directory);
  await rememberStore(stateDirectory, place, storeId);
  return place;
}

/**
 * As `placeToFill`, for a command that does not back up: the store is known when it resolves.
 * @throws also `store-changed`
 */
export async function placeToOwn(
  stateDirectory: string,
  directory: string,
  choice: PlaceChoice,
): Promise<void> {
  const place = await placeToFill(stateDirectory, directory, choice);
  const { storeId } = await findStoreIdentity(directory);
  await checkStore(stateDirectory, place, storeId, choice.acceptStore ?? false);
}

/** Also one whose store.json is lost. What can't be looked at is there: opening it says what is wrong. */
async function isStore(directory: string): Promise<boolean> {
  for (const name of [STORE_FILE, STORE_COPY, PACKS_PREFIX, POINTS_PREFIX, POINTS_COPY_PREFIX]) {
    const isMissing = await stat(join(directory, name)).then(
      () => false,
      ({ code }: NodeJS.ErrnoException) => code === 'ENOENT' || code === 'ENOTDIR',
    );
    if (!isMissing) return true;
  }
  return false;
}
