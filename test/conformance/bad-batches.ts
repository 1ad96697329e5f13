/** Batches that are wrong in one thing each. */
import { BATCH_BYTES_MAX, MiB } from '../../src/domain/base/limits.js';
import { alterRecord, batchOf, encodeTestBatch, encodeTestRecord, seal } from '../helpers/bytes/batches.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { changePieces, encodeTestPatch, type TestPatch } from '../helpers/bytes/patches.js';
import { GEOMETRY } from '../helpers/bytes/requests.js';
import type { BadCall, BadCase } from './receiver/scene.js';
import { block, blocksOf, newSessionId } from './receiver.js';

const GOOD = block(3, 1);
const DIGEST = PLAIN.leafDigest(GOOD);
const RECORD = encodeTestRecord(GOOD);
const OTHER_DIGEST = PLAIN.leafDigest(block(4, 1));
/** Its zstd frame holds 4 MiB, and its header says that it holds a block. */
const BOMB = alterRecord(encodeTestRecord(Buffer.alloc(4 * MiB, 'bomb')), (header) => {
  header.writeUInt32LE(GEOMETRY.blockSize, 8);
  header.set(DIGEST, 16);
});

/** A batch 2 of the scene's session that is good but for one thing. */
function bad(change: (sessionId: string) => Partial<Parameters<typeof encodeTestBatch>[0]>): BadCall {
  return ({ port, sessionId }) => {
    const good = { sessionId, sequence: 2, entries: [{ blockIndex: 3, digest: DIGEST }], records: [RECORD] };
    return port.batch(sessionId, 2, encodeTestBatch({ ...good, ...change(sessionId) }));
  };
}

function cut(change: (good: Buffer) => Buffer): BadCall {
  return ({ port, sessionId }) => port.batch(sessionId, 2, change(batchOf(sessionId, 2, blocksOf([3], 1))));
}

/** A patch of block 0 of the scene's base that is good but for one thing. */
function badPatch(
  patch: Partial<TestPatch>,
  change: Partial<Parameters<typeof encodeTestBatch>[0]> = {},
): BadCall {
  const now = changePieces(block(0, 1), [2]);
  const entry = { blockIndex: 0, kind: 3, digest: PLAIN.leafDigest(now) };
  const patches = [encodeTestPatch({ block: now, pieces: [2], ...patch })];
  return ({ port, sessionId }) =>
    port.batch(
      sessionId,
      2,
      encodeTestBatch({ sessionId, sequence: 2, entries: [entry], patches, ...change }),
    );
}

const one = { blockIndex: 3, digest: DIGEST };

