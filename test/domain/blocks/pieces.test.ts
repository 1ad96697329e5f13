import test from 'ava';
import { MiB, PIECES_RAW_BYTES_MAX, PIECES_REQUEST_MAX } from '../../../src/domain/base/limits.js';
import {
  encodePieces,
  PIECES_ANSWER_BYTES_MAX,
  pieceCount,
  pieceQuestions,
  piecesOfEntries,
  splitPieces,
} from '../../../src/domain/blocks/pieces.js';

const digests = (count: number, fill: number) => new Uint8Array(count * 8).fill(fill);

test('an answer is split into what was put together, nothing for a block included', (t) => {
  const told = [digests(16, 1), null, digests(2, 3)];
  const parts = splitPieces(encodePieces(told), [65_536, 65_536, 5000]);
  t.deepEqual(
    parts?.map((part) => part.length),
    [130, 2, 18],
  );
  t.deepEqual(
    parts?.map((part) => part.subarray(2)),
    told.map((bytes) => bytes ?? new Uint8Array(0)),
  );
  t.deepEqual(splitPieces(new Uint8Array(0), []), []);
});

test('an answer that is not one to the question is told', (t) => {
  const good = encodePieces([digests(16, 1), null]);
  t.truthy(splitPieces(good, [65_536, 65_536]));
  t.is(splitPieces(good, [65_536]), null);
  t.is(splitPieces(good, [65_536, 65_536, 65_536]), null);
  t.is(splitPieces(good, [8192, 65_536]), null);
  for (let length = 0; length < good.length; length += 1) {
    t.is(splitPieces(good.subarray(0, length), [65_536, 65_536]), null);
  }
});

test('entries that were not asked about are told of nothing', (t) => {
  const part = encodePieces([digests(2, 9)]);
  const parts = piecesOfEntries([4, 5, 6], new Map([[5, part]]));
  t.deepEqual(parts, [encodePieces([null]), part, encodePieces([null])]);
});

test('a block’s last piece may be short', (t) => {
  t.deepEqual([1, 4096, 4097, 65_536, 4 * MiB].map(pieceCount), [1, 1, 2, 16, 1024]);
});

test('questions keep to what one message may ask for, in order, and leave nothing out', (t) => {
  for (const blockSize of [8192, 65_536, 4 * MiB]) {
    const indexes = Array.from({ length: 3000 }, (_, i) => 2 * i);
    const size = { sizeBytes: 6000 * blockSize, blockSize };
    const questions = pieceQuestions(indexes, size);
    t.deepEqual(questions.flat(), indexes);
    for (const question of questions) {
      t.true(question.length <= PIECES_REQUEST_MAX);
      t.true(question.length * blockSize <= PIECES_RAW_BYTES_MAX);
      const answer = encodePieces(question.map(() => digests(pieceCount(blockSize), 1)));
      t.true(answer.length <= PIECES_ANSWER_BYTES_MAX);
    }
  }
  t.deepEqual(pieceQuestions([], { sizeBytes: 0, blockSize: 4096 }), []);
});
