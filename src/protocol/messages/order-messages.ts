/** The messages by which an agent hears which backups its receiver wants, and reports how they go. */
import { JSON_BYTES_MAX } from '../../domain/base/limits.js';
import type { GroupStepRequest } from '../../domain/group/steps.js';
import type { AwaitOrderRequest, OrderReport } from '../../domain/order/order.js';
import { groupAnswerSchema, groupStepSchema } from '../schemas/groups.js';
import { hexIdSchema } from '../schemas/messages.js';
import {
  awaitOrderSchema,
  orderAnswerSchema,
  orderReportSchema,
  orderStandingSchema,
  plannedRoundsSchema,
} from '../schemas/orders.js';
import { jsonField } from './answer-forms.js';
import { call } from './message.js';
import { abortable, field, json, nothing, rest } from './request-forms.js';

const QUESTION_BYTES_MAX = 64 * 1024;
/** Over what was asked to be waited: a link that has died in silence is noticed then. */
const GRACE_MS = 30_000;

export const ORDER_MESSAGES = {
  /**
   * What the receiver wants backed up: answered as soon as there is an order for a device that is offered,
   * else null after `waitMs`. The agent's next question ends this one.
   */
  awaitOrder: call({
    path: '/order/await',
    request: abortable(
      json<[request: AwaitOrderRequest]>(QUESTION_BYTES_MAX, rest('question for orders', awaitOrderSchema)),
    ),
    answer: jsonField('order', orderAnswerSchema),
    answerTimeoutMs: ([{ waitMs }]) => waitMs + GRACE_MS,
    waits: true,
  }),

  /** The rounds that the receiver begins by itself and that the agent is a part of. */
  rounds: call({
    path: '/order/rounds',
    request: nothing,
    answer: jsonField('rounds', plannedRoundsSchema),
    answerTimeoutMs: () => GRACE_MS,
  }),

  reportOrder: call({
    path: '/order/report',
    request: json<[orderId: string, report: OrderReport]>(
      JSON_BYTES_MAX,
      field('orderId', 'order id', hexIdSchema),
      field('report', 'report on an order', orderReportSchema),
    ),
    answer: jsonField('standing', orderStandingSchema),
    answerTimeoutMs: () => GRACE_MS,
  }),

  /**
   * How far the agent is with its part of a group over several hosts: answered as soon as the receiver has a
   * command for it, else `wait` after `waitMs`. The agent's next report on the same run ends this one.
   */
  groupStep: call({
    path: '/group/step',
    request: abortable(
      json<[request: GroupStepRequest]>(QUESTION_BYTES_MAX, rest('report on a group', groupStepSchema)),
    ),
    answer: jsonField('command', groupAnswerSchema),
    answerTimeoutMs: ([{ waitMs }]) => waitMs + GRACE_MS,
    waits: true,
  }),
};
