/**
 * Makes and opens stores. For writing: lock, store.json, debris, index, points, captures, in this order. For
 * reading only: reading/.
 */
import { randomBytes } from 'node:crypto';
import { join, resolve } from 'node:path';
import { isStillpointError, StillpointError } from '../domain/base/errors.js';
import { PACK_BYTES_TARGET, PARTIAL_KEEP_MS } from '../domain/base/limits.js';
import { isHexId } from '../domain/base/names.js';
import { type Digester, native } from '../native/index.js';
import type { StoreContext } from './capture/context.js';
import { PackPins } from './capture/pack-pins.js';
import { PartialSets } from './capture/partial-sets.js';
import { recoverStaging } from './capture/recovery.js';
import { recordRemains } from './capture/remains.js';
import { type CaptureStaging, captureDir, removeCapture } from './capture/staging.js';
import { type Disk, makeDirs, nodeDisk, readSmallFile } from './disk/disk.js';
import { asStoreStep } from './disk/errors.js';
import {
  CAPTURE_DESCRIPTION,
  CAPTURE_DIR,
  COLLECT_DIR,
  DECISIONS_PREFIX,
  INDEX_DIR,
  LOCK_FILE,
  PACKS_PREFIX,
  POINTS_COPY_PREFIX,
  POINTS_PREFIX,
  STORE_COPY,
  STORE_FILE,
} from './disk/layout.js';
import { type LockWaiting, lockStore, lockStoreInTurn, type OwnerRole, type StoreLock } from './disk/lock.js';
import { lockForReading, makeReadersFile, type ReadersLock } from './disk/readers.js';
import { StoreIndex } from './index/store-index.js';
import { StoreJournals } from './journals/journals.js';
import { ReaderJournals } from './journals/reader.js';
import { LocalObjectStore } from './objects/local-object-store.js';
import type { ObjectStore } from './objects/object-store.js';
import { LocalStore } from './pack-store.js';
import { loadBesideOwner, PointCatalog } from './points/catalog.js';
import { Decisions } from './points/decisions.js';
import { decodeDescription, MANIFEST_BYTES_MAX } from './points/manifest.js';
import { addCopy, type ManifestFiles } from './points/manifest-files.js';
import { PointReader } from './points/reader.js';
import { finishRemovals } from './points/removal.js';
import type { CaptureDescription, Store } from './port/store.js';
import { ReaderStore, type StoreToRead } from './reading/reader-store.js';
import { ReadingIndex } from './reading/reading-index.js';
import { identifyStore, repairStoreFile, type StoreIdentity, writeStoreFile } from './reading/store-file.js';
import { RecordReader } from './records/record-reader.js';
import { type MachineClock, machineClock, Retention } from './retention/retention.js';
import {
  dropLostPacks,
  type HealContext,
  indexPacks,
  type OpenProgress,
  walkPoints,
} from './upkeep/index-heal.js';
import { ScrubBook } from './upkeep/scrub-book.js';

export type { OpenProgress } from './upkeep/index-heal.js';

export interface StoreOptions {
  /** Default: the file system. */
  readonly disk?: Disk;
  /** Keeps packs and manifests. Default: files in the store's directory, on `disk`. */
  readonly objects?: ObjectStore;
  /** One line about something that the operator should know. */
  readonly log?: (message: string) => void;
  /** Work that takes long: the index is being made. */
  readonly onProgress?: (progress: OpenProgress) => void;
  readonly now?: () => Date;
  /** How long the machine has been up. Default: as it says. */
  readonly machine?: MachineClock;
  /** 32 hex digits that no other call gave. */
  readonly randomId?: () => string;
  /** Default PACK_BYTES_TARGET. */
  readonly packBytesTarget?: number;
  /** How the digests of its points are made. Default: without a key. */
  readonly digester?: Digester;
  /** How long partial sets are kept. Default PARTIAL_KEEP_MS. */
  readonly keepPartialMs?: number;
  /** What the owner is, for others that want the store. Default: a command. */
  readonly role?: OwnerRole;
  /** Wait where another process has the store open. Default: refuse. */
  readonly waiting?: LockWaiting;
}

