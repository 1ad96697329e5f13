import type { PortOf } from '../messages/message.js';
import type { SESSION_MESSAGES } from '../messages/session-messages.js';

/** A session at the receiver, as a backup drives it. Each method is described at its message. */
export interface SessionPort extends PortOf<typeof SESSION_MESSAGES> {}
