import type { PortOf } from '../messages/message.js';
import type { ORDER_MESSAGES } from '../messages/order-messages.js';

/**
 * How an agent hears which backups its receiver wants, and reports how they go. Each method is described at
 * its message.
 */
export interface OrderPort extends PortOf<typeof ORDER_MESSAGES> {}