export const newId = () => randomBytes(16).toString('hex');
/**
 * What a directory may have in it and still become a store: a new file system's own, a NAS's own, and
 * traces of an earlier try.
 */
const MAY_BE_THERE = new Set([
  ...[
    'lost+found',
    '@eaDir',
    '#recycle',
    '$RECYCLE.BIN',
    'System Volume Information',
    'Thumbs.db',
    'desktop.ini',
  ],
  ...[CAPTURE_DIR, LOCK_FILE],
]);

/**
 * Makes an empty store of a missing or empty directory.
 * @throws StillpointError `usage` if there is something in it
 */
export async function createStore(
  dir: string,
  { disk = nodeDisk, now = () => new Date(), randomId = newId }: StoreOptions = {},
): Promise<void> {
  const path = resolve(dir);
  await asStoreStep(`store ${path}`, async () => {
    await makeDirs(disk, '/', path.slice(1));
    const names = (await disk.list(path)).map(({ name }) => name);
    const foreign = names.find((name) => !MAY_BE_THERE.has(name) && !name.startsWith('.'));
    if (foreign !== undefined) {
      throw new StillpointError('usage', {
        thing: `directory ${path}`,
        reason: foreign === STORE_FILE ? 'it already is a store' : `it is not empty: it has ${foreign}`,
        remedy: 'Choose a new or an empty directory.',
      });
    }
    await makeDirs(disk, path, CAPTURE_DIR);
    await writeStoreFile(disk, path, randomId(), now());
  });
}

/** Which store a directory has, also where its store.json is damaged or gone. */
export function findStoreIdentity(dir: string): Promise<StoreIdentity> {
  const path = resolve(dir);
  return asStoreStep(`store ${path}`, async () => {
    const objects = new LocalObjectStore(nodeDisk, path);
    return identifyStore(nodeDisk, path, objects, newId).finally(() => objects.close());
  });
}

/**
 * Reads points beside the store's owner, or without one; or owns the store. As openStore; a reader is
 * never refused for a lock.
 */
export async function openStoreForReading(dir: string, options: StoreOptions = {}): Promise<StoreToRead> {
  const path = resolve(dir);
  const { disk = nodeDisk, log = () => undefined, onProgress = () => undefined } = options;
  const digester = options.digester ?? native.plainDigester();
  return asStoreStep(`store ${path}`, async () => {
    const objects = options.objects ?? new LocalObjectStore(disk, path);
    let lock: ReadersLock | null = null;
    try {
      const { storeId, fault } = await identifyStore(disk, path, objects, options.randomId ?? newId);
      if (fault !== null) log(fault);
      // Before the first look at manifests: from here on no pack goes that one of them needs.
      lock = await lockForReading(path);
      const catalog = await loadBesideOwner(objects, log);
      const partials = new PartialSets({
        ...{ disk, dir: path, log },
        keepMs: options.keepPartialMs ?? PARTIAL_KEEP_MS,
      });
      await partials.load({ tidy: false });
      return new ReaderStore({
        ...{ storeId, disk, dir: path, lock, objects, catalog, partials, digester, log },
        journals: new ReaderJournals({ disk, dir: path, log }),
        now: options.now ?? (() => new Date()),
        retention: await retentionOf(path, options, null),
        index: new ReadingIndex({ dir: path, storeId, objects, digester, log, onProgress }),
        remember: (findings) => rememberFindings(path, options, findings),
      });
    } catch (error) {
      await objects.close();
      await lock?.release();
      throw error;
    }
  });
}

/** @param upgrade null: the store is only read */
function retentionOf(
  dir: string,
  { disk = nodeDisk, now = () => new Date(), machine = machineClock, log = () => undefined }: StoreOptions,
  upgrade: (() => Promise<void>) | null,
): Promise<Retention> {
  return Retention.load({ disk, dir, now, machine, log, upgrade });
}

/**
 * What a reader found out about records, for the store's next owner: so that nothing is built on what is
 * damaged, and it is healed.
 */
