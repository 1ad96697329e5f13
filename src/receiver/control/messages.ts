/**
 * What commands say to the running receiver, over a socket in its directory: one JSON object a line. There is
 * one request per connection; the end of the connection cancels the request.
 *
 *   request  {"v":2, "op":"backup", ...}
 *   events   {"event":{...}}, as things happen
 *   the end  {"result":...} or {"error":{...}}
 */

import { z } from 'zod';
import { StillpointError } from '../../domain/base/errors.js';
import { HOST_STATES, RUN_PHASES } from '../../domain/group/run.js';
import { errorBodySchema } from '../../protocol/messages/error-body.js';
import { parseMessage, pointSchema } from '../../protocol/schemas/messages.js';
import { comparisonSchema, devicePlanSchema, orderProgressSchema } from '../../protocol/schemas/orders.js';
import type { CollectReport } from '../../store/port/store.js';
import { receiverGroupSchema } from '../orders/group-settings.js';
import {
  agentsSchema,
  groupsSchema,
  parallelSchema,
  roundItemSchema,
  roundSummarySchema,
  waitMsSchema,
} from '../orders/remote-settings.js';
import { retentionWishSchema } from '../retention/messages.js';

export const CONTROL_VERSION = 2;
export const CONTROL_LINE_BYTES_MAX = 4 * 1024 * 1024;

const text = z.string().max(8192);
const v = z.literal(CONTROL_VERSION);

const scrubWishSchema = z.strictObject({
  olderThanMs: z.number().min(0).exactOptional(),
  percent: z.number().gt(0).max(100).exactOptional(),
  /** As `--limit-rate` takes it. */
  rate: text.exactOptional(),
  of: z
    .strictObject({
      agent: text.exactOptional(),
      device: text.exactOptional(),
      pointId: text.exactOptional(),
    })
    .exactOptional(),
});
export type ScrubWish = z.infer<typeof scrubWishSchema>;

const requestSchema = z.discriminatedUnion('op', [
  z.strictObject({
    v,
    op: z.literal('backup'),
    agent: text,
    device: text,
    full: z.boolean(),
    waitMs: waitMsSchema,
  }),
  z.strictObject({
    v,
    op: z.literal('round'),
    agents: agentsSchema,
    groups: groupsSchema,
    parallel: parallelSchema,
    waitMs: waitMsSchema,
  }),
  z.strictObject({
    v,
    op: z.literal('compare'),
    agent: text,
    device: text,
    ...{ deep: z.boolean(), ship: z.boolean() },
    waitMs: waitMsSchema,
  }),
  z.strictObject({ v, op: z.literal('group-backup'), name: text, waitMs: waitMsSchema }),
  z.strictObject({ v, op: z.literal('group-cancel'), name: text }),
  z.strictObject({ v, op: z.literal('group-check'), group: receiverGroupSchema }),
  z.strictObject({ v, op: z.literal('groups'), name: text.nullable() }),
  z.strictObject({ v, op: z.literal('agents') }),
  z.strictObject({ v, op: z.literal('reload') }),
  z.strictObject({ v, op: z.literal('collect'), dryRun: z.boolean() }),
  z.strictObject({ v, op: z.literal('revoke'), agent: text, reason: text.nullable() }),
  z.strictObject({ v, op: z.literal('rename'), agent: text, to: text }),
  z.strictObject({ v, op: z.literal('remove'), agent: text, keepPoints: z.boolean() }),
  z.strictObject({ v, op: z.literal('use'), agent: text }),
  z.strictObject({ v, op: z.literal('scrub'), wish: scrubWishSchema }),
  z.strictObject({ v, op: z.literal('scrub-status') }),
  z.strictObject({ v, op: z.literal('retention'), wish: retentionWishSchema }),
]);
export type ControlRequest = z.infer<typeof requestSchema>;
export type ControlWish = ControlRequest extends infer R
  ? R extends ControlRequest
    ? Omit<R, 'v'>
    : never
  : never;

