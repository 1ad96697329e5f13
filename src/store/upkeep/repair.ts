/**
 * Brings back the points whose data is whole, where small files of a store are damaged or gone: manifests
 * from their copies, and the other way round. It removes nothing, may be killed anywhere and run again. What
 * opening a store mends by itself (store.json, its copy, a lost index) was mended before.
 */
import type { ObjectStore } from '../objects/object-store.js';
import { isRemoved, listManifests } from '../points/manifest-files.js';
import { lookAtManifest, mendManifest } from './manifest-repair.js';

export interface RepairFinding {
  /** A file, or a point. */
  readonly what: string;
  readonly reason: string;
}

export interface StoreRepair {
  /** What is whole again; of a dry run, what would be. */
  readonly mended: readonly RepairFinding[];
  /** What can't be made again, and why. */
  readonly lost: readonly RepairFinding[];
}

export async function repairManifests(objects: ObjectStore, dryRun: boolean): Promise<StoreRepair> {
  const mended: RepairFinding[] = [];
  const lost: RepairFinding[] = [];
  for (const files of await listManifests(objects)) {
    if (isRemoved(files)) continue;
    const { faults, mending } = await lookAtManifest(objects, files);
    for (const { key, reason } of mending === null ? faults : []) lost.push({ what: key, reason });
    if (mending === null) continue;
    const { from, to } = mending;
    const reason = `${faults[0]?.reason ?? 'it is missing'}; it is made again from ${from}`;
    if (dryRun || (await mendManifest(objects, mending))) mended.push({ what: to, reason });
    else
      lost.push({ what: to, reason: `${faults[0]?.reason ?? 'it is missing'}, and writing it again failed` });
  }
  return { mended, lost };
}
