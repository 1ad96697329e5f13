import type { PortOf } from '../messages/message.js';
import type { ORDER_MESSAGES } from '../messages/order-messages.js';

/**
 * How an agent hears of what its receiver wants, and tells it what becomes of it. What each
 * method does, its message says.
 */
export interface OrderPort extends PortOf<typeof ORDER_MESSAGES> {}
