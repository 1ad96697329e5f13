/**
 * Pieces: the 4 KiB parts of a block whose short digests a receiver tells (docs/protocol.md, pieces). For
 * each requested block, the answer has a u16 number of pieces, 0 if the receiver has nothing to compare with,
 * and then as many digests.
 */

import { PIECE_BYTES, PIECE_DIGEST_BYTES, PIECES_RAW_BYTES_MAX, PIECES_REQUEST_MAX } from '../base/limits.js';
import { blockLength, type Geometry } from './geometry.js';

const COUNT_BYTES = 2;

/** Longest answer to one question: no block has more than its bytes, and each a count. */
export const PIECES_ANSWER_BYTES_MAX =
  PIECES_REQUEST_MAX * (COUNT_BYTES + PIECE_DIGEST_BYTES) +
  (PIECES_RAW_BYTES_MAX / PIECE_BYTES) * PIECE_DIGEST_BYTES;

const NO_PIECES = new Uint8Array(COUNT_BYTES);

export function pieceCount(blockBytes: number): number {
  return Math.ceil(blockBytes / PIECE_BYTES);
}

/** @param digests of each block in order; null: nothing to compare with */
export function encodePieces(digests: readonly (Uint8Array | null)[]): Uint8Array {
  const parts = digests.map((bytes) => (bytes === null ? NO_PIECES : withCount(bytes)));
  const answer = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    answer.set(part, at);
    at += part.length;
  }
  return answer;
}

function withCount(digests: Uint8Array): Uint8Array {
  const part = new Uint8Array(COUNT_BYTES + digests.length);
  new DataView(part.buffer).setUint16(0, digests.length / PIECE_DIGEST_BYTES, true);
  part.set(digests, COUNT_BYTES);
  return part;
}

/**
 * The part of each block, its count included; null if the answer is not one to a question about
 * blocks of these lengths.
 */
export function splitPieces(answer: Uint8Array, blockBytes: readonly number[]): Uint8Array[] | null {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.byteLength);
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const bytes of blockBytes) {
    if (at + COUNT_BYTES > answer.length) return null;
    const count = view.getUint16(at, true);
    const end = at + COUNT_BYTES + count * PIECE_DIGEST_BYTES;
    if ((count !== 0 && count !== pieceCount(bytes)) || end > answer.length) return null;
    parts.push(answer.subarray(at, end));
    at = end;
  }
  return at === answer.length ? parts : null;
}

/**
 * What is told of each payload entry of a chunk: the parts of the blocks that were asked about,
 * "nothing" for all others.
 * @param parts by block index
 */
export function piecesOfEntries(
  blockIndexes: Iterable<number>,
  parts: ReadonlyMap<number, Uint8Array>,
): Uint8Array[] {
  return Array.from(blockIndexes, (blockIndex) => parts.get(blockIndex) ?? NO_PIECES);
}

/** Questions that each fit into one message. @param blockIndexes ascending */
export function pieceQuestions(blockIndexes: readonly number[], size: Geometry): number[][] {
  const questions: number[][] = [];
  let rawBytes = 0;
  for (const blockIndex of blockIndexes) {
    const last = questions.at(-1);
    const bytes = blockLength(size, blockIndex);
    if (last === undefined || last.length >= PIECES_REQUEST_MAX || rawBytes + bytes > PIECES_RAW_BYTES_MAX) {
      questions.push([blockIndex]);
      rawBytes = bytes;
    } else {
      last.push(blockIndex);
      rawBytes += bytes;
    }
  }
  return questions;
}
