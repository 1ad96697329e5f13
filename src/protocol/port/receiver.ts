/**
 * The receiver as an agent sees it: four ports. Each part of the agent takes the ports that it needs. Two
 * implementations have all four, and the same conformance suite runs on both: `receiverClient` (HTTP over
 * TLS) and `agentReceiver`, which is `ReceiverService` bound to one agent (in the same process, no network).
 *
 * Every method may throw StillpointError. src/domain/base/retry.ts says which errors pass; the call may then
 * be repeated as it is, since every message is idempotent.
 */
import type { JournalPort } from './journal.js';
import type { OrderPort } from './order.js';
import type { PointPort } from './point.js';
import type { SessionPort } from './session.js';

/** Of who makes or opens a receiver: nobody else closes it. */
export interface Closable {
  close(): Promise<void>;
}

/** All that a receiver does. */
export interface ReceiverPort extends SessionPort, PointPort, OrderPort, JournalPort, Closable {}
