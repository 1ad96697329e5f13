/**
 * The devices that this machine lets its receivers back up, `<state>/offers/<name>.json`: name, path, and how
 * it is read. All of that is decided on this machine; a receiver can only say the name.
 */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { PROVIDER_NAMES, type ProviderName } from '../../capture/choice/names.js';
import type { AnnounceWish } from '../../capture/quiesce/announce.js';
import { makeDirectory, readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { OFFERS_MAX, RATE_WINDOWS_MAX } from '../../domain/base/limits.js';
import { checkName } from '../../domain/base/names.js';
import type { ExclusionWish } from '../../domain/device/exclusion.js';
import { PATCH_MODES, type PatchMode } from '../../domain/session/patching.js';
import type { RateSchedule } from '../../domain/session/rate-limit.js';
import { syncDirectory } from '../../native/files.js';

export interface Offer {
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  readonly provider: ProviderName | null;
  /** In bytes; null: that of the last point. */
  readonly blockSize: number | null;
  readonly compressionLevel: number | 'auto';
  readonly patch: PatchMode;
  readonly limitRate: RateSchedule | null;
  readonly fuzzy: boolean;
  /** Absolute. */
  readonly hooks: readonly string[];
  readonly freeze: 'auto' | 'none' | readonly string[];
  readonly freezeDeadlineMs: number | null;
  readonly hookDeadlineMs: number | null;
  readonly quiet: { readonly quietMs: number; readonly deadlineMs: number } | null;
  /** What is left out of it. Missing: nothing. */
  readonly exclusion?: ExclusionWish;
  /** Whom its instants are announced to. Missing: nobody. */
  readonly announce?: AnnounceWish;
  /** ISO 8601. */
  readonly addedAt: string;
}

const path = z.string().min(1).max(4096);
const milliseconds = z.number().min(0);
const count = z.int().min(0);
const numbers = z.array(z.int().min(1)).max(256);

const offerFormat: StateFormat<Offer> = {
  format: 'stillpoint-offer',
  version: 1,
  schema: z.strictObject({
    name: z.string(),
    path: path.startsWith('/'),
    provider: z.enum(PROVIDER_NAMES).nullable(),
    blockSize: z.int().min(1).nullable(),
    compressionLevel: z.union([z.literal('auto'), z.int().min(0)]),
    patch: z.enum(PATCH_MODES),
    limitRate: z
      .strictObject({
        windows: z
          .array(z.strictObject({ fromMinute: count, toMinute: count, bytesPerSecond: count }))
          .max(RATE_WINDOWS_MAX),
        otherwise: count.nullable(),
      })
      .nullable(),
    fuzzy: z.boolean(),
    hooks: z.array(path).max(64),
    freeze: z.union([z.enum(['auto', 'none']), z.array(path).max(64)]),
    freezeDeadlineMs: milliseconds.nullable(),
    hookDeadlineMs: milliseconds.nullable(),
    quiet: z.strictObject({ quietMs: milliseconds, deadlineMs: milliseconds }).nullable(),
    exclusion: z
      .strictObject({ partitions: numbers.nullable(), excludePartitions: numbers, excludeSwap: z.boolean() })
      .exactOptional(),
    announce: z
      .strictObject({ program: path, graceMs: milliseconds, isRequired: z.boolean() })
      .exactOptional(),
    addedAt: z.iso.datetime(),
  }),
};

const offersPath = (stateDirectory: string) => join(stateDirectory, 'offers');
const offerPath = (stateDirectory: string, name: string) =>
  join(offersPath(stateDirectory), `${checkName('device name', name)}.json`);

/** By name. @throws StillpointError `config` if one is damaged */
export async function listOffers(stateDirectory: string): Promise<Offer[]> {
  const files = await readdir(offersPath(stateDirectory)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  const offers: Offer[] = [];
  // One that is being written has a name that begins with a dot.
  for (const file of files.filter((each) => /^[^.].*\.json$/.test(each)).sort()) {
    const offer = await readStateFile(join(offersPath(stateDirectory), file), offerFormat);
    if (offer !== null) offers.push(offer);
  }
  return offers;
}

/** @throws StillpointError `config` if the name is taken, or there are too many */
export async function addOffer(stateDirectory: string, offer: Offer): Promise<void> {
  const present = await listOffers(stateDirectory);
  const same = present.find(({ name }) => name === offer.name);
  if (same !== undefined || present.length >= OFFERS_MAX) {
    throw new StillpointError('config', {
      thing: `device ${offer.name}`,
      reason:
        same === undefined
          ? `${present.length} devices are offered, which is the limit`
          : `${same.path} is offered under this name`,
      remedy: `Remove one first, with "stillpoint agent remove ${same === undefined ? 'NAME' : offer.name}".`,
    });
  }
  await makeDirectory(offersPath(stateDirectory));
  await writeStateFile(offerPath(stateDirectory, offer.name), offerFormat, offer);
}

/** @throws StillpointError `device-unknown` */
export async function removeOffer(stateDirectory: string, name: string): Promise<void> {
  try {
    await rm(offerPath(stateDirectory, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new StillpointError('device-unknown', {
      thing: `device ${name}`,
      reason: 'it is not offered',
      remedy: 'See "stillpoint agent list".',
      cause: error,
    });
  }
  await syncDirectory(offersPath(stateDirectory));
}
