/**
 * The shapes of all JSON messages (docs/protocol.md): strict, every string, number and list bounded. A
 * message is parsed once, where it enters, as its row says (session-messages.ts and its neighbours). After
 * that the types of src/domain/session/messages.ts hold.
 */
import { z } from 'zod';
import { StillpointError } from '../../domain/base/errors.js';
import {
  BAD_RANGES_MAX,
  BLOCKS_REQUEST_MAX,
  CHECK_RANGES_MAX,
  DEVICE_SIZE_MAX,
  DIFF_RANGES_MAX,
  EXCLUDED_RANGES_MAX,
  EXCLUDED_REASON_CHARS_MAX,
  GROUP_MEMBERS_MAX,
  NODES_REQUEST_MAX,
  PIECES_REQUEST_MAX,
  PROVIDER_FACTS_MAX,
  WARNING_CHARS_MAX,
  WARNINGS_MAX,
} from '../../domain/base/limits.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type { GroupCommit } from '../../domain/point/group.js';
import { CONSISTENCY_KINDS, type Point } from '../../domain/point/point.js';
import type {
  BeginAnswer,
  BeginRequest,
  CheckEvent,
  CheckOptions,
  CommitRequest,
  DiffEvent,
  NodeRequest,
  PartialSet,
  PointDamage,
  PointsOptions,
  ReceiverInfo,
  RemovedAnswer,
  SessionStatus,
  VerifyEvent,
} from '../../domain/session/messages.js';
import { journalPositionSchema } from './journals.js';

/**
 * Raised by any change that an older side would misread. An agent speaks this version only. A receiver serves
 * agents of this version, and of former ones down to PROTOCOL_VERSION_OLDEST; it answers in the version that
 * it was asked in. So receivers are updated before agents. docs/protocol.md has the rule.
 */
export const PROTOCOL_VERSION = 4;
/** No agent of an earlier version was ever released. What differs is in former.ts. */
export const PROTOCOL_VERSION_OLDEST = 3;

export const ROUTE_PREFIX = '/v1';
export const BINARY_TYPE = 'application/octet-stream';

/** The control header of every message. */
export const HEADER_PROTOCOL = 'stillpoint-protocol';
export const HEADER_SESSION = 'stillpoint-session';
export const HEADER_SEQUENCE = 'stillpoint-sequence';
export const HEADER_AGENT_TIME = 'stillpoint-agent-time';

/** Batches of one session. */
export const SEQUENCE_MAX = 2 ** 32 - 1;

/** Of the body of a small request. */
export const REQUEST_BYTES_MAX = 256 * 1024;

const PATH_CHARS_MAX = 4096;
const LABEL_CHARS_MAX = 512;
const PEM_CHARS_MAX = 8192;

const hexId = z.string().regex(/^[0-9a-f]{32}$/, '32 lower-case hex digits');
const hexDigest = z.string().regex(/^[0-9a-f]{64}$/, '64 lower-case hex digits');
/** Names are checked by checkName, for an error of their own; here only that they are bounded. */
const name = z.string().max(PATH_CHARS_MAX);
const label = z.string().max(LABEL_CHARS_MAX);
const count = z.int().min(0);
const time = z.iso.datetime('a time such as 2026-01-02T03:04:05.000Z').max(40);
const kind = z.enum(CONSISTENCY_KINDS);

const geometry = z.strictObject({ sizeBytes: z.number(), blockSize: z.number() });

const identity = z.strictObject({
  type: z.enum(['block', 'image']),
  path: z.string().max(PATH_CHARS_MAX),
  byId: label.exactOptional(),
  wwn: label.exactOptional(),
  serial: label.exactOptional(),
  partitionUuid: label.exactOptional(),
  filesystemUuid: label.exactOptional(),
  partitionTableUuid: label.exactOptional(),
  memberUuid: label.exactOptional(),
  content: label.exactOptional(),
  inode: label.exactOptional(),
  logicalSectorSize: z.int().min(1).max(65_536),
});

const statistics = z.strictObject({
  scannedBytes: count,
  changedBytes: count,
  wireBytes: count,
  durationMs: count,
});

const badRanges = z
  .array(
    z.strictObject({
      byteOffset: count.max(DEVICE_SIZE_MAX),
      byteLength: z.int().min(1).max(DEVICE_SIZE_MAX),
      content: z.enum(['previous', 'filler']),
    }),
  )
  .max(BAD_RANGES_MAX);

const excluded = z
  .array(
    z.strictObject({
      byteOffset: count.max(DEVICE_SIZE_MAX),
      byteLength: z.int().min(1).max(DEVICE_SIZE_MAX),
      reason: z.string().max(EXCLUDED_REASON_CHARS_MAX),
    }),
  )
  .max(EXCLUDED_RANGES_MAX)
  .exactOptional();

