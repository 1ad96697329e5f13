/**
 * How a point is removed (docs/format.md sections 5 and 6). Its mark is the decision: from the moment that it
 * is durable there is no such point, whatever becomes of the manifest. So each step may be the last one:
 *
 * | dies after               | found at the next opening                                        |
 * |--------------------------|------------------------------------------------------------------|
 * | the index has forgotten  | the point is there, and is walked again; the next collection     |
 * | that it walked the point | looks at everything                                              |
 * | the mark is durable      | no point; the mark is copied, manifest and copy are removed      |
 * | its copy is durable      | no point; manifest and copy are removed                          |
 * | the manifest's copy is   | no point; the manifest is removed                                |
 * | removed                  |                                                                  |
 * | the manifest is removed  | no point                                                         |
 *
 * A mark keeps its sequence from being used twice, and tells an agent that its point was removed on purpose.
 * While the directory has a later name, the first is certain without it. So old marks go after a time.
 */
import { isHexId } from '../../domain/base/names.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { deletedKeyOf, pointKey } from '../disk/layout.js';
import { decodeSealed, encodeSealed } from '../disk/sealed-text.js';
import type { StoreIndex } from '../index/store-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { DeviceKey, RemovedPoint } from '../port/store.js';
import type { PointCatalog } from './catalog.js';
import type { Decisions } from './decisions.js';
import { deleteMark, finishRemoval, putMark } from './manifest-files.js';

/** Marks that no sequence needs stay so long: they tell readers beside the owner what became of a point. */
const MARK_KEEP_MS = 7 * 24 * 60 * 60 * 1000;
const MARK_BYTES_MAX = 64 * 1024;

export interface RemovalContext {
  readonly objects: ObjectStore;
  readonly index: Pick<StoreIndex, 'forgetWalk' | 'noteGarbage'>;
  readonly catalog: PointCatalog;
  readonly log: (message: string) => void;
  readonly now: () => Date;
  /** Before a sealed text is written. */
  readonly upgrade: () => Promise<void>;
}

/** Of several at once. */
export interface JointRemovalContext extends RemovalContext {
  readonly decisions: Decisions;
}

type TidyContext = Omit<RemovalContext, 'index' | 'upgrade'>;

/** @param why a clause, for people who look at the mark */
export async function removeManifest(context: RemovalContext, point: Point, why: string): Promise<void> {
  const { objects, catalog, log } = context;
  await forgetWalks(context, [point]);
  const key = pointKey(point, point.sequence);
  await putMark(objects, key, encodeSealed('stillpoint-removed', removedPoint(context, point, why)));
  catalog.remove(point);
  await noteGarbage(context, pointLabel(point));
  await finishRemoval(objects, key).catch((error) => {
    log(`${pointLabel(point)} is removed; its manifest goes when the store is opened next: ${String(error)}`);
  });
}

/** All of a group, by one decision. @param id of the group */
export async function removeAtOnce(
  context: JointRemovalContext,
  id: string,
  points: readonly Point[],
  why: string,
): Promise<void> {
  await forgetWalks(context, points);
  const removed = points.map((point) => removedPoint(context, point, why));
  await context.decisions.remove(id, removed);
  await noteGarbage(context, points.map(pointLabel).join(', '));
}

/** Before anything is removed. */
async function forgetWalks({ index, upgrade }: RemovalContext, points: readonly Point[]): Promise<void> {
  await upgrade();
  // A session may choose the same id again, for another content.
  for (const { id } of points) await index.forgetWalk(id);
  await index.noteGarbage();
}

/** Once more, for a collection that began in between. The points are gone, whatever becomes of that. */
async function noteGarbage({ index, log }: RemovalContext, what: string): Promise<void> {
  await index.noteGarbage().catch((error) => log(`${what} is not collected yet: ${String(error)}`));
}

function removedPoint({ now }: RemovalContext, point: Point, why: string): RemovedPoint {
  const { id, agent, device, sequence } = point;
  return { id, agent, device, sequence, removedAt: now().toISOString(), why };
}

/** At the opening of the store: removals that were decided, and marks that are needed no more. */
export async function finishRemovals(context: TidyContext): Promise<void> {
  const { objects, catalog, log } = context;
  for (const key of catalog.undeleted()) {
    await finishRemoval(objects, key).catch((error) => log(`${key} can't be removed: ${String(error)}`));
  }
  await tidyMarks(context).catch((error) => log(`old marks of points stay: ${String(error)}`));
}

/** Removes marks that are needed no more. */
export async function tidyMarks({ objects, catalog, now }: TidyContext): Promise<void> {
  for (const place of catalog.surplusMarks()) {
    const removed = await readMark(objects, place);
    // One that a former program wrote says nothing of its age, and nobody waits for it.
    if (removed !== null && Date.parse(removed.removedAt) + MARK_KEEP_MS > now().getTime()) continue;
    if (await deleteMark(objects, pointKey(place, place.sequence))) catalog.forgetMark(place);
  }
}

/**
 * What the mark of a sequence says; null if there is none, or if it says nothing: its name alone makes it a
 * mark.
 */
export async function readMark(
  objects: ObjectStore,
  place: DeviceKey & { readonly sequence: number },
): Promise<RemovedPoint | null> {
  const key = deletedKeyOf(pointKey(place, place.sequence));
  const sizeBytes = await objects.size(key);
  if (sizeBytes === null || sizeBytes === 0 || sizeBytes > MARK_BYTES_MAX) return null;
  // Without it nothing is known, which is not the same as a mark that says nothing.
  const bytes = await objects.read(key, 0, sizeBytes);
  try {
    const removed = decodeSealed('stillpoint-removed', bytes, key).body as unknown as RemovedPoint;
    const isOfPlace =
      isHexId(removed.id) &&
      removed.agent === place.agent &&
      removed.device === place.device &&
      removed.sequence === place.sequence &&
      !Number.isNaN(Date.parse(removed.removedAt));
    return isOfPlace ? removed : null;
  } catch {
    return null;
  }
}
