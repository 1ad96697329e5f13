/**
 * Manifests as objects. Each is kept twice, in `points/` and in `points-copy/`, so that no single damaged or
 * lost file, and no lost directory, costs a point. The same goes for the marks of points that were removed.
 *
 * | `points/`        | `points-copy/`   | what it means                                           |
 * |------------------|------------------|---------------------------------------------------------|
 * | whole            | whole, the same  | a point                                                 |
 * | whole            | missing          | a point: a writer died, or was of a former version      |
 * | whole            | damaged          | a point; a repair makes the copy again                  |
 * | damaged, missing | whole            | a point, by its copy; a repair makes the manifest again |
 * | whole            | whole, another   | the point in `points/`; the other is left alone         |
 * | damaged          | damaged, missing | its sequence is used, and its point is lost             |
 *
 * Where there is a `.deleted` mark in either, there is no point, whatever else is there.
 *
 * Order: a manifest is put into `points/` first, which is the commit point, then into `points-copy/`. A point
 * is removed in the order of removal.ts.
 */
import { StillpointError } from '../../domain/base/errors.js';
import type { Point } from '../../domain/point/point.js';
import { errnoOf } from '../disk/disk.js';
import {
  copyKeyOf,
  deletedKeyOf,
  POINTS_COPY_PREFIX,
  POINTS_PREFIX,
  type PointPlace,
  pointKey,
  pointPlaceOf,
} from '../disk/layout.js';
import type { ObjectStore } from '../objects/object-store.js';
import { decodeManifest, MANIFEST_BYTES_MAX } from './manifest.js';

export interface DamagedManifest {
  readonly key: string;
  readonly reason: string;
}

/** What is there of one sequence. */
export interface ManifestFiles {
  /** In `points/`. */
  readonly key: string;
  readonly place: PointPlace;
  /** Bytes of the manifest and of its copy; null: there is none. */
  manifestBytes: number | null;
  copyBytes: number | null;
  hasMark: boolean;
  hasMarkCopy: boolean;
}

