/**
 * The receiver as an agent sees it: three ports, of which each part of the agent takes what it needs. Their
 * implementations have all three, and the same conformance suite runs on them: `receiverClient` (HTTP over
 * TLS) and `agentReceiver`, which is `ReceiverService` bound to one agent (in the same process, no network).
 *
 * Every method may throw StillpointError. Which of them pass, src/domain/base/retry.ts says; the call may
 * then be repeated as it is, since every message is idempotent.
 */
import type { OrderPort } from './order.js';
import type { PointPort } from './point.js';
import type { SessionPort } from './session.js';

/** Of who makes or opens a receiver: nobody else closes it. */
export interface Closable {
  close(): Promise<void>;
}

/** All that a receiver does. */
export interface ReceiverPort extends SessionPort, PointPort, OrderPort, Closable {}
