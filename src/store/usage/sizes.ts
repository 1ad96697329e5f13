/** What the files of a store take, and what is free on its disk: known without reading any of them. */
import { join } from 'node:path';
import type { Disk } from '../disk/disk.js';
import {
  CAPTURE_DIR,
  COLLECT_DIR,
  INDEX_DIR,
  JOURNALS_PREFIX,
  PACKS_PREFIX,
  POINTS_COPY_PREFIX,
  POINTS_PREFIX,
} from '../disk/layout.js';
import { roomFor } from '../disk/room.js';
import type { ObjectStore } from '../objects/object-store.js';

export interface StoreSizes {
  readonly packCount: number;
  readonly packBytes: number;
  readonly indexBytes: number;
  /** Manifests of points, their copies, and marks of removed ones. */
  readonly manifestBytes: number;
  /** Packs that open sessions and a running collection are writing, and what belongs to them. */
  readonly openBytes: number;
  /** Journals of taps. */
  readonly journalBytes: number;
  readonly freeBytes: number;
  /** Of them, what packs leave free. */
  readonly reserveBytes: number;
}

/** Files are counted with their lengths. */
export async function storeSizes(disk: Disk, dir: string, objects: ObjectStore): Promise<StoreSizes> {
  const packs = await objects.list(PACKS_PREFIX);
  const manifests = [...(await objects.list(POINTS_PREFIX)), ...(await objects.list(POINTS_COPY_PREFIX))];
  const sum = (found: readonly { readonly sizeBytes: number }[]) =>
    found.reduce((bytes, { sizeBytes }) => bytes + sizeBytes, 0);
  return {
    packCount: packs.length,
    packBytes: sum(packs),
    indexBytes: await folderBytes(disk, join(dir, INDEX_DIR)),
    manifestBytes: sum(manifests),
    openBytes:
      (await folderBytes(disk, join(dir, CAPTURE_DIR))) + (await folderBytes(disk, join(dir, COLLECT_DIR))),
    journalBytes: await folderBytes(disk, join(dir, JOURNALS_PREFIX)),
    ...(await roomFor(disk, dir)),
  };
}

async function folderBytes(disk: Disk, path: string): Promise<number> {
  let bytes = 0;
  for (const { name, isDirectory } of await disk.list(path)) {
    const entry = join(path, name);
    // A file that is gone since it was listed takes nothing.
    bytes += isDirectory ? await folderBytes(disk, entry) : ((await disk.size(entry)) ?? 0);
  }
  return bytes;
}
