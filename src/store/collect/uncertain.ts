/**
 * Points that may exist although nobody knows them: the last step of their commit failed (the sync of a
 * directory, say), so its session was told of an error, but the manifest is on disk, and is a point at the
 * next opening. What they need is needed.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { LOCAL_AGENT } from '../../domain/base/names.js';
import type { Point } from '../../domain/point/point.js';
import { pointName } from '../../domain/point/point-ref.js';
import { pointKey } from '../disk/layout.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { PointCatalog } from '../points/catalog.js';
import { listDecisions } from '../points/decision-file.js';
import { findManifest, isMarked, isRemoved, listManifests } from '../points/manifest-files.js';

/** @throws StillpointError `busy` for a manifest that can't be read: its point may need anything */
export async function uncertainPoints(objects: ObjectStore, catalog: PointCatalog): Promise<Point[]> {
  const known = new Set(catalog.all().map((point) => pointKey(point, point.sequence)));
  const found: Point[] = [];
  for (const decision of await listDecisions(objects, () => undefined)) {
    if (decision.does === 'commit')
      found.push(...decision.points.filter(({ id }) => catalog.byId(id) === undefined));
  }
  for (const files of await listManifests(objects)) {
    if (isRemoved(files) || known.has(files.key)) continue;
    const { point, fault } = await findManifest(objects, files);
    if (point !== null) found.push(point);
    // Otherwise it was removed since the list was made.
    else if (!(await isMarked(objects, files.key))) {
      throw new StillpointError('busy', {
        thing: 'collection',
        reason: `manifest ${files.key} can't be read (${fault}), and its point may need any pack`,
        remedy: `Put the file back from a copy of the store, or give the point up: "stillpoint receiver repair --forget-lost ${pointName(files.place, LOCAL_AGENT)}".`,
        permanent: false,
      });
    }
  }
  return found;
}