async function rememberFindings(
  path: string,
  options: StoreOptions,
  { bad, good }: ReturnType<ReadingIndex['findings']>,
): Promise<void> {
  const { log = () => undefined } = options;
  try {
    const store = await openOwned(path, options);
    try {
      await store.remember(bad, good);
    } finally {
      await store.close();
    }
  } catch (error) {
    log(`what was found damaged is not written down in the index: ${String(error)}`);
  }
}

/**
 * @throws StillpointError `store-missing`, `store-locked`, `store-damaged`, `version`, `store-io`,
 * `store-full`
 */
export async function openStore(dir: string, options: StoreOptions = {}): Promise<Store> {
  return openOwned(dir, options);
}

/** As openStore, with what the store's own upkeep needs. */
export async function openOwned(dir: string, options: StoreOptions): Promise<LocalStore> {
  const path = resolve(dir);
  const { disk = nodeDisk, log = () => undefined, onProgress = () => undefined } = options;
  const digester = options.digester ?? native.plainDigester();
  return asStoreStep(`store ${path}`, async () => {
    const local = new LocalObjectStore(disk, path);
    const objects = options.objects ?? local;
    const identify = () => identifyStore(disk, path, objects, options.randomId ?? newId);
    // Before the lock, which makes a file: a directory that is not a store is not touched.
    await identify();
    const lock = await lockFor(path, options);
    /** Closes what is open so far, the lock last. */
    let close = async () => {
      await objects.close();
      lock.release();
    };
    try {
      const identity = await identify();
      const { storeId } = identity;
      const upgrade = await repair(path, options, identity);
      for (const prefix of [PACKS_PREFIX, POINTS_PREFIX, POINTS_COPY_PREFIX, DECISIONS_PREFIX])
        await local.removeDebris(prefix);
      await disk.removeDir(join(path, COLLECT_DIR));
      // On a full disk it is made later: before packs are removed.
      await makeReadersFile(path).catch(() => undefined);
      const index = await StoreIndex.open(join(path, INDEX_DIR), storeId, (reason) =>
        log(`index of store ${path}: ${reason}; it is made again`),
      );
      close = async () => {
        await objects.close();
        await index.close();
        lock.release();
      };
      const catalog = new PointCatalog();
      const { uncopied, decisions: found } = await catalog.load(objects, log);
      const decisions = new Decisions({ objects, catalog, log }, found);
      await finishRemovals({ objects, catalog, log, now: options.now ?? (() => new Date()) });
      if (catalog.undeleted().length + found.length > 0)
        await index.noteGarbage().catch((error) => log(String(error)));
      const records = new RecordReader(objects, index, digester, log);
      const partials = new PartialSets({
        disk,
        dir: path,
        log,
        keepMs: options.keepPartialMs ?? PARTIAL_KEEP_MS,
      });
      await partials.load({ tidy: true });
      const retention = await retentionOf(path, options, upgrade);
      const { now = () => new Date() } = options;
      const context: StoreContext = {
        disk,
        dir: path,
        objects,
        index,
        digester,
        catalog,
        decisions,
        records,
        reader: new PointReader(records),
        partials,
        log,
        now,
        commitTime: () => new Date(Math.max(now().getTime(), retention.clock().nowMs)),
        randomId: options.randomId ?? newId,
        upgrade,
        pins: new PackPins(),
        packBytesTarget: options.packBytesTarget ?? PACK_BYTES_TARGET,
      };
      const book = new ScrubBook(context);
      await book.load();
      const journals = await StoreJournals.open({ disk, dir: path, log });
      const store = new LocalStore(storeId, context, retention, journals, lock, book);
      close = () => store.close();
      await copyManifests(objects, uncopied, options);
      const heal: HealContext = { objects, index, digester, log, onProgress };
      const packs = await objects.list(PACKS_PREFIX);
      await dropLostPacks(heal, packs);
      await findCaptures(context, store);
      // On a full disk later: what they say counts already.
      await decisions.settle().catch((error) => log(`decisions about groups: ${String(error)}`));
      await indexPacks(heal, catalog, packs);
      await store.upkeep.enterDamage();
      await walkPoints(heal, catalog, records);
      return store;
    } catch (error) {
      await close();
      throw error;
    }
  });
}

