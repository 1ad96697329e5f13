/** The facts of an image file that src/domain/device/instant-proof.ts judges. */
import { stat } from 'node:fs/promises';
import type { ImageFacts, SourcePresence } from '../../domain/device/instant-proof.js';
import { isOpenForWriting } from '../system/in-use.js';
import { doubtfulFileSystem, fileKey, fileTimes, waitForTick } from './honest-times.js';

/** Null: nothing has the name. */
export async function readImagePresence(path: string): Promise<SourcePresence | null> {
  const status = await orNull(stat(path, { bigint: true }));
  return status === null ? null : { key: fileKey(status), sizeBytes: Number(status.size) };
}

/**
 * From when it resolves on, a write shows in the next facts, unless they say that it may not.
 * Null: nothing has the name.
 */
export async function readImageFacts(path: string): Promise<ImageFacts | null> {
  return orNull(readFacts(path));
}

async function readFacts(path: string): Promise<ImageFacts> {
  const fileSystem = await doubtfulFileSystem(path);
  if (fileSystem === null) await waitForTick(path);
  const status = await stat(path, { bigint: true });
  return {
    key: fileKey(status),
    sizeBytes: Number(status.size),
    times: fileTimes(status),
    isOpenForWriting: isOpenForWriting(path),
    doubt: fileSystem === null ? null : `its times can't be trusted: it lies on ${fileSystem}`,
  };
}

async function orNull<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw error;
  }
}
