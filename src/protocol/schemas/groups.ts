/** The shapes of the message by which a host takes part in a group (src/domain/group/steps.ts). */
import { z } from 'zod';
import { GROUP_MEMBERS_MAX, ORDER_WAIT_MS_MAX } from '../../domain/base/limits.js';
import type { GroupCommand, GroupReport, GroupStepRequest } from '../../domain/group/steps.js';
import { CONSISTENCY_KINDS } from '../../domain/point/point.js';
import { groupCommitSchema, hexIdSchema } from './messages.js';
import { orderFailureSchema } from './orders.js';

const TRIES_MAX = 1000;
/** Longer than any gate or freeze is kept. */
const STALL_MS_MAX = 24 * 60 * 60_000;
const REASON_CHARS_MAX = 8192;
/** Names are checked by checkName, for an error of their own. */
const name = z.string().max(REASON_CHARS_MAX);
const of = z.int().min(1).max(TRIES_MAX);
const kind = z.enum(CONSISTENCY_KINDS);

export const groupReportSchema: z.ZodType<GroupReport> = z.discriminatedUnion('state', [
  z.strictObject({ state: z.literal('preparing') }),
  z.strictObject({ state: z.literal('ready'), try: of }),
  z.strictObject({ state: z.literal('rested'), try: of }),
  z.strictObject({ state: z.literal('closed'), try: of }),
  z.strictObject({
    state: z.literal('cut'),
    try: of,
    stalls: z
      .array(z.strictObject({ device: name, stallMs: z.number().min(0).max(STALL_MS_MAX) }))
      .max(GROUP_MEMBERS_MAX),
  }),
  z.strictObject({ state: z.literal('missed'), try: of, again: z.boolean(), error: orderFailureSchema }),
  z.strictObject({
    state: z.literal('transferred'),
    kind,
    sessionIds: z.array(hexIdSchema).min(1).max(GROUP_MEMBERS_MAX),
  }),
  z.strictObject({ state: z.literal('failed'), error: orderFailureSchema }),
]);

export const groupStepSchema: z.ZodType<GroupStepRequest> = z.strictObject({
  runId: hexIdSchema,
  report: groupReportSchema,
  waitMs: z.number().min(0).max(ORDER_WAIT_MS_MAX),
});

const groupCommandSchema: z.ZodType<GroupCommand> = z.discriminatedUnion('do', [
  z.strictObject({ do: z.literal('wait') }),
  z.strictObject({
    ...{ do: z.literal('rest'), try: of },
    restMs: z.number().min(0).max(STALL_MS_MAX),
    closedMs: z.number().min(0).max(STALL_MS_MAX),
  }),
  z.strictObject({ do: z.literal('close'), try: of }),
  z.strictObject({ do: z.literal('cut'), try: of, instant: z.iso.datetime() }),
  z.strictObject({ do: z.literal('open'), try: of }),
  z.strictObject({ do: z.literal('commit'), kind, group: groupCommitSchema }),
  z.strictObject({ do: z.literal('abandon'), reason: z.string().max(REASON_CHARS_MAX) }),
]);

export const groupAnswerSchema: z.ZodType<{ command: GroupCommand }> = z.strictObject({
  command: groupCommandSchema,
});
