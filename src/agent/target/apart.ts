/** Several targets of one command: none shares bytes with another one, by whatever name it is reached. */
import { dirname } from 'node:path';
import { type Footprint, footprintOf, footprintUnder, overlaps } from '../../devices/system/footprint.js';
import { StillpointError } from '../../domain/base/errors.js';
import { followTarget } from './path.js';

interface Place {
  readonly named: string;
  readonly path: string;
  readonly footprint: Footprint;
}

/** @throws StillpointError `usage`, and as `followTarget` */
export async function refuseSharedTargets(targets: readonly string[]): Promise<void> {
  const places: Place[] = [];
  for (const named of targets) {
    const place = await placeOf(named);
    for (const other of places) {
      if (other.path === place.path) throw shared(other, place, 'they are the same');
      const isShared =
        overlaps(place.footprint, other.footprint) || overlaps(other.footprint, place.footprint);
      if (isShared) throw shared(other, place, 'they are the same, or one is on the other');
    }
    places.push(place);
  }
}

async function placeOf(named: string): Promise<Place> {
  const { path, status } = await followTarget(named);
  const footprint = status === null ? await ofNewImage(path) : await footprintOf(path);
  return { named, path, footprint };
}

/** It has no bytes yet; its file system has, and decides where in them they will be. */
async function ofNewImage(path: string): Promise<Footprint> {
  const { same, within, on } = await footprintUnder(dirname(path));
  return { same: new Set(), within: new Set(), on: new Set([...same, ...within, ...on]), images: [] };
}

function shared(a: Place, b: Place, reason: string): StillpointError {
  return new StillpointError('usage', {
    thing: `targets ${a.named} and ${b.named}`,
    reason: `${reason}, so one would overwrite the other`,
    remedy: 'Give each point a target of its own.',
  });
}