const warnings = z.array(z.string().max(WARNING_CHARS_MAX)).max(WARNINGS_MAX);

const FACTS = 'facts with names of 1 to 32 letters, each a text, a number or a truth value';
const providerFacts = z
  .record(z.string().regex(/^[a-zA-Z]{1,32}$/), z.union([label, z.number(), z.boolean()], FACTS), FACTS)
  .refine((facts) => Object.keys(facts).length <= PROVIDER_FACTS_MAX, `at most ${PROVIDER_FACTS_MAX} facts`);

/** As a commit names it: what names a provider in a list. */
const PROVIDER_NAME = '1 to 32 lower-case letters, digits and dashes';
const providerName = z.string(PROVIDER_NAME).regex(/^[a-z][a-z0-9-]{0,31}$/, PROVIDER_NAME);

const missing = z.array(name).min(1).max(GROUP_MEMBERS_MAX).exactOptional();

export const pointGroupSchema = z.strictObject({
  id: hexId,
  name,
  sequence: z.int().min(1),
  memberCount: z.int().min(1).max(GROUP_MEMBERS_MAX),
  ownCount: z.int().min(1).max(GROUP_MEMBERS_MAX).exactOptional(),
  missing,
});

export const groupCommitSchema: z.ZodType<GroupCommit> = z.strictObject({
  id: hexId,
  name,
  sessionIds: z.array(hexId).min(1).max(GROUP_MEMBERS_MAX),
  missing,
  isOfReceiver: z.boolean().exactOptional(),
});

export const pointSchema: z.ZodType<Point> = z.strictObject({
  id: hexId,
  agent: name,
  device: name,
  sequence: z.int().min(1),
  baseSequence: z.int().min(1).nullable(),
  geometry,
  identity,
  root: hexDigest,
  top: hexDigest,
  kind,
  provider: label,
  providerFacts,
  instant: time,
  committedAt: time,
  statistics,
  storedBytes: count,
  badRanges,
  excluded,
  warnings,
  group: pointGroupSchema.exactOptional(),
  journal: journalPositionSchema.exactOptional(),
});

export const infoSchema: z.ZodType<ReceiverInfo> = z.strictObject({
  storeId: hexId,
  agent: name,
  protocolVersion: z.int(),
});

export const pointsOptionsSchema: z.ZodType<PointsOptions> = z.strictObject({
  last: z.boolean().exactOptional(),
});

export const beginRequestSchema: z.ZodType<BeginRequest> = z.strictObject({
  device: name,
  identity,
  geometry,
  base: z.strictObject({ id: hexId, root: hexDigest }).nullable(),
  sessionId: hexId,
  acceptIdentity: z.boolean(),
  newChain: z.boolean(),
});

export const beginAnswerSchema: z.ZodType<BeginAnswer> = z.strictObject({
  sessionId: hexId,
  base: pointSchema.nullable(),
  resumed: z.boolean(),
  durableSequence: count.max(SEQUENCE_MAX),
  durableBlockEnd: count,
});

export const batchAnswerSchema: z.ZodType<{ durableSequence: number }> = z.strictObject({
  durableSequence: count.max(SEQUENCE_MAX),
});

export const commitRequestSchema: z.ZodType<CommitRequest> = z.strictObject({
  root: hexDigest,
  batchCount: count.max(SEQUENCE_MAX),
  kind,
  provider: providerName,
  providerFacts,
  instant: time,
  statistics,
  badRanges,
  excluded,
  warnings,
  group: groupCommitSchema.exactOptional(),
  journal: journalPositionSchema.exactOptional(),
});

export const statusSchema: z.ZodType<SessionStatus> = z.strictObject({
  sessionId: hexId,
  state: z.enum(['open', 'committed', 'unknown']),
  durableSequence: count.max(SEQUENCE_MAX),
  point: pointSchema.nullable(),
});

export const partialSetSchema: z.ZodType<PartialSet> = z.strictObject({
  device: name,
  sessionId: hexId,
  begunAt: time.nullable(),
  state: z.enum(['open', 'ended']),
  durableBytes: count,
  lastActivityAt: time,
  expiresAt: time,
});

export const deviceSchema: z.ZodType<string> = name;
export const hexIdSchema: z.ZodType<string> = hexId;
export const sequenceSchema: z.ZodType<number> = z.int().min(1).max(SEQUENCE_MAX);

export const nodeRequestsSchema: z.ZodType<NodeRequest[]> = z
  .array(z.strictObject({ level: z.int().min(1).max(16), index: count }))
  .min(1)
  .max(NODES_REQUEST_MAX);