export const orderEventSchema = z.strictObject({
  state: z.enum(['queued', 'taken', 'running', 'done', 'failed', 'cancelled', 'expired', 'lost']),
  hasJoined: z.boolean(),
  progress: orderProgressSchema.nullable(),
});
export type OrderChange = z.infer<typeof orderEventSchema>;

const groupHostSchema = z.strictObject({
  agent: text,
  devices: z.array(text),
  state: z.enum(HOST_STATES),
  stalls: z.array(z.strictObject({ device: text, stallMs: z.number() })),
  /** Why it is out, as a sentence. */
  reason: text.nullable(),
});
export type GroupHostView = z.infer<typeof groupHostSchema>;

export const groupEventSchema = z.strictObject({
  phase: z.enum(RUN_PHASES),
  try: z.int().min(1),
  hosts: z.array(groupHostSchema),
});
export type GroupChange = z.infer<typeof groupEventSchema>;

export const groupResultSchema = z.strictObject({
  points: z.array(pointSchema),
  hosts: z.array(groupHostSchema),
  warnings: z.array(z.string()),
});

export const orderResultSchema = z.strictObject({
  point: pointSchema,
  warnings: z.array(z.string()),
  comparison: comparisonSchema.nullable(),
});
export const agentViewsSchema = z.array(
  z.strictObject({
    agent: text,
    isConnected: z.boolean(),
    address: text.nullable(),
    problem: text.nullable(),
    lastSeenAt: text.nullable(),
    devices: z.array(text),
    plans: z.array(devicePlanSchema),
    lastPoint: z.strictObject({ point: text, committedAt: text }).nullable(),
    state: z.enum(['invited', 'enrolled', 'revoked', 'unknown']),
    certificateExpiresAt: text.nullable(),
    isRenewalLate: z.boolean(),
    revoked: z.strictObject({ at: text, reason: text.nullable() }).nullable(),
  }),
);
export const scrubStatusSchema = z.strictObject({
  ...{ packCount: z.number(), totalBytes: z.number(), checkedBytes: z.number(), coveredBytes: z.number() },
  ...{ periodMs: z.number(), neverCheckedPacks: z.number(), isRunning: z.boolean() },
  ...{ oldestSince: text.nullable(), lastCheckedAt: text.nullable(), nextSliceAt: text.nullable() },
  damage: z.strictObject({
    ...{ openCount: z.number(), healedCount: z.number(), pointCount: z.number(), points: z.array(text) },
    ...{ openSince: text.nullable(), lastHealedAt: text.nullable() },
  }),
});
export const itemEventSchema = roundItemSchema;
export const summarySchema = roundSummarySchema;

const count = z.int().min(0);
export const collectReportSchema: z.ZodType<CollectReport> = z.strictObject({
  ...{ state: z.enum(['not-needed', 'done', 'put-off']), reason: z.string().nullable() },
  ...{ packCount: count, storedBytes: count, deadBytes: count, freeableBytes: count },
  ...{ removedPacks: count, rewrittenPacks: count, freedBytes: z.int(), keptPacks: count },
  durationMs: z.number().min(0),
});

const reply = z.union([
  z.strictObject({ event: z.unknown() }),
  z.strictObject({ result: z.unknown() }),
  z.strictObject({ error: errorBodySchema }),
]);
export type ControlReply = z.infer<typeof reply>;

const spoken = z.looseObject({ v: z.int() });

/** @throws StillpointError `bad-message`; `version`: command and receiver are of different releases */
export function parseRequest(line: Buffer): ControlRequest {
  const value = parseJson(line);
  const found = spoken.safeParse(value);
  if (found.success && found.data.v !== CONTROL_VERSION) {
    throw new StillpointError('version', {
      thing: 'message to the receiver',
      reason: `it has version ${found.data.v} of the control protocol, and the running receiver knows ${CONTROL_VERSION}`,
      remedy: 'The command is of another release than the receiver that runs: restart the receiver.',
    });
  }
  return parseMessage('message to the receiver', requestSchema, value);
}

export function parseReply(line: Buffer): ControlReply {
  return parseMessage("receiver's answer", reply, parseJson(line));
}

function parseJson(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'));
  } catch {
    return undefined;
  }
}
