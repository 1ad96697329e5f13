/** Batches of blocks as a receiver answers them, made of blocks at hand. */
import { native, RECORD_KIND_BLOCK } from '../../../src/native/index.js';
import { PLAIN } from './digests.js';

/** The `runs`, `recordRuns`, ... of native.encodeBatch for these blocks, a run for each. */
export function recordsOf(blocks: readonly Buffer[]) {
  const digests = blocks.map((bytes) => PLAIN.leafDigest(bytes));
  return {
    runs: blocks.map((bytes, i) =>
      native.encodeRecord(RECORD_KIND_BLOCK, digests[i] ?? Buffer.alloc(0), bytes, 1),
    ),
    recordRuns: Uint32Array.from(blocks.keys()),
    recordOffsets: new Uint32Array(blocks.length),
    recordDigests: Buffer.concat(digests),
  };
}

/** @param blocks contents by block index, ascending */
export function batchOf(pointId: string, blocks: ReadonlyMap<number, Buffer>): Promise<Buffer> {
  return native.encodeBatch({
    sessionId: pointId,
    sequence: 0,
    agentTimeMs: 0,
    blockIndexes: Float64Array.from(blocks.keys()),
    recordOrdinals: Uint32Array.from(blocks.keys(), (_, ordinal) => ordinal),
    ...recordsOf([...blocks.values()]),
  });
}
