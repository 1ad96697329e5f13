/** The question of `/point/compare` and its answer, byte by byte. */
import { randomBytes } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { NODES_REQUEST_MAX } from '../../../src/domain/base/limits.js';
import {
  answerBytes,
  COMPARE_ANSWER_BYTES_MAX,
  COMPARE_QUESTION_BYTES_MAX,
  compareChildren,
  decodeAnswer,
  decodeQuestion,
  encodeAnswer,
  encodeQuestion,
} from '../../../src/protocol/codecs/compare-codec.js';
import { seededRandom } from '../../helpers/seed.js';

const POINT_ID = 'ab'.repeat(16);
const hex = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((bytes) => Buffer.from(bytes).toString('hex'));
const node = fc.record({
  level: fc.integer({ min: 0, max: 255 }),
  index: fc.oneof(fc.nat(), fc.constant(Number.MAX_SAFE_INTEGER)),
  content: fc.nat({ max: 64 }).map((count) => randomBytes(count * 32)),
});
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });

test('what was asked is what is read; every prefix and every longer body is refused', (t) => {
  fc.assert(
    fc.property(hex, fc.array(node, { minLength: 1, maxLength: 5 }), (pointId, nodes) => {
      const question = encodeQuestion(pointId, nodes);
      t.deepEqual(decodeQuestion(question), { pointId, nodes });
      for (let length = 0; length < question.length; length += length < 80 ? 1 : 31) {
        t.throws(() => decodeQuestion(question.subarray(0, length)), { code: 'bad-message' } as object);
      }
      t.throws(() => decodeQuestion(Buffer.concat([question, Buffer.alloc(1)])), { message: /too long/ });
    }),
    { seed: seededRandom(t).seed, numRuns: 30 },
  );
  fc.assert(
    fc.property(fc.array(fc.record({ differing: u64, nulls: u64 }), { maxLength: 5 }), (nodes) => {
      const answer = encodeAnswer(nodes);
      t.deepEqual(decodeAnswer(answer, nodes.length), nodes);
      t.throws(() => decodeAnswer(answer, nodes.length + 1), { code: 'bad-message' } as object);
      t.throws(() => decodeAnswer(Buffer.concat([answer, Buffer.alloc(1)]), nodes.length), {
        code: 'bad-message',
      } as object);
    }),
    { seed: seededRandom(t).seed },
  );
});

test('any bit of the head and of a node’s head that is wrong is refused or is another question, never a crash', (t) => {
  const question = encodeQuestion(POINT_ID, [{ level: 1, index: 3, content: randomBytes(64) }]);
  for (let bit = 0; bit < (32 + 12) * 8; bit += 1) {
    const changed = Buffer.from(question);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    try {
      t.notDeepEqual(decodeQuestion(changed), decodeQuestion(question));
    } catch (error) {
      t.is((error as { code?: string }).code, 'bad-message');
    }
  }
});

test('the largest question and answer are as large as their bounds', (t) => {
  const nodes = Array.from({ length: NODES_REQUEST_MAX }, () => ({
    ...{ level: 1, index: 0, content: Buffer.alloc(64 * 32) },
  }));
  const question = encodeQuestion(POINT_ID, nodes);
  t.is(question.length, COMPARE_QUESTION_BYTES_MAX);
  t.is(decodeQuestion(question).nodes.length, NODES_REQUEST_MAX);
  t.is(NODES_REQUEST_MAX * answerBytes, COMPARE_ANSWER_BYTES_MAX);
  const tooMany = encodeQuestion(POINT_ID, [...nodes, { level: 1, index: 0, content: Buffer.alloc(0) }]);
  t.throws(() => decodeQuestion(tooMany), { message: /1025 nodes/ });
  t.throws(() => decodeQuestion(encodeQuestion(POINT_ID, [])), { message: /0 nodes/ });
  t.throws(
    () => decodeQuestion(encodeQuestion(POINT_ID, [{ level: 1, index: 0, content: Buffer.alloc(65 * 32) }])),
    {
      message: /node 0 is out of bounds/,
    },
  );
});

test('children are compared one by one; what is left out is NULL', (t) => {
  const child = fc.constantFrom(Buffer.alloc(32), Buffer.alloc(32, 1), Buffer.alloc(32, 2));
  const children = fc.array(child, { maxLength: 64 });
  fc.assert(
    fc.property(children, children, (own, theirs) => {
      let differing = 0n;
      let nulls = 0n;
      for (let i = 0; i < 64; i += 1) {
        const [mine, other] = [own[i] ?? Buffer.alloc(32), theirs[i] ?? Buffer.alloc(32)];
        if (!mine.equals(other)) differing += 2n ** BigInt(i);
        if (other.equals(Buffer.alloc(32))) nulls += 2n ** BigInt(i);
      }
      t.deepEqual(compareChildren(Buffer.concat(own), Buffer.concat(theirs)), { differing, nulls });
    }),
    { seed: seededRandom(t).seed },
  );
});
