/** What a directory is finally on: the block devices and images under its file system, down to the disks. */
import { type ContentKey, footprintUnder } from './footprint.js';

/** @param path of an existing file or directory. */
export async function foundationsOf(path: string): Promise<ReadonlySet<ContentKey>> {
  const { same, within, on } = await footprintUnder(path);
  return new Set([...same, ...within, ...on]);
}
