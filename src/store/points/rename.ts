/**
 * An agent gets another name: everything of it in the store goes on under the new one. No session of either
 * name is open meanwhile. Each step may be the last one, and all may be done again:
 *
 * | dies after                     | found at the next opening, until it is done again               |
 * |--------------------------------|-----------------------------------------------------------------|
 * | some partial records           | those sets are of the new name                                  |
 * | the index: what devices hold   | the devices of the new name hold it                             |
 * | a manifest of the new name     | the point is of both names                                      |
 * | the mark of the former one     | the point is of the new name                                    |
 *
 * A manifest of the former name goes only when the one of the new name, and its copy, are durable and read.
 */
import { errnoOf } from '../disk/disk.js';
import { pointKey } from '../disk/layout.js';
import { encodeSealed } from '../disk/sealed-text.js';
import type { StoreIndex } from '../index/store-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { RemovedPoint } from '../port/store.js';
import type { PointCatalog } from './catalog.js';
import { encodeManifest } from './manifest.js';
import { copyManifest, finishRemoval, putMark } from './manifest-files.js';

export interface RenameContext {
  readonly objects: ObjectStore;
  readonly index: Pick<StoreIndex, 'renameDevices'>;
  readonly catalog: PointCatalog;
  readonly partials: { rename(from: string, to: string): Promise<void> };
  readonly log: (message: string) => void;
  readonly now: () => Date;
}

export async function renameAgent(context: RenameContext, from: string, to: string): Promise<void> {
  const { objects, index, catalog, partials, log, now } = context;
  await partials.rename(from, to);
  await index.renameDevices(from, to);
  for (const point of catalog.all(from)) {
    const renamed = { ...point, agent: to };
    const bytes = encodeManifest(renamed);
    await objects.put(pointKey(renamed, point.sequence), bytes);
    // Reads it back, too.
    await copyManifest(objects, pointKey(renamed, point.sequence));
    const { id, agent, device, sequence } = point;
    const why = `the agent is called ${to} now`;
    const mark: RemovedPoint = { id, agent, device, sequence, removedAt: now().toISOString(), why };
    const key = pointKey(point, sequence);
    await putMark(objects, key, encodeSealed('stillpoint-removed', mark));
    catalog.replace(point, renamed, bytes.length);
    await finishRemoval(objects, key).catch((error) => {
      // Its mark is there: it is removed when the store is opened next.
      log(`manifest ${key} stays for now: ${errnoOf(error) ?? String(error)}`);
    });
  }
}
