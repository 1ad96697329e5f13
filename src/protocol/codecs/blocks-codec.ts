/**
 * The answer to `blocks`: a prefix of the requested blocks, at least one, as a batch of the point
 * (docs/format.md section 4). The native side copies the records into it as they are stored, and decodes and
 * proves them where they are used, on threads of its own. It does not know which blocks were requested: this
 * module compares them.
 */
import type { Geometry } from '../../domain/blocks/geometry.js';
import { type Digester, native, type StoredBlocks, type TreeFile } from '../../native/index.js';

/** Rejects where a record is not the one of its digest, or not as it was made: see Store.blocks. */
export function encodeBlocks(pointId: string, blocks: StoredBlocks): Promise<Buffer> {
  return native.encodeBatch({ sessionId: pointId, sequence: 0, agentTimeMs: 0, ...blocks });
}

const ENTRY_COUNT_OFFSET = 32;
const { batchHeaderBytes, batchEntryBytes } = native.constants;

/**
 * How many of the wanted blocks the answer has, by its entries; 0 where they are not a
 * prefix of what is wanted.
 */
export function answeredCount(answer: Uint8Array, wanted: readonly number[]): number {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.byteLength);
  const entryCount = answer.length < batchHeaderBytes ? 0 : view.getUint32(ENTRY_COUNT_OFFSET, true);
  const isComplete = answer.length >= batchHeaderBytes + entryCount * batchEntryBytes;
  if (entryCount > wanted.length || !isComplete) return 0;
  for (let entry = 0; entry < entryCount; entry += 1) {
    const at = batchHeaderBytes + entry * batchEntryBytes;
    const isWanted =
      view.getBigUint64(at, true) === BigInt(wanted[entry] ?? -1) && view.getUint32(at + 8, true) === 1;
    if (!isWanted) return 0;
  }
  return entryCount;
}

/**
 * The blocks' bytes in order, each proven to be what the answer says that it is, and, with `expected`, to be
 * that tree's. Rejects with a NativeError.
 */
export function decodeBlocks(
  answer: Uint8Array,
  point: { readonly id: string; readonly geometry: Geometry },
  digester: Digester,
  expected?: TreeFile,
): Promise<Buffer[]> {
  return native.decodeBlocks(answer, {
    sessionId: point.id,
    sequence: 0,
    ...point.geometry,
    digester,
    ...(expected === undefined ? {} : { expected }),
  });
}
