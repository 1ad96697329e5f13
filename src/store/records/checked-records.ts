/**
 * The common part of verify and check: they read records from their packs, never from a cache, and decode and
 * digest them before they count.
 */

import { DIGEST_BYTES, MiB } from '../../domain/base/limits.js';
import { isNull } from '../../domain/tree/digest-tree.js';
import { native, RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import type { ReadResult, RecordReader } from './record-reader.js';

/** Bytes of blocks that are read and digested at once, about. */
export const CHECKED_BYTES = 8 * MiB;

export interface Leaf {
  readonly blockIndex: number;
  readonly digest: Buffer;
}

/** Contents of tree nodes. */
export function readCheckedNodes(records: RecordReader, digests: readonly Buffer[]): Promise<ReadResult[]> {
  return records.read(RECORD_KIND_NODE, digests, (record, digest) =>
    native.decodeRecord(record, digest, records.digester),
  );
}

/** Records of blocks as they are stored. The caller bounds the bytes. */
export function readCheckedBlocks(records: RecordReader, leaves: readonly Leaf[]): Promise<ReadResult[]> {
  const digests = leaves.map(({ digest }) => digest);
  return records.read(RECORD_KIND_BLOCK, digests, async (record, digest) => {
    await native.decodeRecord(record, digest, records.digester);
    return record;
  });
}

/** Leaves of a node that are not NULL and not the same in `unlike`. */
export function newLeaves(blockIndex: number, content: Uint8Array, unlike: Uint8Array): Leaf[] {
  const leaves: Leaf[] = [];
  for (let at = 0; at < content.length; at += DIGEST_BYTES) {
    const digest = Buffer.from(content.subarray(at, at + DIGEST_BYTES));
    if (isNull(digest) || digest.equals(unlike.subarray(at, at + DIGEST_BYTES))) continue;
    leaves.push({ blockIndex: blockIndex + at / DIGEST_BYTES, digest });
  }
  return leaves;
}

export function* partsOf<T>(items: readonly T[], size: number): Generator<readonly T[]> {
  const step = Math.max(1, Math.floor(size));
  for (let at = 0; at < items.length; at += step) yield items.slice(at, at + step);
}
