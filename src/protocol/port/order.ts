/** How an agent hears of what its receiver wants, and tells it what becomes of it. */
import type { AgentOrder, AwaitOrderRequest, OrderReport, OrderStanding } from '../../domain/order/order.js';

export interface OrderPort {
  /**
   * What the receiver wants backed up: answers as soon as there is an order for a device that is offered, else null after `waitMs`.
   * The agent's next question ends this one.
   * @param signal aborted: nobody waits for the answer any more.
   */
  awaitOrder(request: AwaitOrderRequest, signal?: AbortSignal): Promise<AgentOrder | null>;
  reportOrder(orderId: string, report: OrderReport): Promise<OrderStanding>;
}
