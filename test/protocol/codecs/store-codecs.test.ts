/**
 * The store's values on the wire, there and back: nodes, what is held, blocks; and what
 * comes of damage on the way.
 */
import { randomBytes } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import {
  BATCH_BYTES_MAX,
  BLOCKS_ANSWER_STORED_BYTES,
  BLOCKS_REQUEST_MAX,
} from '../../../src/domain/base/limits.js';
import { blockCount } from '../../../src/domain/blocks/geometry.js';
import { native, RECORD_KIND_BLOCK, type StoredBlocks } from '../../../src/native/index.js';
import { answeredCount, decodeBlocks, encodeBlocks } from '../../../src/protocol/codecs/blocks-codec.js';
import { decodeHeld, encodeHeld } from '../../../src/protocol/codecs/have-codec.js';
import { decodeNodes, encodeNodes } from '../../../src/protocol/codecs/nodes-codec.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { seededRandom } from '../../helpers/seed.js';
import { stampedBlock } from '../../helpers/worlds/store-device.js';

const content = fc.nat({ max: 64 }).map((count) => randomBytes(count * 32));

test('nodes: what was sent is what is read; every prefix and every longer answer is refused', (t) => {
  fc.assert(
    fc.property(fc.array(content, { maxLength: 5 }), (contents) => {
      const answer = encodeNodes(contents);
      t.deepEqual(decodeNodes(answer, contents.length), contents);
      for (let length = 0; length < answer.length; length += length < 80 ? 1 : 31)
        t.is(typeof decodeNodes(answer.subarray(0, length), contents.length), 'string');
      t.is(decodeNodes(Buffer.concat([answer, Buffer.alloc(1)]), contents.length), 'the answer is too long');
      t.is(decodeNodes(answer, contents.length + 1), 'the answer is too short');
    }),
    { seed: seededRandom(t).seed, numRuns: 30 },
  );
  for (const bytes of [33, 65 * 32])
    t.regex(String(decodeNodes(encodeNodes([Buffer.alloc(bytes)]), 1)), /wrong length/);
});

test('held: what was sent is what is read; another length, and a bit for what was not asked, are refused', (t) => {
  const held = fc.tuple(fc.nat({ max: 70 }), fc.uniqueArray(fc.nat({ max: 69 })));
  fc.assert(
    fc.property(held, ([count, positions]) => {
      const set = new Set(positions.filter((at) => at < count));
      const answer = encodeHeld(set, count);
      t.is(answer.length, Math.ceil(count / 8));
      t.deepEqual(decodeHeld(answer, count), new Set([...set].sort((a, b) => a - b)));
      const wrong = [Buffer.concat([answer, Buffer.alloc(1)]), answer.subarray(1)].filter(
        ({ length }) => length !== answer.length,
      );
      for (const bytes of wrong) t.throws(() => decodeHeld(bytes, count), { code: 'bad-message' } as object);
      if (count % 8 === 0) return;
      const padded = Buffer.from(answer);
      padded[answer.length - 1] = (padded[answer.length - 1] ?? 0) | 0x80;
      t.throws(() => decodeHeld(padded, count), { code: 'bad-message' } as object);
    }),
    { seed: seededRandom(t).seed },
  );
});

const point = { id: 'ab'.repeat(16), geometry: { sizeBytes: 50 * 4096 - 96, blockSize: 4096 } };

/** As a store lends them: each record once, behind some bytes of others. */
function stored(blockIndexes: readonly number[], seedOf: (blockIndex: number) => number): StoredBlocks {
  const seeds = [...new Set(blockIndexes.map(seedOf))];
  const raw = seeds.map((seed) => stampedBlock(seed, 4096));
  const digests = raw.map((bytes) => PLAIN.leafDigest(bytes));
  return {
    blockIndexes: Float64Array.from(blockIndexes),
    recordOrdinals: Uint32Array.from(blockIndexes, (blockIndex) => seeds.indexOf(seedOf(blockIndex))),
    runs: raw.map((bytes, i) =>
      Buffer.concat([
        Buffer.alloc(7),
        native.encodeRecord(RECORD_KIND_BLOCK, digests[i] as Buffer, bytes, 1),
      ]),
    ),
    recordRuns: Uint32Array.from(seeds.keys()),
    recordOffsets: new Uint32Array(seeds.length).fill(7),
    recordDigests: Buffer.concat(digests),
  };
}

test('blocks: what was lent is what is decoded, and what was not asked for is seen', async (t) => {
  const indexes = fc.uniqueArray(fc.nat({ max: blockCount(point.geometry) - 2 }), {
    minLength: 1,
    maxLength: 20,
  });
  await fc.assert(
    fc.asyncProperty(indexes, fc.integer({ min: 1, max: 7 }), async (unordered, kinds) => {
      const wanted = unordered.sort((a, b) => a - b);
      const seedOf = (blockIndex: number) => (blockIndex % kinds) + 1;
      const answer = await encodeBlocks(point.id, stored(wanted, seedOf));
      t.is(answeredCount(answer, wanted), wanted.length);
      t.is(answeredCount(answer, [...wanted, 49]), wanted.length, 'a prefix');
      t.is(answeredCount(answer, wanted.slice(0, -1)), 0, 'more than was asked for');
      t.is(
        answeredCount(
          answer,
          wanted.map((blockIndex) => blockIndex + 1),
        ),
        0,
      );
      t.deepEqual(
        await decodeBlocks(answer, point, PLAIN),
        wanted.map((blockIndex) => stampedBlock(seedOf(blockIndex), 4096)),
      );
    }),
    { seed: seededRandom(t).seed, numRuns: 20 },
  );
});

test('blocks: every prefix and every flipped bit is refused', async (t) => {
  const wanted = [1, 5];
  const answer = await encodeBlocks(
    point.id,
    stored(wanted, (blockIndex) => blockIndex),
  );
  for (let length = 0; length < answer.length; length += 97) {
    const cut = answer.subarray(0, length);
    t.true([0, wanted.length].includes(answeredCount(cut, wanted)));
    await t.throwsAsync(decodeBlocks(cut, point, PLAIN));
  }
  for (let bit = 0; bit < answer.length * 8; bit += 211) {
    const changed = Buffer.from(answer);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    await t.throwsAsync(decodeBlocks(changed, point, PLAIN), undefined, `bit ${bit}`);
  }
  await t.throwsAsync(decodeBlocks(answer, { ...point, id: 'cd'.repeat(16) }, PLAIN));
});

test('blocks: a record that is damaged, or another one, is not sent', async (t) => {
  const lent = stored([1, 5], (blockIndex) => blockIndex);
  const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = lent.runs;
  const flipped = Buffer.from(first);
  flipped[flipped.length - 1] = (flipped.at(-1) ?? 0) ^ 1;
  await t.throwsAsync(encodeBlocks(point.id, { ...lent, runs: [flipped, second] }), { code: 'bad-checksum' });
  await t.throwsAsync(encodeBlocks(point.id, { ...lent, runs: [second, first] }), { code: 'bad-digest' });
  await t.throwsAsync(encodeBlocks(point.id, { ...lent, runs: [first, second.subarray(0, 60)] }), {
    code: 'truncated',
  });
});

test('blocks: as many as may be asked for, with as many bytes as a store lends, fit into a batch', (t) => {
  const { batchHeaderBytes, batchEntryBytes, batchTrailerBytes } = native.constants;
  const around = batchHeaderBytes + BLOCKS_REQUEST_MAX * batchEntryBytes + batchTrailerBytes;
  t.true(around + BLOCKS_ANSWER_STORED_BYTES <= BATCH_BYTES_MAX);
});
