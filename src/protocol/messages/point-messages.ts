/**
 * The messages about a receiver's points. None of them changes the store, except that they mark the damage
 * that they find.
 */
import { BATCH_BYTES_MAX, NODE_BYTES_MAX, NODES_REQUEST_MAX } from '../../domain/base/limits.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type { CheckOptions, NodeRequest, PointsOptions } from '../../domain/session/messages.js';
import { COMPARE_ANSWER_BYTES_MAX, COMPARE_QUESTION_BYTES_MAX } from '../codecs/compare-codec.js';
import {
  blockIndexesSchema,
  blockRangesSchema,
  checkEventSchema,
  checkOptionsSchema,
  deviceSchema,
  diffEventSchema,
  hexIdSchema,
  infoSchema,
  nodeRequestsSchema,
  partialSetSchema,
  pointDamageSchema,
  pointSchema,
  pointsOptionsSchema,
  REQUEST_BYTES_MAX,
  removedAnswerSchema,
  sequenceSchema,
  verifyEventSchema,
} from '../schemas/messages.js';
import { bytesAnswer, jsonAnswer, listAnswer } from './answer-forms.js';
import { call, stream } from './message.js';
import { bytes, field, json, nothing, rest } from './request-forms.js';

const NODES_ANSWER_BYTES_MAX = NODES_REQUEST_MAX * (4 + NODE_BYTES_MAX);

const device = field('device', 'device name', deviceSchema.optional());
const pointId = field('pointId', 'point id', hexIdSchema);

export const POINT_MESSAGES = {
  info: call({ path: '/info', request: nothing, answer: jsonAnswer(infoSchema) }),

  /**
   * Committed points of one device, or of all of the agent's devices; by device, then sequence. With `last`
   * only the last one of each: a history of years is not to come over the link before every backup.
   */
  points: call({
    path: '/points',
    request: json<[device?: string, options?: PointsOptions]>(
      REQUEST_BYTES_MAX,
      device,
      rest('points request', pointsOptionsSchema.optional()),
    ),
    answer: listAnswer('list of points', pointSchema),
  }),

  /**
   * Sessions of the agent that are open, or ended without a point, whose blocks are kept; by
   * device, then by last activity.
   */
  partialSets: call({
    path: '/partial',
    request: json<[device?: string]>(REQUEST_BYTES_MAX, device),
    answer: listAnswer('list of partial sets', partialSetSchema),
  }),

  /**
   * What became of the point that a device had under this sequence: null, unless the receiver removed it on
   * purpose. For an agent that misses the point that was acknowledged last.
   */
  removedPoint: call({
    path: '/point/removed',
    request: json<[device: string, sequence: number]>(
      REQUEST_BYTES_MAX,
      field('device', 'device name', deviceSchema),
      field('sequence', 'sequence', sequenceSchema),
    ),
    answer: jsonAnswer(removedAnswerSchema),
  }),

  /**
   * Contents of tree nodes of a point, untrusted until digested. Answer, for each request in order: u32
   * length (0 for a null node), then the trimmed content.
   */
  nodes: call({
    path: '/point/nodes',
    request: json<[pointId: string, requests: readonly NodeRequest[]]>(
      REQUEST_BYTES_MAX,
      pointId,
      field('requests', 'nodes request', nodeRequestsSchema),
    ),
    answer: bytesAnswer(NODES_ANSWER_BYTES_MAX, { memoryBytesMax: NODES_ANSWER_BYTES_MAX }),
    bulk: 'answer',
  }),

  /**
   * The other direction: the caller's own contents of nodes of a point's tree, and the answer says which of
   * their children differ (compare-codec.ts).
   */
  compareNodes: call({
    path: '/point/compare',
    request: bytes('compare question', COMPARE_QUESTION_BYTES_MAX),
    answer: bytesAnswer(COMPARE_ANSWER_BYTES_MAX),
  }),

  /**
   * Blocks of a point as one batch (docs/format.md section 4); may answer with a prefix of the
   * request, at least one block.
   */
  blocks: call({
    path: '/point/blocks',
    request: json<[pointId: string, blockIndexes: readonly number[]]>(
      REQUEST_BYTES_MAX,
      pointId,
      field('blockIndexes', 'blocks request', blockIndexesSchema),
    ),
    answer: bytesAnswer(BATCH_BYTES_MAX, { memoryBytesMax: BATCH_BYTES_MAX }),
    bulk: 'answer',
  }),

  /** Re-reads and re-digests what the store holds: one point, those of a device, or all of this agent. */
  verify: stream({
    path: '/point/verify',
    request: json<[pointId?: string | undefined, device?: string]>(
      REQUEST_BYTES_MAX,
      field('pointId', 'point id', hexIdSchema.optional()),
      device,
    ),
    what: 'verification',
    event: verifyEventSchema,
  }),

  /**
   * Recomputes the digests of a point's blocks from the stored bytes, without believing the tree or the
   * index: which blocks of the point the receiver can't give. In device order; a summary is the last event.
   * At most CHECK_RANGES_MAX ranges, ascending, apart; by default all blocks. With `known` no block is read
   * back: only what is known to be damaged already is told.
   */
  check: stream({
    path: '/point/check',
    request: json<[pointId: string, ranges?: readonly BlockRange[], options?: CheckOptions]>(
      REQUEST_BYTES_MAX,
      pointId,
      field('ranges', 'check request', blockRangesSchema.optional()),
      rest('check request', checkOptionsSchema.optional()),
    ),
    what: 'check of a point',
    event: checkEventSchema,
  }),

  /**
   * Points of the agent, or of one of its devices, that need something that the receiver knows to be damaged;
   * by device, then sequence.
   */
  damage: call({
    path: '/points/damage',
    request: json<[device?: string]>(REQUEST_BYTES_MAX, device),
    answer: listAnswer('list of damaged points', pointDamageSchema),
  }),

  /**
   * What differs between two points of one block size, found by their trees at the receiver; a
   * summary is the last event.
   */
  diff: stream({
    path: '/point/diff',
    request: json<[fromId: string, toId: string]>(
      REQUEST_BYTES_MAX,
      field('from', 'point id', hexIdSchema),
      field('to', 'point id', hexIdSchema),
    ),
    what: 'diff of two points',
    event: diffEventSchema,
  }),
};
