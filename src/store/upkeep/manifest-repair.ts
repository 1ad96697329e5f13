/**
 * Looks at manifests and their copies, and makes the one of the two again that is damaged or gone, from the
 * other. It removes nothing but the damaged bytes that it replaces, and may be killed anywhere: at any moment
 * one of the two is whole.
 */
import type { Point } from '../../domain/point/point.js';
import { copyKeyOf } from '../disk/layout.js';
import type { ObjectStore } from '../objects/object-store.js';
import {
  type DamagedManifest,
  isRemoved,
  type ManifestFiles,
  readManifest,
  readWhole,
} from '../points/manifest-files.js';

export interface ManifestState {
  /** By the manifest or, if that is not whole, by its copy; null: both are lost, or it was removed. */
  readonly point: Point | null;
  /** What is wrong with which of the two. A copy that was never made is no fault. */
  readonly faults: readonly DamagedManifest[];
  /** The whole one and the one to be made of it; null: nothing is to be made, or nothing can be. */
  readonly mending: { readonly from: string; readonly to: string } | null;
}

export async function lookAtManifest(objects: ObjectStore, files: ManifestFiles): Promise<ManifestState> {
  const { key, manifestBytes, copyBytes } = files;
  if (isRemoved(files)) return { point: null, faults: [], mending: null };
  const copyKey = copyKeyOf(key);
  const gone = { key, reason: 'it is gone' };
  const own = manifestBytes === null ? gone : await readManifest(objects, key, manifestBytes);
  const copy = copyBytes === null ? null : await readManifest(objects, copyKey, copyBytes);
  const isCopyWhole = copy !== null && !('reason' in copy);
  if ('reason' in own) {
    const faults = copy !== null && 'reason' in copy ? [own, copy] : [own];
    if (!isCopyWhole) return { point: null, faults, mending: null };
    return { point: copy, faults, mending: { from: copyKey, to: key } };
  }
  const mending = { from: key, to: copyKey };
  if (copy === null) return { point: own, faults: [], mending };
  if (!isCopyWhole) return { point: own, faults: [copy], mending };
  if (copy.id === own.id && copy.root === own.root) return { point: own, faults: [], mending: null };
  const reason = `it is whole, and of another point (${copy.id.slice(0, 8)}) than ${key}; neither is touched`;
  return { point: own, faults: [{ key: copyKey, reason }], mending: null };
}

/** @returns false if what was to be copied is not whole any more: then nothing was changed */
export async function mendManifest(
  objects: ObjectStore,
  { from, to }: { readonly from: string; readonly to: string },
): Promise<boolean> {
  const sizeBytes = (await objects.size(from)) ?? 0;
  const read = await readWhole(objects, from, sizeBytes);
  if ('reason' in read) return false;
  await objects.delete(to);
  await objects.put(to, read.bytes);
  return !('reason' in (await readManifest(objects, to, sizeBytes)));
}
