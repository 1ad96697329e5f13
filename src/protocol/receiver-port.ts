/**
 * The receiver as an agent sees it: one port with two implementations that the same conformance suite runs on,
 * `ReceiverClient` (HTTP over TLS) and `ReceiverService` bound to one agent (in the same process, no network).
 *
 * Every method may throw StillpointError; `connection-lost`, `unreachable`, `timeout` and `busy` are not permanent and the
 * call may be repeated as it is, since every message is idempotent.
 */
import type { Geometry } from '../domain/geometry.js';
import type { BadRange, ConsistencyKind, DeviceIdentity, Point, SessionStatistics } from '../domain/point.js';

export interface ReceiverInfo {
  readonly storeId: string;
  /** The agent that this connection speaks for. */
  readonly agent: string;
  readonly protocolVersion: number;
}

export interface BeginRequest {
  readonly device: string;
  readonly identity: DeviceIdentity;
  readonly geometry: Geometry;
  /** Point that the agent's local tree describes; null if it has none. */
  readonly base: { readonly id: string; readonly root: string } | null;
  readonly instant: string;
  readonly kind: ConsistencyKind;
  readonly provider: string;
  /**
   * Chosen by the agent for one snapshot, 32 hex digits; becomes the point's id. A begin that repeats the id of the open
   * session resumes it; any other id supersedes that session, whose durable blocks stay held for the device.
   */
  readonly sessionId: string;
  /** Go on although the device's identity is not that of its last point. */
  readonly acceptIdentity: boolean;
  /** Start a chain of its own (a changed block size): the base is the empty tree. */
  readonly newChain: boolean;
}

export interface BeginAnswer {
  readonly sessionId: string;
  /**
   * The last committed point: what the session's blocks are a difference to. Null: no point, or a new chain: the base is the
   * empty tree. The agent whose own base differs first fetches this point's tree.
   */
  readonly base: Point | null;
  readonly resumed: boolean;
  /** All batches up to this number are durable; 0 is none. */
  readonly durableSequence: number;
}

export interface CommitRequest {
  readonly root: string;
  readonly batchCount: number;
  readonly statistics: SessionStatistics;
  readonly badRanges: readonly BadRange[];
  readonly warnings: readonly string[];
  /** The kind that was reached, not better than the one in begin. */
  readonly kind: ConsistencyKind;
}

export interface SessionStatus {
  readonly sessionId: string;
  readonly state: 'open' | 'committed' | 'unknown';
  readonly durableSequence: number;
  readonly point: Point | null;
}

export interface NodeRequest {
  readonly level: number;
  readonly index: number;
}

/** One damaged thing in the store. */
export interface VerifyFinding {
  readonly type: 'finding';
  readonly what: string;
  readonly reason: string;
  /** Points that can't be restored whole because of it, `DEVICE@SEQUENCE`. */
  readonly points: readonly string[];
}

export interface VerifyProgress {
  readonly type: 'progress';
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface VerifySummary {
  readonly type: 'summary';
  readonly pointCount: number;
  readonly blockCount: number;
  readonly checkedBytes: number;
  readonly findingCount: number;
}

export type VerifyEvent = VerifyFinding | VerifyProgress | VerifySummary;

export interface ReceiverPort {
  info(): Promise<ReceiverInfo>;
  /** Committed points of one device, or of all of the agent's devices; by device, then sequence. */
  points(device?: string): Promise<Point[]>;

  begin(request: BeginRequest): Promise<BeginAnswer>;
  /** @param digests n * 32 bytes. @returns ceil(n / 8) bytes, bit i (LSB first) set: held for this device, need not be sent. */
  have(sessionId: string, digests: Uint8Array): Promise<Uint8Array>;
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
  /** Blocks of a point as one batch (docs/format.md section 4); may answer with a prefix of the request, at least one block. */
  blocks(pointId: string, blockIndexes: readonly number[]): Promise<Uint8Array>;
  /** Re-reads and re-digests what the store holds: one point, or all points of this agent. */
  verify(pointId?: string): AsyncIterable<VerifyEvent>;
  close(): Promise<void>;
}
