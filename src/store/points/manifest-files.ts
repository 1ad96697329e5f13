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
 * is removed in the order of `removeManifest`.
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
import type { DeviceKey } from '../port/store.js';
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

/**
 * Makes a point unreachable for good: the mark, which is the commit point; its copy; then the copy of the
 * manifest, and the manifest. It may be called again after it died anywhere.
 */
export async function removeManifest(
  objects: ObjectStore,
  place: DeviceKey & { readonly sequence: number },
): Promise<void> {
  const key = pointKey(place, place.sequence);
  const mark = deletedKeyOf(key);
  await objects.put(mark, Buffer.alloc(0));
  await objects.put(copyKeyOf(mark), Buffer.alloc(0));
  await objects.delete(copyKeyOf(key));
  await objects.delete(key);
}

/** What of the files has no second one yet: of a former version, or of a writer that died in between. */
export function lacksCopy(files: ManifestFiles): boolean {
  if (isRemoved(files)) return files.hasMark !== files.hasMarkCopy;
  return files.manifestBytes !== null && files.copyBytes === null;
}

/** Makes the second one. Only for a manifest that was read and is whole. */
export async function addCopy(objects: ObjectStore, files: ManifestFiles): Promise<void> {
  const mark = deletedKeyOf(files.key);
  if (!isRemoved(files)) await copyManifest(objects, files.key);
  else await objects.put(files.hasMark ? copyKeyOf(mark) : mark, Buffer.alloc(0));
}
