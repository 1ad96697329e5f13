/**
 * The shapes of the messages by which an agent asks for orders and reports on them
 * (src/domain/order/order.ts).
 */
import { z } from 'zod';
import { ERROR_CODES } from '../../domain/base/errors.js';
import { OFFERS_MAX, ORDER_WAIT_MS_MAX, WARNING_CHARS_MAX, WARNINGS_MAX } from '../../domain/base/limits.js';
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
import { hexIdSchema } from './schemas.js';

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
  waitMs: z.number().min(0).max(ORDER_WAIT_MS_MAX),
});

export const orderAnswerSchema: z.ZodType<{ order: AgentOrder | null }> = z.strictObject({
  order: z.strictObject({ orderId: hexIdSchema, device: name, full: z.boolean() }).nullable(),
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
  }),
  z.strictObject({ state: z.literal('failed'), error: orderFailureSchema }),
]);

export const orderStandingSchema: z.ZodType<{ standing: OrderStanding }> = z.strictObject({
  standing: z.enum(['open', 'cancelled', 'unknown']),
});
