/**
 * What commands ask about retention, and what they are told: over the control socket of a running receiver
 * (src/receiver/control), or in the command's own process.
 */
import { z } from 'zod';
import { NAME_CHARS_MAX } from '../../domain/base/names.js';
import { hexIdSchema } from '../../protocol/schemas/messages.js';
import { policySchema } from '../../store/retention/files.js';

const FORGET_POINTS_MAX = 1000;

const text = z.string().max(8192);
const name = z.string().min(1).max(NAME_CHARS_MAX);
const agent = name.nullable();
const device = name.nullable();

export const retentionWishSchema = z.discriminatedUnion('to', [
  z.strictObject({ to: z.literal('show') }),
  z.strictObject({
    to: z.literal('set'),
    scope: z.strictObject({ agent, device }),
    /** Null: the scope has none any more. Undefined: as it is. */
    policy: policySchema.nullable().optional(),
    /** As the policy. */
    journalKeepMs: z.number().nullable().optional(),
    timeZone: text.optional(),
    minAgeMs: z.number().optional(),
  }),
  z.strictObject({ to: z.literal('plan'), agent, device }),
  z.strictObject({ to: z.literal('prune'), agent, device }),
  z.strictObject({ to: z.literal('forget'), pointIds: z.array(hexIdSchema).min(1).max(FORGET_POINTS_MAX) }),
  z.strictObject({ to: z.literal('forget-device'), agent: name, device: name }),
  z.strictObject({
    to: z.literal('pin'),
    pointId: hexIdSchema,
    reason: text,
    untilMs: z.number().nullable(),
  }),
  z.strictObject({ to: z.literal('unpin'), pointId: hexIdSchema }),
  z.strictObject({ to: z.literal('confirm-clock') }),
  z.strictObject({ to: z.literal('reset') }),
]);
export type RetentionWish = z.infer<typeof retentionWishSchema>;

const pinSchema = z.strictObject({
  ...{ agent: text, device: text, sequence: z.int(), pointId: text, reason: text },
  ...{ pinnedAt: text, until: text.nullable(), isInForce: z.boolean() },
});
export type PinView = z.infer<typeof pinSchema>;

export const retentionViewSchema = z.strictObject({
  /** Why the settings are lost: then the others are empty. */
  fault: text.nullable(),
  managedBy: text.nullable(),
  timeZone: text.nullable(),
  policies: z.array(z.strictObject({ agent, device, policy: policySchema })),
  /** For how long journals are kept: `journalKeepDefaultMs` where nothing is set. */
  journalKeep: z.array(z.strictObject({ agent, device, keepMs: z.number() })),
  journalKeepDefaultMs: z.number(),
  minAgeMs: z.number(),
  /** When the minimum age gets less. */
  lowering: z.strictObject({ minAgeMs: z.number(), at: text }).nullable(),
  pins: z.array(pinSchema),
  clock: z.strictObject({ isBelieved: z.boolean(), now: text, reason: text.nullable() }),
});
export type RetentionView = z.infer<typeof retentionViewSchema>;

const reasonSchema = z.strictObject({ rule: text, text });

/** An event of `plan`, for each point; and of `prune` and `forget`, for each that was removed. */
export const plannedPointSchema = z.strictObject({
  ...{ agent: text, device: text, sequence: z.int(), pointId: text, committedAt: text },
  ageMs: z.number().nullable(),
  flaw: text.nullable(),
  stays: z.boolean(),
  reasons: z.array(reasonSchema),
});
export type PlannedPointView = z.infer<typeof plannedPointSchema>;

/** Of journals that are not needed any more. */
const freedJournalsSchema = z.strictObject({
  /** From which records were removed, or which were removed altogether. */
  journalCount: z.int(),
  /** Of `plan`: at most so many. */
  bytes: z.number(),
});
export type FreedJournals = z.infer<typeof freedJournalsSchema>;

const brokenGroupSchema = z.strictObject({
  ...{ agent: text, name: text, sequence: z.int() },
  /** Points that stay, as points of their own. */
  left: z.array(z.strictObject({ agent: text, device: text, sequence: z.int(), pointId: text })),
});
export type BrokenGroupView = z.infer<typeof brokenGroupSchema>;

/** The end of `plan`, `prune` and `forget`. */
export const removalSummarySchema = z.strictObject({
  deviceCount: z.int(),
  /** Of the devices, those that no policy is for. */
  withoutPolicy: z.int(),
  staying: z.int(),
  going: z.int(),
  /** Why the clock is not believed. */
  clockDoubt: text.nullable(),
  /** Of `plan` and `prune`. Missing: none. */
  journals: freedJournalsSchema.optional(),
  /** Group points that lost points with a device that was forgotten. Missing: none. */
  notWholeAnyMore: z.array(brokenGroupSchema).optional(),
});
export type RemovalSummary = z.infer<typeof removalSummarySchema>;
