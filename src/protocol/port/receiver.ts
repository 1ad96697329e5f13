/**
 * The receiver as an agent sees it: one port with two implementations that the same conformance suite runs on,
 * `ReceiverClient` (HTTP over TLS) and `ReceiverService` bound to one agent (in the same process, no network).
 *
 * Every method may throw StillpointError; `connection-lost`, `unreachable`, `timeout` and `busy` are not permanent and the
 * call may be repeated as it is, since every message is idempotent.
 */
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type { AgentOrder, AwaitOrderRequest, OrderReport, OrderStanding } from '../../domain/order/order.js';
import type { Point } from '../../domain/point/point.js';
import type {
  BeginAnswer,
  BeginRequest,
  CheckEvent,
  CommitRequest,
  DiffEvent,
  NodeRequest,
  PartialSet,
  PointsOptions,
  ReceiverInfo,
  SessionStatus,
  VerifyEvent,
} from '../../domain/session/messages.js';

export interface ReceiverPort {
  info(): Promise<ReceiverInfo>;
  /**
   * Committed points of one device, or of all of the agent's devices; by device, then sequence. With `last` only the last one of each:
   * a history of years is not to come over the link before every backup.
   */
  points(device?: string, options?: PointsOptions): Promise<Point[]>;
  /** Sessions of the agent that are open, or ended without a point, whose blocks are kept; by device, then by last activity. */
  partialSets(device?: string): Promise<PartialSet[]>;

  begin(request: BeginRequest): Promise<BeginAnswer>;
  /** @param digests n * 32 bytes. @returns ceil(n / 8) bytes, bit i (LSB first) set: held for this device, need not be sent. */
  have(sessionId: string, digests: Uint8Array): Promise<Uint8Array>;
  /**
   * Digests of the 4 KiB pieces of blocks of the session's base point, for patches (src/domain/blocks/pieces.ts).
   * @param blockIndexes ascending
   */
  pieces(sessionId: string, blockIndexes: readonly number[]): Promise<Uint8Array>;
  /** Answers when the batch is durable. Numbers start at 1; within a session the higher number wins for a block. */
  batch(sessionId: string, sequence: number, body: Uint8Array): Promise<{ durableSequence: number }>;
  status(sessionId: string): Promise<SessionStatus>;
  commit(sessionId: string, request: CommitRequest): Promise<Point>;
  abort(sessionId: string): Promise<void>;

  /**
   * Contents of tree nodes of a point, untrusted until digested. Answer, for each request in order: u32 length
   * (0 for a null node), then the trimmed content.
   */
  nodes(pointId: string, requests: readonly NodeRequest[]): Promise<Uint8Array>;
  /**
   * The other direction: the caller's own contents of nodes of a point's tree, and the answer says which of their children differ
   * (src/protocol/messages/compare-codec.ts).
   */
  compareNodes(question: Uint8Array): Promise<Uint8Array>;
  /** Blocks of a point as one batch (docs/format.md section 4); may answer with a prefix of the request, at least one block. */
  blocks(pointId: string, blockIndexes: readonly number[]): Promise<Uint8Array>;
  /** Re-reads and re-digests what the store holds: one point, or all points of this agent. */
  verify(pointId?: string): AsyncIterable<VerifyEvent>;
  /**
   * Recomputes the digests of a point's blocks from the stored bytes, without believing the tree or the index: which blocks of the
   * point the receiver can't give. In device order; a summary is the last event.
   * @param ranges at most CHECK_RANGES_MAX, ascending, apart; default: all blocks
   */
  check(pointId: string, ranges?: readonly BlockRange[]): AsyncIterable<CheckEvent>;
  /** What differs between two points of one block size, found by their trees at the receiver; a summary is the last event. */
  diff(fromId: string, toId: string): AsyncIterable<DiffEvent>;

  /**
   * What the receiver wants backed up: answers as soon as there is an order for a device that is offered, else null after `waitMs`.
   * The agent's next question ends this one.
   * @param signal aborted: nobody waits for the answer any more.
   */
  awaitOrder(request: AwaitOrderRequest, signal?: AbortSignal): Promise<AgentOrder | null>;
  reportOrder(orderId: string, report: OrderReport): Promise<OrderStanding>;
  /** Only of who holds a receiver's directory and sees the points of all agents: the agents that have points, sorted. */
  agents?(): Promise<string[]>;
  close(): Promise<void>;
}
