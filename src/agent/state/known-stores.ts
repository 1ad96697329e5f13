/**
 * Which stores this machine has backed up into, by place: `<state>/known-stores/<digest of the place>.json`.
 * A place is a directory, by its real path, or an enrolled receiver. People rotate disks at one mount point,
 * so a place may have several.
 *
 * | the place has | and this machine knows there | a backup                                                 |
 * |---------------|------------------------------|----------------------------------------------------------|
 * | no store      | nothing                      | makes one, unless a disk that should be mounted above it |
 * |               |                              | is not                                                   |
 * | no store      | a store                      | is refused: its disk is not mounted, or it is gone;      |
 * |               |                              | `--new-store`                                            |
 * | a store       | nothing, or this one         | goes on, and the store is known before its first point   |
 * | a store       | others only                  | is refused, all are named; `--accept-store`: then this   |
 * |               |                              | is known too                                             |
 *
 * Only a backup into a store makes it known. If the file is lost or damaged, only these checks are lost.
 */
import { createHash } from 'node:crypto';
import { readlink, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import {
  makeDirectory,
  readSpareStateFile,
  type StateFormat,
  writeStateFile,
} from '../../config/state-file.js';
import { findUnmounted } from '../../devices/system/expected-mounts.js';
import { StillpointError } from '../../domain/base/errors.js';
import { hexIdSchema } from '../../protocol/schemas/messages.js';

export interface StorePlace {
  /** A directory's real path, or a receiver's id. */
  readonly key: string;
  /** What people know it by. */
  readonly label: string;
}

interface KnownStores {
  readonly place: string;
  /** In the order in which they were met. */
  readonly storeIds: readonly string[];
}

const STORES_MAX = 64;
const LINKS_MAX = 40;

const format: StateFormat<KnownStores> = {
  format: 'stillpoint-known-stores',
  version: 1,
  schema: z.strictObject({ place: z.string(), storeIds: z.array(hexIdSchema).max(STORES_MAX) }),
};

const directoryOf = (stateDirectory: string) => join(stateDirectory, 'known-stores');

function pathOf(stateDirectory: string, { key }: StorePlace): string {
  const digest = createHash('sha256').update(key).digest('hex').slice(0, 32);
  return join(directoryOf(stateDirectory), `${digest}.json`);
}

export function receiverPlace({ receiverId, url }: { receiverId: string; url: string }): StorePlace {
  return { key: `receiver ${receiverId}`, label: `receiver ${url}` };
}

export async function directoryPlace(directory: string): Promise<StorePlace> {
  return { key: `directory ${await realPathOf(directory)}`, label: `store ${directory}` };
}

/** Also of what is not there: a link into an unmounted disk leads to where it would be. */
async function realPathOf(path: string, links = 0): Promise<string> {
  const absolute = resolve(path);
  try {
    return await realpath(absolute);
  } catch {
    const parent = dirname(absolute);
    if (parent === absolute) return absolute;
    const target = links < LINKS_MAX ? await readlink(absolute).catch(() => null) : null;
    if (target !== null) return realPathOf(resolve(parent, target), links + 1);
    return join(await realPathOf(parent, links), basename(absolute));
  }
}

async function knownStores(stateDirectory: string, place: StorePlace): Promise<readonly string[]> {
  const known = await readSpareStateFile(pathOf(stateDirectory, place), format);
  return known?.place === place.key ? known.storeIds : [];
}

/** Durable when it resolves. */
export async function rememberStore(
  stateDirectory: string,
  place: StorePlace,
  storeId: string,
): Promise<void> {
  const known = await knownStores(stateDirectory, place);
  if (known.includes(storeId)) return;
  await makeDirectory(directoryOf(stateDirectory));
  const storeIds = [...known, storeId].slice(-STORES_MAX);
  await writeStateFile(pathOf(stateDirectory, place), format, { place: place.key, storeIds });
}

/** For a backup into a store that exists. @throws StillpointError `store-changed` */
export async function checkStore(
  stateDirectory: string,
  place: StorePlace,
  storeId: string,
  accept: boolean,
): Promise<void> {
  const known = await knownStores(stateDirectory, place);
  if (known.length > 0 && !known.includes(storeId) && !accept) {
    throw new StillpointError('store-changed', {
      thing: place.label,
      reason: `it is store ${short(storeId)}, but this machine has backed up there into ${listOf(known)}`,
      remedy:
        'Check which disk is mounted there, or whether the store was replaced. If both stores are yours, back up with --accept-store.',
    });
  }
  await rememberStore(stateDirectory, place, storeId);
}

/** Why no store may be made at the place, or none is found there; null: this machine knows of none. */
export async function whyNoStore(
  stateDirectory: string,
  place: StorePlace,
  mayCreate: boolean,
): Promise<StillpointError | null> {
  const known = await knownStores(stateDirectory, place);
  const unmounted = await findUnmounted(place.key.slice('directory '.length));
  if (known.length === 0 && unmounted === null) return null;
  const reason =
    known.length === 0
      ? `${unmounted} should have a disk of its own and is not mounted`
      : `${listOf(known)}, which this machine has backed up into, is not there`;
  const mountIt =
    unmounted === null ? 'Mount its disk' : `Mount its disk (nothing is mounted on ${unmounted})`;
  const remedy = mayCreate
    ? `${mountIt}, or begin a new store with --new-store.`
    : `${mountIt}, or name the directory where the store is.`;
  return new StillpointError('store-missing', { thing: place.label, reason, remedy });
}

const short = (storeId: string): string => storeId.slice(0, 12);

function listOf(storeIds: readonly string[]): string {
  const ids = storeIds.map(short);
  return ids.length === 1 ? `store ${ids[0]}` : `any of the stores ${ids.join(', ')}`;
}