export const BAD_BATCHES: readonly BadCase[] = [
  [
    'a wrong digest in entry and record',
    'bad-digest',
    bad(() => ({
      entries: [{ ...one, digest: OTHER_DIGEST }],
      records: [alterRecord(RECORD, (header) => header.set(OTHER_DIGEST, 16))],
    })),
  ],
  [
    'an entry of another digest than its record',
    'bad-digest',
    bad(() => ({ entries: [{ ...one, digest: OTHER_DIGEST }] })),
  ],
  [
    'a block of a wrong length',
    'bad-batch',
    bad(() => ({
      entries: [{ ...one, digest: PLAIN.leafDigest(GOOD.subarray(0, 4096)) }],
      records: [encodeTestRecord(GOOD.subarray(0, 4096))],
    })),
  ],
  [
    'a length that its bytes don’t have',
    'bad-batch',
    bad(() => ({
      records: [alterRecord(encodeTestRecord(GOOD, 0), (header) => header.writeUInt32LE(4096, 8))],
    })),
  ],
  ['a zstd bomb', 'bad-batch', bad(() => ({ records: [BOMB] }))],
  [
    'bytes that are no zstd',
    'bad-batch',
    bad(() => ({
      records: [
        alterRecord(Buffer.concat([RECORD.subarray(0, 80), Buffer.alloc(RECORD.length - 80, 1)]), (header) =>
          header.writeUInt8(1, 5),
        ),
      ],
    })),
  ],
  ['an index out of range', 'bad-batch', bad(() => ({ entries: [{ ...one, blockIndex: 16 }] }))],
  ['an index beyond all numbers', 'bad-batch', bad(() => ({ entries: [{ ...one, blockIndex: 2 ** 62 }] }))],
  [
    'a zero run beyond the end',
    'bad-batch',
    bad(() => ({ entries: [{ blockIndex: 10, blockCount: 7, kind: 0 }], records: [] })),
  ],
  [
    'a zero run without blocks',
    'bad-batch',
    bad(() => ({ entries: [{ blockIndex: 10, blockCount: 0, kind: 0 }], records: [] })),
  ],
  ['entries that don’t ascend', 'bad-batch', bad(() => ({ entries: [one, { ...one, blockIndex: 2 }] }))],
  ['entries that overlap', 'bad-batch', bad(() => ({ entries: [one, one] }))],
  ['a record that no entry names', 'bad-batch', bad(() => ({ records: [RECORD, RECORD] }))],
  ['an entry of a record that is not there', 'bad-batch', bad(() => ({ entries: [{ ...one, ordinal: 1 }] }))],
  ['an unknown kind of entry', 'bad-batch', bad(() => ({ entries: [{ ...one, kind: 9 }] }))],
  ['more entries announced than there are', 'bad-batch', bad(() => ({ entryCount: 2 ** 32 - 1 }))],
  ['more record bytes announced than there are', 'bad-batch', bad(() => ({ recordBytes: 2 ** 40 }))],
  ['another magic number', 'bad-batch', bad(() => ({ magic: 'SPBATCH2' }))],
  ['a batch of another session', 'bad-batch', bad(() => ({ sessionId: newSessionId() }))],
  ['a batch of another number', 'bad-batch', bad(() => ({ sequence: 3 }))],
  ['a truncated batch', 'bad-batch', cut((good) => good.subarray(0, -100))],
  ['a truncated batch with a right checksum', 'bad-batch', cut((good) => seal(good.subarray(0, -100)))],
  ['a batch with bytes behind it', 'bad-batch', cut((good) => seal(good))],
  [
    'a flipped bit',
    'bad-batch',
    cut((good) => Buffer.from(good.map((byte, i) => (i === 1000 ? byte ^ 1 : byte)))),
  ],
  ['an empty batch', 'bad-batch', cut(() => Buffer.alloc(0))],
  ['noise', 'bad-batch', cut(() => Buffer.alloc(100_000, 'noise'))],
  ['a patch that lacks a piece', 'bad-patch', badPatch({ pieces: [3] })],
  ['a patch that is no zstd', 'bad-patch', badPatch({ codec: 1 })],
  ['a patch without pieces', 'bad-batch', badPatch({ pieces: [] })],
  ['a patch of an unknown codec', 'bad-batch', badPatch({ codec: 2 })],
  ['a patch with another magic number', 'bad-batch', badPatch({ magic: 'SPD2' })],
  ['a patch of another length', 'bad-batch', badPatch({ storedLength: 5000 })],
  [
    'a patch longer than the batch',
    'bad-batch',
    badPatch(
      { pieces: [2, 3], storedLength: 8192 },
      { patches: [encodeTestPatch({ block: block(0, 1), pieces: [2], storedLength: 4097 })] },
    ),
  ],
  ['an entry without its patch', 'bad-batch', badPatch({}, { patches: [] })],
  ['a patch without its entry', 'bad-batch', badPatch({}, { entries: [] })],
  [
    'a patch over a block that the base has not',
    'bad-patch',
    badPatch({}, { entries: [{ blockIndex: 9, kind: 3, digest: OTHER_DIGEST }] }),
  ],
  [
    'a patch over a block that only the session sent',
    'bad-patch',
    badPatch({}, { entries: [{ blockIndex: 2, kind: 3, digest: OTHER_DIGEST }] }),
  ],
  ['a batch that is too large', 'too-large', cut(() => Buffer.alloc(BATCH_BYTES_MAX + 1))],
  [
    'a block said to be held that never came',
    'bad-batch',
    bad(() => ({ entries: [{ ...one, kind: 2 }], records: [] })),
  ],
  [
    'a block said to be held that another agent sent',
    'bad-batch',
    bad(() => ({
      entries: [{ blockIndex: 3, kind: 2, digest: PLAIN.leafDigest(block(0, 1, 99)) }],
      records: [],
    })),
  ],
];
