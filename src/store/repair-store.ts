/**
 * `receiver repair`: brings back what the small files of a store lost, as far as they are there twice. A
 * point whose manifest and copy are lost is given up if the operator says so: until then it may need any
 * block, so nothing is collected.
 */
import { join, resolve } from 'node:path';
import { StillpointError } from '../domain/base/errors.js';
import { LOCAL_AGENT } from '../domain/base/names.js';
import { pointName } from '../domain/point/point-ref.js';
import { nodeDisk } from './disk/disk.js';
import { asStoreStep } from './disk/errors.js';
import { INDEX_DIR, LOCK_FILE, pointKey, STORE_FILE } from './disk/layout.js';
import { lockStore } from './disk/lock.js';
import { LocalObjectStore } from './objects/local-object-store.js';
import type { ObjectStore } from './objects/object-store.js';
import { newId, openOwned, type StoreOptions } from './open.js';
import { PointCatalog } from './points/catalog.js';
import { findManifest, isRemoved, listManifests, putMark } from './points/manifest-files.js';
import type { DeviceKey } from './port/store.js';
import { checkStoreFiles, identifyStore } from './reading/store-file.js';
import { machineClock, Retention } from './retention/retention.js';
import { type RepairFinding, repairManifests, type StoreRepair } from './upkeep/repair.js';

export interface RepairOptions extends StoreOptions {
  /** Only say what would be done. */
  readonly dryRun: boolean;
  /** Make the index again, whatever its state. */
  readonly rebuildIndex: boolean;
  /** Its manifest and the copy can't be read: it is given up. */
  readonly forgetLost?: LostPlace | null;
}

export interface LostPlace extends DeviceKey {
  readonly sequence: number;
}

/**
 * Brings a store's small files back, each from what there is twice. It waits for nobody: a store that is open
 * is refused.
 */
export async function repairStore(dir: string, options: RepairOptions): Promise<StoreRepair> {
  const path = resolve(dir);
  const objects = options.objects ?? new LocalObjectStore(options.disk ?? nodeDisk, path);
  return repairBy(path, objects, options).finally(() => objects.close());
}

async function repairBy(path: string, objects: ObjectStore, options: RepairOptions): Promise<StoreRepair> {
  const { disk = nodeDisk } = options;
  const before = await asStoreStep(`store ${path}`, async () => {
    const { fault } = await identifyStore(disk, path, objects, options.randomId ?? newId);
    const files = (await checkStoreFiles(disk, path)).map(({ what, reason }) => ({ what, reason }));
    return files.length > 0 || fault === null ? files : [{ what: STORE_FILE, reason: fault }];
  });
  const { forgetLost = null } = options;
  const given = await asStoreStep(`store ${path}`, async () =>
    forgetLost === null ? [] : [await giveUp(path, objects, forgetLost, options)],
  );
  if (options.dryRun) {
    const { mended, lost } = await asStoreStep(`store ${path}`, () => repairManifests(objects, true));
    return { mended: [...before, ...given, ...mended], lost };
  }
  if (options.rebuildIndex) {
    const lock = lockStore(join(path, LOCK_FILE), path);
    await asStoreStep(`store ${path}`, () => disk.removeDir(join(path, INDEX_DIR))).finally(() =>
      lock.release(),
    );
  }
  const store = await openOwned(path, options);
  try {
    const { mended, lost } = await store.repair();
    const remaining = (await checkStoreFiles(disk, path)).map(({ what }) => what);
    return {
      mended: [...before.filter(({ what }) => !remaining.includes(what)), ...given, ...mended],
      lost: [...before.filter(({ what }) => remaining.includes(what)), ...lost],
    };
  } finally {
    await store.close();
  }
}

/**
 * Its mark is put, and the next opening removes what is left. The mark is empty: nobody knows the point's id.
 * @throws StillpointError `point-unknown` for a point that is not lost, `point-protected`
 */
async function giveUp(
  path: string,
  objects: ObjectStore,
  place: LostPlace,
  { disk = nodeDisk, log = () => undefined, now = () => new Date(), dryRun, ...options }: RepairOptions,
): Promise<RepairFinding> {
  const lock = lockStore(join(path, LOCK_FILE), path);
  try {
    const key = pointKey(place, place.sequence);
    const files = (await listManifests(objects, place.agent)).find((each) => each.key === key);
    const thing = `point ${pointName(place, LOCAL_AGENT)}`;
    if (files === undefined || isRemoved(files)) {
      const reason = 'the store has no file of it';
      throw new StillpointError('point-unknown', { thing, reason });
    }
    const { point, fault } = await findManifest(objects, files);
    if (point !== null) {
      const reason = 'it is not lost';
      const remedy = 'To remove it, use "stillpoint forget".';
      throw new StillpointError('point-unknown', { thing, reason, remedy });
    }
    const catalog = new PointCatalog();
    await catalog.load(objects, () => undefined);
    const { machine = machineClock } = options;
    const retention = await Retention.load({ disk, dir: path, now, machine, log, upgrade: null });
    retention.checkLost(place, catalog.ofDevice(place));
    if (!dryRun) await putMark(objects, key, Buffer.alloc(0));
    return { what: key, reason: `${fault}, and it has no whole copy; the point is given up` };
  } finally {
    lock.release();
  }
}