function lockFor(path: string, { role, waiting }: StoreOptions): Promise<StoreLock> | StoreLock {
  const file = join(path, LOCK_FILE);
  const options = role === undefined ? {} : { role };
  return waiting === undefined
    ? lockStore(file, path, options)
    : lockStoreInTurn(file, path, waiting, options);
}

/**
 * A full disk must not keep a store closed for it: it is tried again at the next opening; of a store of a
 * former version, before anything of the present one is written.
 * @returns StagingContext.upgrade
 */
async function repair(
  path: string,
  options: StoreOptions,
  identity: StoreIdentity,
): Promise<() => Promise<void>> {
  const { disk = nodeDisk, log = () => undefined, now = () => new Date() } = options;
  let present: Promise<void> | null = identity.isFormer ? null : Promise.resolve();
  const upgrade = () => {
    present ??= repairStoreFile(disk, path, identity, now()).catch((error) => {
      present = null;
      throw error;
    });
    return present;
  };
  try {
    await (identity.isFormer ? upgrade() : repairStoreFile(disk, path, identity, now()));
    if (identity.fault !== null) log(`${identity.fault}; ${STORE_FILE} was made again`);
  } catch (error) {
    log(`${identity.fault ?? STORE_COPY}: it can't be written now: ${String(error)}`);
  }
  return upgrade;
}

/** Of a former version, or after a death in between. A full disk must not keep the store closed. */
async function copyManifests(
  objects: ObjectStore,
  uncopied: readonly ManifestFiles[],
  { log = () => undefined, onProgress = () => undefined }: StoreOptions,
): Promise<void> {
  const total = uncopied.length;
  try {
    for (const [done, files] of uncopied.entries()) {
      // After a death in between there is one, which is not worth reporting.
      if (total > 1) onProgress({ step: 'copying manifests', done, total });
      await addCopy(objects, files);
    }
    if (total > 1) onProgress({ step: 'copying manifests', done: total, total });
  } catch (error) {
    log(`manifests have no copies yet: ${String(error)}`);
  }
}

/** Open sessions go on; what has no description, or is committed, is debris. */
async function findCaptures(context: StoreContext, store: LocalStore): Promise<void> {
  const { disk, dir, catalog, log } = context;
  for (const { name: sessionId, isDirectory } of await disk.list(join(dir, CAPTURE_DIR))) {
    if (!isDirectory || !isHexId(sessionId)) continue;
    const place = captureDir(context, sessionId);
    let description: CaptureDescription | null = null;
    try {
      const bytes = await readSmallFile(disk, join(place, CAPTURE_DESCRIPTION), MANIFEST_BYTES_MAX);
      if (bytes === null || catalog.byId(sessionId) !== undefined) {
        await removeCapture(context, sessionId);
        continue;
      }
      description = decodeDescription(bytes, sessionId, join(place, CAPTURE_DESCRIPTION));
      let staging: CaptureStaging | null = null;
      try {
        staging = await recoverStaging(context, description);
      } catch (error) {
        if (isStillpointError(error)) throw error;
        // A full or failing disk: points can be read meanwhile, and the session is recovered when it goes on.
        log(`session ${sessionId}: ${String(error)}`);
      }
      store.addCapture(description, staging);
    } catch (error) {
      if (isStillpointError(error, 'version')) throw error;
      const isDamaged = isStillpointError(error, 'store-damaged');
      // What can't be read or removed now is left for the next opening; the store is
      // not to stay closed for it.
      log(`capture of session ${sessionId} is ${isDamaged ? 'discarded' : 'left alone'}: ${String(error)}`);
      if (!isDamaged) continue;
      if (description !== null) await recordRemains(context, description, null, context.now());
      await removeCapture(context, sessionId).catch((reason) => log(String(reason)));
    }
  }
}
