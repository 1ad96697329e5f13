/**
 * What is known of a clone, in the state directory: `clones/ID`. A clone is believed only if it is, to the
 * nanosecond of its last change, what its record says: a clone without a record, or a record without its
 * clone, is worth nothing.
 *
 * | record | written                                  | says                                               |
 * |--------|------------------------------------------|----------------------------------------------------|
 * | held   | before the first read of the clone       | content of a session that may have been committed  |
 * | kept   | after the commit                         | content of that point                              |
 */
import type { BigIntStats } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  makeDirectory,
  readSpareStateFile,
  type StateFormat,
  writeStateFile,
} from '../../../config/state-file.js';
import { fileTimes } from '../../../devices/facts/honest-times.js';
import type { CloneFile } from './clone-file.js';

const recordSchema = z.strictObject({
  pointId: z.string(),
  state: z.enum(['held', 'kept']),
  madeAtMs: z.number(),
  path: z.string(),
  key: z.string(),
  imageKey: z.string(),
  sizeBytes: z.int().min(0),
  /** Of its last modification, and of its last change of any kind. */
  times: z.string(),
  /** What differs from the point besides: it was compared with it. In bytes. */
  alsoChanged: z.array(z.tuple([z.int().min(0), z.int().min(0)]).readonly()),
});
export type CloneRecord = Readonly<z.infer<typeof recordSchema>>;

const FORMAT: StateFormat<CloneRecord> = { format: 'stillpoint-clone', version: 1, schema: recordSchema };

const directoryIn = (stateDirectory: string): string => join(stateDirectory, 'clones');
const pathIn = (stateDirectory: string, cloneId: string): string =>
  join(directoryIn(stateDirectory), cloneId);

/** Null: there is none that can be believed. */
export function readRecord(stateDirectory: string, cloneId: string): Promise<CloneRecord | null> {
  return readSpareStateFile(pathIn(stateDirectory, cloneId), FORMAT);
}

/** Durable when it resolves. */
export async function writeRecord(
  stateDirectory: string,
  cloneId: string,
  record: CloneRecord,
): Promise<void> {
  await makeDirectory(directoryIn(stateDirectory));
  await writeStateFile(pathIn(stateDirectory, cloneId), FORMAT, record);
}

export async function removeRecord(stateDirectory: string, cloneId: string): Promise<void> {
  await rm(pathIn(stateDirectory, cloneId), { force: true });
}

/** Why the clone is not what was recorded, a clause; null: it is. */
export function whyNotAsRecorded(record: CloneRecord, clone: CloneFile, status: BigIntStats): string | null {
  if (record.key !== clone.key) return 'the clone of the last point is another file';
  if (Number(status.size) !== record.sizeBytes || fileTimes(status) !== record.times)
    return 'the clone of the last point was changed since';
  return null;
}
