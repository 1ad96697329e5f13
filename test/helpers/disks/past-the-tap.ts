/**
 * Writes straight into a tapped image. It stays open: the tap hears of it when somebody closes
 * what he may have written to.
 */
import { type FileHandle, open } from 'node:fs/promises';
import type { ExecutionContext } from 'ava';

export async function openPastTheTap(t: ExecutionContext, image: string): Promise<FileHandle> {
  const file = await open(image, 'r+');
  t.teardown(() => file.close());
  return file;
}

export async function writePastTheTap(
  t: ExecutionContext,
  image: string,
  blockIndexes: Iterable<number>,
  blockSize: number,
): Promise<FileHandle> {
  const file = await openPastTheTap(t, image);
  for (const blockIndex of blockIndexes) await file.write('past the tap', blockIndex * blockSize + 100);
  return file;
}
