/**
 * An agent gets another name: everything of it in the store goes on under the new one. No session of either
 * name is open meanwhile. Each step may be the last one, and all may be done again:
 *
 * | dies after                     | found at the next opening, until it is done again               |
 * |--------------------------------|-----------------------------------------------------------------|
 * | some journals, the first of all | those journals are of the new name, in whole folders            |
 * | some partial records           | those sets are of the new name                                  |
 * | the index: what devices hold   | the devices of the new name hold it                             |
 * | a manifest of the new name     | the point is of both names; of the former one, while a mark of  |
 * |                                | an earlier rename is there                                      |
 * | the mark of the former one     | the point is of the new name                                    |
 *
 * A manifest of the former name goes only when the one of the new name, and its copy, are durable and read.
 * An agent that gets a name back finds the marks that it left there: each says that there is no such point.
 * So it is taken away first. A mark of another point is not: its sequence is used.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { errnoOf } from '../disk/disk.js';
import { pointKey } from '../disk/layout.js';
import { encodeSealed } from '../disk/sealed-text.js';
import type { StoreIndex } from '../index/store-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { RemovedPoint } from '../port/store.js';
import type { PointCatalog } from './catalog.js';
import { encodeManifest } from './manifest.js';
import { copyManifest, finishRemoval, isMarked, putMark, takeMarkBack } from './manifest-files.js';
import { readMark } from './removal.js';

export interface RenameContext {
  readonly objects: ObjectStore;
  readonly index: Pick<StoreIndex, 'renameDevices'>;
  readonly catalog: PointCatalog;
  readonly partials: { rename(from: string, to: string): Promise<void> };
  readonly log: (message: string) => void;
  readonly now: () => Date;
}

/** @throws StillpointError `bad-name` if a sequence was another point's under the name that is to be */
export async function checkMarks(
  { objects, catalog }: Pick<RenameContext, 'objects' | 'catalog'>,
  from: string,
  to: string,
): Promise<void> {
  for (const point of catalog.all(from)) {
    const place = { ...point, agent: to };
    if (!(await isMarked(objects, pointKey(place, place.sequence)))) continue;
    const mark = await readMark(objects, place);
    if (mark?.id === point.id) continue;
    throw new StillpointError('bad-name', {
      thing: `agent ${to}`,
      reason: `${pointLabel(point)} was another point under this name, and a sequence is not used twice`,
      remedy: 'Choose another name.',
    });
  }
}

export async function renameAgent(context: RenameContext, from: string, to: string): Promise<void> {
  const { objects, index, catalog, partials, log, now } = context;
  await checkMarks(context, from, to);
  await partials.rename(from, to);
  await index.renameDevices(from, to);
  for (const point of catalog.all(from)) {
    const renamed: Point = { ...point, agent: to };
    const bytes = encodeManifest(renamed);
    const renamedKey = pointKey(renamed, point.sequence);
    await objects.put(renamedKey, bytes);
    // Reads it back, too.
    await copyManifest(objects, renamedKey);
    await takeMarkBack(objects, renamedKey);
    catalog.forgetMark(renamed);
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