/** All sequences that were ever used, by name; also those of which only a copy is left. */
export async function listManifests(objects: ObjectStore, agent?: string): Promise<ManifestFiles[]> {
  const found = new Map<string, ManifestFiles>();
  for (const prefix of [POINTS_PREFIX, POINTS_COPY_PREFIX]) {
    const isCopy = prefix === POINTS_COPY_PREFIX;
    for (const object of await objects.list(agent === undefined ? prefix : `${prefix}/${agent}`)) {
      const place = pointPlaceOf(object.key);
      // Somebody else's files are none of the store's business.
      if (place === null) continue;
      const key = pointKey(place, place.sequence);
      const files = found.get(key) ?? {
        ...{ key, place: { ...place, deleted: false }, manifestBytes: null, copyBytes: null },
        ...{ hasMark: false, hasMarkCopy: false },
      };
      found.set(key, files);
      if (place.deleted && isCopy) files.hasMarkCopy = true;
      else if (place.deleted) files.hasMark = true;
      else if (isCopy) files.copyBytes = object.sizeBytes;
      else files.manifestBytes = object.sizeBytes;
    }
  }
  return [...found.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}

export function isRemoved({ hasMark, hasMarkCopy }: ManifestFiles): boolean {
  return hasMark || hasMarkCopy;
}

export interface FoundManifest {
  /** Null: neither the manifest nor its copy can be read. */
  readonly point: Point | null;
  readonly sizeBytes: number;
  /** What is wrong with the manifest itself; null: nothing. */
  readonly fault: string | null;
}

/** The point of a manifest or, if that is damaged or missing, of its copy. */
export async function findManifest(objects: ObjectStore, files: ManifestFiles): Promise<FoundManifest> {
  const { key, manifestBytes, copyBytes } = files;
  const own = manifestBytes === null ? null : await readManifest(objects, key, manifestBytes);
  if (own !== null && !('reason' in own)) return { point: own, sizeBytes: manifestBytes ?? 0, fault: null };
  const fault = own?.reason ?? 'it is gone';
  const copy = copyBytes === null ? null : await readManifest(objects, copyKeyOf(key), copyBytes);
  const point = copy === null || 'reason' in copy ? null : copy;
  return { point, sizeBytes: copyBytes ?? 0, fault };
}

/** The point of a manifest or of a copy, or why it is none. */
export async function readManifest(
  objects: ObjectStore,
  key: string,
  sizeBytes: number,
): Promise<Point | DamagedManifest> {
  const read = await readWhole(objects, key, sizeBytes);
  return 'reason' in read ? read : read.point;
}

/** With the bytes that prove it. */
export async function readWhole(
  objects: ObjectStore,
  key: string,
  sizeBytes: number,
): Promise<{ readonly point: Point; readonly bytes: Buffer } | DamagedManifest> {
  const place = pointPlaceOf(key);
  if (place === null) return { key, reason: 'its name is not that of a point' };
  if (sizeBytes > MANIFEST_BYTES_MAX) return { key, reason: `it has ${sizeBytes} bytes` };
  try {
    const bytes = await objects.read(key, 0, sizeBytes);
    return { point: decodeManifest(bytes, place, key), bytes };
  } catch (error) {
    if (errnoOf(error) === 'EMFILE' || errnoOf(error) === 'ENFILE') throw error;
    return { key, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Puts the copy of a manifest that is whole, if there is none. Durable when it resolves. */
export async function copyManifest(objects: ObjectStore, key: string): Promise<void> {
  const sizeBytes = await objects.size(key);
  if (sizeBytes === null) return;
  const read = await readWhole(objects, key, sizeBytes);
  if ('reason' in read) throw new StillpointError('store-damaged', { thing: key, reason: read.reason });
  await objects.put(copyKeyOf(key), read.bytes);
}

/** True if the manifest's point was removed: its mark is there. */
export async function isMarked(objects: ObjectStore, key: string): Promise<boolean> {
  const mark = deletedKeyOf(key);
  return (await objects.size(mark)) !== null || (await objects.size(copyKeyOf(mark))) !== null;
}

/** The decision that a point is removed: when it resolves, nothing brings the point back. */
export async function putMark(objects: ObjectStore, key: string, bytes: Uint8Array): Promise<void> {
  await objects.put(deletedKeyOf(key), bytes);
}

/** Of a point that is marked: copies the mark, then removes both manifests. Again it has no effect. */
export async function finishRemoval(objects: ObjectStore, key: string): Promise<void> {
  await copyMark(objects, key);
  await objects.delete(copyKeyOf(key));
  await objects.delete(key);
}

/** Whatever a mark says, its name is what counts. */
async function copyMark(objects: ObjectStore, key: string): Promise<void> {
  const marks = [deletedKeyOf(key), copyKeyOf(deletedKeyOf(key))];
  const [own, copy] = await Promise.all(marks.map((mark) => objects.size(mark)));
  if ((own ?? copy ?? null) === null || (own !== null && copy !== null)) return;
  const [from = '', to = ''] = own === null ? marks.reverse() : marks;
  const sizeBytes = own ?? copy ?? 0;
  const bytes = sizeBytes === 0 ? Buffer.alloc(0) : await objects.read(from, 0, sizeBytes);
  await objects.put(to, bytes);
}

/**
 * Of a sequence that is used even without its mark.
 * @returns false if a manifest is still there, which the mark keeps from being a point
 */
export async function deleteMark(objects: ObjectStore, key: string): Promise<boolean> {
  for (const left of [key, copyKeyOf(key)]) if ((await objects.size(left)) !== null) return false;
  await takeMarkBack(objects, key);
  return true;
}

/** The one in `points/` goes last, so that it is whole as long as there is one. No mark: no effect. */
export async function takeMarkBack(objects: ObjectStore, key: string): Promise<void> {
  await objects.delete(copyKeyOf(deletedKeyOf(key)));
  await objects.delete(deletedKeyOf(key));
}

/** What of the files has no second one yet: of a former version, or of a writer that died in between. */
export function lacksCopy(files: ManifestFiles): boolean {
  if (isRemoved(files)) return files.hasMark !== files.hasMarkCopy;
  return files.manifestBytes !== null && files.copyBytes === null;
}

/** Makes the second one. Only for a manifest that was read and is whole. */
export async function addCopy(objects: ObjectStore, files: ManifestFiles): Promise<void> {
  await (isRemoved(files) ? copyMark(objects, files.key) : copyManifest(objects, files.key));
}
