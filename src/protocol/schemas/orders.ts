/**
 * The shapes of the messages by which an agent asks for orders and reports on them
 * (src/domain/order/order.ts).
 */
import { z } from 'zod';
import { ERROR_CODES } from '../../domain/base/errors.js';
import {
  COMPARED_RANGES_MAX,
  COMPARED_REASON_CHARS_MAX,
  GROUP_MEMBERS_MAX,
  OFFERS_MAX,
  ORDER_WAIT_MS_MAX,
  WARNING_CHARS_MAX,
  WARNINGS_MAX,
} from '../../domain/base/limits.js';
import type { CompareWish, Comparison } from '../../domain/order/comparison.js';
import {
  type AgentOrder,
  type AwaitOrderRequest,
  type DevicePlan,
  ORDER_PHASES,
  type OrderFailure,
  type OrderReport,
  type OrderStanding,
  type PlannedRound,
} from '../../domain/order/order.js';
import { CONSISTENCY_KINDS } from '../../domain/point/point.js';
import { hexIdSchema } from './messages.js';

const TEXT_CHARS_MAX = 8192;
const ORDERS_AT_ONCE_MAX = 256;
/** Of what is shown; a longer schedule is cut. */
const SCHEDULE_CHARS_MAX = 400;
const ROUNDS_MAX = 16;
const text = z.string().max(TEXT_CHARS_MAX);
/** Names are checked by checkName, for an error of their own. */
const name = z.string().max(TEXT_CHARS_MAX);
const count = z.int().min(0);

export const devicePlanSchema: z.ZodType<DevicePlan> = z.strictObject({
  device: name,
  schedule: z.string().max(SCHEDULE_CHARS_MAX).nullable(),
  nextAt: z.iso.datetime().nullable(),
  failures: count,
  isPaused: z.boolean(),
});

export const plannedRoundsSchema: z.ZodType<{ rounds: readonly PlannedRound[] }> = z.strictObject({
  rounds: z
    .array(
      z.strictObject({
        name,
        schedule: z.string().max(SCHEDULE_CHARS_MAX),
        nextAt: z.iso.datetime().nullable(),
      }),
    )
    .max(ROUNDS_MAX),
});

export const awaitOrderSchema: z.ZodType<AwaitOrderRequest> = z.strictObject({
  devices: z.array(name).max(OFFERS_MAX),
  plans: z.array(devicePlanSchema).max(OFFERS_MAX).exactOptional(),
  running: z.array(z.strictObject({ orderId: hexIdSchema, device: name })).max(ORDERS_AT_ONCE_MAX),
  ordersMax: z.int().min(1).max(ORDERS_AT_ONCE_MAX),
  canCompare: z.boolean().exactOptional(),
  canGroup: z.boolean().exactOptional(),
  waitMs: z.number().min(0).max(ORDER_WAIT_MS_MAX),
});

export const compareWishSchema: z.ZodType<CompareWish> = z.strictObject({
  deep: z.boolean(),
  ship: z.boolean(),
});

export const comparisonSchema: z.ZodType<Comparison> = z.strictObject({
  ranges: z
    .array(
      z.strictObject({
        byteOffset: count,
        byteLength: count,
        what: z.enum(['differs', 'unreadable', 'damaged']),
        reason: z.string().max(COMPARED_REASON_CHARS_MAX).exactOptional(),
      }),
    )
    .max(COMPARED_RANGES_MAX),
  rangeCount: count,
  differingBlocks: count.nullable(),
  unreadableBlocks: count,
  damagedBlocks: count,
  deviceSizeBytes: count,
  scannedBytes: count,
  wireBytes: count,
  kind: z.enum(CONSISTENCY_KINDS),
  comparedId: hexIdSchema,
});

export const orderAnswerSchema: z.ZodType<{ order: AgentOrder | null }> = z.strictObject({
  order: z
    .strictObject({
      orderId: hexIdSchema,
      device: name,
      full: z.boolean(),
      compare: compareWishSchema.exactOptional(),
      group: z
        .strictObject({
          runId: hexIdSchema,
          name,
          devices: z.array(name).min(1).max(GROUP_MEMBERS_MAX),
        })
        .exactOptional(),
    })
    .nullable(),
});

export const orderFailureSchema: z.ZodType<OrderFailure> = z.strictObject({
  code: z.enum(ERROR_CODES),
  thing: text,
  reason: text,
  remedy: text.exactOptional(),
  permanent: z.boolean(),
});

export const orderProgressSchema = z.strictObject({
  phase: z.enum(ORDER_PHASES),
  doneBytes: count,
  totalBytes: count,
  changedBytes: count,
  wireBytes: count,
});

export const orderReportSchema: z.ZodType<OrderReport> = z.discriminatedUnion('state', [
  z.strictObject({ state: z.literal('running'), progress: orderProgressSchema }),
  z.strictObject({
    state: z.literal('done'),
    pointId: hexIdSchema,
    warnings: z.array(z.string().max(WARNING_CHARS_MAX)).max(WARNINGS_MAX),
    comparison: comparisonSchema.exactOptional(),
  }),
  z.strictObject({ state: z.literal('failed'), error: orderFailureSchema }),
]);

export const orderStandingSchema: z.ZodType<{ standing: OrderStanding }> = z.strictObject({
  standing: z.enum(['open', 'cancelled', 'unknown']),
});
