/**
 * The receiver as an agent sees it: three ports, of which each part of the agent takes what it needs. Their implementations have all
 * three, and the same conformance suite runs on them: `ReceiverClient` (HTTP over TLS) and `AgentReceiver`, which is
 * `ReceiverService` bound to one agent (in the same process, no network).
 *
 * Every method may throw StillpointError; `connection-lost`, `unreachable`, `timeout` and `busy` are not permanent and the
 * call may be repeated as it is, since every message is idempotent.
 */
import type { OrderPort } from './order.js';
import type { PointPort } from './point.js';
import type { SessionPort } from './session.js';

/** What one piece of work of an agent uses: a backup, a restore, a comparison. */
export interface DataPort extends SessionPort, PointPort {}

/** Of who makes or opens a receiver: nobody else closes it. */
export interface Closable {
  close(): Promise<void>;
}

/** All that a receiver does. */
export interface ReceiverPort extends DataPort, OrderPort, Closable {}