export const blockRangesSchema: z.ZodType<BlockRange[]> = z
  .array(z.tuple([count, count]))
  .min(1)
  .max(CHECK_RANGES_MAX);
export const blockIndexesSchema: z.ZodType<number[]> = z.array(count).min(1).max(BLOCKS_REQUEST_MAX);
export const pieceIndexesSchema: z.ZodType<number[]> = z.array(count).min(1).max(PIECES_REQUEST_MAX);

export const verifyEventSchema: z.ZodType<VerifyEvent> = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('finding'),
    what: z.string().max(PATH_CHARS_MAX),
    reason: z.string().max(PATH_CHARS_MAX),
    points: z.array(z.string().max(LABEL_CHARS_MAX)),
  }),
  z.strictObject({ type: z.literal('progress'), doneBytes: count, totalBytes: count }),
  z.strictObject({
    type: z.literal('summary'),
    pointCount: count,
    blockCount: count,
    checkedBytes: count,
    findingCount: count,
  }),
]);

export const checkOptionsSchema: z.ZodType<CheckOptions> = z.strictObject({
  known: z.boolean().exactOptional(),
});

export const pointDamageSchema: z.ZodType<PointDamage> = z.strictObject({
  pointId: hexId,
  blockCount: count,
  byteCount: count,
});

export const checkEventSchema: z.ZodType<CheckEvent> = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('damaged'),
    start: count,
    end: count,
    reason: z.string().max(PATH_CHARS_MAX),
  }),
  z.strictObject({ type: z.literal('progress'), doneBytes: count, totalBytes: count }),
  z.strictObject({ type: z.literal('summary'), blockCount: count, damagedBlocks: count }),
]);

export const diffEventSchema: z.ZodType<DiffEvent> = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('ranges'),
    ranges: z
      .array(z.tuple([count, count, count]))
      .min(1)
      .max(DIFF_RANGES_MAX),
  }),
  z.strictObject({ type: z.literal('progress'), doneBytes: count, totalBytes: count }),
  z.strictObject({
    type: z.literal('summary'),
    rangeCount: count,
    blockCount: count,
    changedBytes: count,
    zeroBlockCount: count,
  }),
]);

/** An agent that is not enrolled yet asks for a certificate. The secret proves the invite. */
export interface EnrolRequest {
  /** 32 hex digits. */
  readonly secret: string;
  /** PKCS#10 request, PEM. */
  readonly csr: string;
  /** The name that the agent expects; null: whatever the invite says. */
  readonly name: string | null;
}

export interface EnrolAnswer {
  readonly receiverId: string;
  readonly agent: string;
  /** The agent's certificate, PEM. */
  readonly certificate: string;
}

export const enrolRequestSchema: z.ZodType<EnrolRequest> = z.strictObject({
  secret: hexId,
  csr: z.string().max(PEM_CHARS_MAX),
  name: name.nullable(),
});

export const enrolAnswerSchema: z.ZodType<EnrolAnswer> = z.strictObject({
  receiverId: hexId,
  agent: name,
  certificate: z.string().max(PEM_CHARS_MAX),
});

/** An enrolled agent asks for a certificate for its next key. */
export interface RenewRequest {
  /** PKCS#10 request, PEM. */
  readonly csr: string;
}

export interface RenewAnswer {
  /** The name that the receiver knows the agent by now. */
  readonly agent: string;
  readonly certificate: string;
  /** The receiver's CA certificates, PEM: the present one, and the next one if there is one already. */
  readonly authority: string;
}

export const renewRequestSchema: z.ZodType<RenewRequest> = z.strictObject({
  csr: z.string().max(PEM_CHARS_MAX),
});

export const renewAnswerSchema: z.ZodType<RenewAnswer> = z.strictObject({
  agent: name,
  certificate: z.string().max(PEM_CHARS_MAX),
  authority: z.string().max(2 * PEM_CHARS_MAX),
});

/** @param what names the message in the error. @throws StillpointError `bad-message` */
export function parseMessage<T>(what: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.join('.')}: `;
  throw new StillpointError('bad-message', {
    thing: what,
    reason: `it is not a valid message (${where}${issue?.message ?? 'unknown shape'})`.slice(0, 500),
    remedy: 'Agent and receiver may be of different versions; update the older one.',
  });
}

export const removedAnswerSchema: z.ZodType<RemovedAnswer> = z.strictObject({
  removed: z
    .strictObject({
      ...{ id: hexIdSchema, agent: z.string().max(64), device: deviceSchema, sequence: sequenceSchema },
      ...{ removedAt: z.iso.datetime(), why: z.string().max(64 * 1024) },
    })
    .nullable(),
});
