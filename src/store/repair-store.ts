/** `receiver repair`: brings back what the small files of a store lost, as far as they are there twice. */
import { join, resolve } from 'node:path';
import { nodeDisk } from './disk/disk.js';
import { asStoreStep } from './disk/errors.js';
import { INDEX_DIR, LOCK_FILE, STORE_FILE } from './disk/layout.js';
import { lockStore } from './disk/lock.js';
import { LocalObjectStore } from './objects/local-object-store.js';
import { newId, openOwned, type StoreOptions } from './open.js';
import { checkStoreFiles, identifyStore } from './reading/store-file.js';
import { repairManifests, type StoreRepair } from './upkeep/repair.js';

export interface RepairOptions extends StoreOptions {
  /** Only say what would be done. */
  readonly dryRun: boolean;
  /** Make the index again, whatever its state. */
  readonly rebuildIndex: boolean;
}

/**
 * Brings a store's small files back, each from what there is twice. It waits for nobody: a store that is open
 * is refused.
 */
export async function repairStore(dir: string, options: RepairOptions): Promise<StoreRepair> {
  const path = resolve(dir);
  const { disk = nodeDisk } = options;
  const objects = options.objects ?? new LocalObjectStore(disk, path);
  const before = await asStoreStep(`store ${path}`, async () => {
    const { fault } = await identifyStore(disk, path, objects, options.randomId ?? newId);
    const files = (await checkStoreFiles(disk, path)).map(({ what, reason }) => ({ what, reason }));
    return files.length > 0 || fault === null ? files : [{ what: STORE_FILE, reason: fault }];
  });
  if (options.dryRun) {
    const { mended, lost } = await asStoreStep(`store ${path}`, () => repairManifests(objects, true));
    return { mended: [...before, ...mended], lost };
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
      mended: [...before.filter(({ what }) => !remaining.includes(what)), ...mended],
      lost: [...before.filter(({ what }) => remaining.includes(what)), ...lost],
    };
  } finally {
    await store.close();
  }
}
