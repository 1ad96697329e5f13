/**
 * The messages of a session. A backup is a transaction of these messages, and each may be repeated as it is.
 */
import {
  BATCH_BYTES_MAX,
  DIGEST_BYTES,
  HAVE_DIGESTS_MAX,
  JSON_BYTES_MAX,
  PIECES_RAW_BYTES_MAX,
} from '../../domain/base/limits.js';
import { PIECES_ANSWER_BYTES_MAX } from '../../domain/blocks/pieces.js';
import type { BeginRequest, CommitRequest } from '../../domain/session/messages.js';
import {
  batchAnswerSchema,
  beginAnswerSchema,
  beginRequestSchema,
  commitRequestSchema,
  pieceIndexesSchema,
  pointSchema,
  REQUEST_BYTES_MAX,
  statusSchema,
} from '../schemas/messages.js';
import { bytesAnswer, done, jsonAnswer } from './answer-forms.js';
import { call } from './message.js';
import { bytes, field, inSession, json, labelled, nothing, numbered, rest } from './request-forms.js';

/** Of answers that take work: a commit recomputes the tree and writes packs. */
const WORK_TIMEOUT_MS = 30 * 60_000;
/** Digests whose bits fill a byte. */
const DIGESTS_PER_BYTE = 8;

export const SESSION_MESSAGES = {
  begin: call({
    path: '/session/begin',
    request: labelled(
      json<[request: BeginRequest]>(JSON_BYTES_MAX, rest('begin', beginRequestSchema)),
      ({ sessionId }) => ({ sessionId }),
    ),
    answer: jsonAnswer(beginAnswerSchema),
    answerTimeoutMs: () => WORK_TIMEOUT_MS,
  }),

  /**
   * Of n * 32 bytes of digests; the answer has ceil(n / 8) bytes, bit i (LSB first) set: held for this
   * device, need not be sent.
   */
  have: call({
    path: '/session/have',
    request: inSession(bytes('have', HAVE_DIGESTS_MAX * DIGEST_BYTES)),
    answer: bytesAnswer((_sessionId: string, digests: Uint8Array) =>
      Math.ceil(digests.length / DIGEST_BYTES / DIGESTS_PER_BYTE),
    ),
  }),

  /**
   * Digests of the 4 KiB pieces of blocks of the session's base point, for patches
   * (src/domain/blocks/pieces.ts). Block indexes ascend. The answer is small; what it is made of is not.
   */
  pieces: call({
    path: '/session/pieces',
    request: inSession(
      json<[blockIndexes: readonly number[]]>(
        REQUEST_BYTES_MAX,
        field('blockIndexes', 'pieces request', pieceIndexesSchema),
      ),
    ),
    answer: bytesAnswer(PIECES_ANSWER_BYTES_MAX, { memoryBytesMax: PIECES_RAW_BYTES_MAX }),
  }),

  /**
   * Answered when the batch is durable. Numbers start at 1; within a session the higher
   * number wins for a block.
   */
  batch: call({
    path: '/session/batch',
    request: inSession(numbered('batch number', bytes('batch', BATCH_BYTES_MAX))),
    answer: jsonAnswer(batchAnswerSchema),
    bulk: 'request',
  }),

  status: call({
    path: '/session/status',
    request: inSession(nothing),
    answer: jsonAnswer(statusSchema),
  }),

  commit: call({
    path: '/session/commit',
    request: labelled(
      inSession(json<[request: CommitRequest]>(JSON_BYTES_MAX, rest('commit', commitRequestSchema))),
      (_sessionId, { batchCount }) => ({ sequence: batchCount }),
    ),
    answer: jsonAnswer(pointSchema),
    answerTimeoutMs: () => WORK_TIMEOUT_MS,
  }),

  abort: call({ path: '/session/abort', request: inSession(nothing), answer: done }),
};
