/**
 * The content of a session's messages and of a receiver's answers, whatever transports them.
 * src/protocol/schemas/messages.ts has their shapes on the wire.
 */
import type { Geometry } from '../blocks/geometry.js';
import type { GroupCommit } from '../point/group.js';
import type { CommittedFacts, DeviceIdentity, Point, RemovedPoint } from '../point/point.js';
import type { DiffRange } from '../tree/tree-diff.js';

export interface ReceiverInfo {
  readonly storeId: string;
  /** The agent that this connection speaks for. */
  readonly agent: string;
  readonly protocolVersion: number;
}

export interface PointsOptions {
  /** Only the last point of each device. */
  readonly last?: boolean;
}

export interface RemovedAnswer {
  readonly removed: RemovedPoint | null;
}

export interface BeginRequest {
  readonly device: string;
  readonly identity: DeviceIdentity;
  readonly geometry: Geometry;
  /** Point that the agent's local tree describes; null if it has none. */
  readonly base: { readonly id: string; readonly root: string } | null;
  /**
   * Chosen by the agent for one backup, 32 hex digits; becomes the point's id. A begin that repeats the id of
   * the open session resumes it, if it is over the same base; any other id supersedes that session, whose
   * durable blocks stay held for the device. Which instant the session comes to is said by its commit alone.
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
   * The last committed point: what the session's blocks are a difference to. Null: no point, or a new chain:
   * the base is the empty tree. The agent whose own base differs first fetches this point's tree.
   */
  readonly base: Point | null;
  readonly resumed: boolean;
  /** All batches up to this number are durable; 0 is none. */
  readonly durableSequence: number;
  /**
   * One more than the highest block index that a durable batch names; 0: none does. An agent that sends each
   * block once, in the order of the device, need not send those below it again. One that sends in several
   * passes must know itself which batches were of which pass.
   */
  readonly durableBlockEnd: number;
}

/**
 * Here the instant gets known: of a block that came in several batches, the last one is
 * what it was at that instant.
 */
export interface CommitRequest extends CommittedFacts {
  readonly root: string;
  readonly batchCount: number;
  /**
   * It becomes a point together with the other sessions of its group, or not at all: the answer comes when
   * the commits of all of them have come, and names the same group point for each. Missing: by itself.
   */
  readonly group?: GroupCommit;
}

export interface SessionStatus {
  readonly sessionId: string;
  readonly state: 'open' | 'committed' | 'unknown';
  readonly durableSequence: number;
  readonly point: Point | null;
}

/** Blocks that a session delivered and that no point was made of. All times are of the receiver's clock. */
export interface PartialSet {
  /** Only where the sets of all agents are listed: in a receiver's own directory. */
  readonly agent?: string;
  readonly device: string;
  readonly sessionId: string;
  /** When its session began; null: not known, of what a former version recorded. */
  readonly begunAt: string | null;
  /**
   * `open`: it may go on. `ended`: aborted, or superseded; its blocks are held for the device, so that
   * they need not be sent again.
   */
  readonly state: 'open' | 'ended';
  readonly durableBytes: number;
  readonly lastActivityAt: string;
  readonly expiresAt: string;
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

/**
 * Blocks [start, end) of a point that the store can't give. Ascending over all events; of a damaged tree
 * node all blocks under it.
 */
export interface CheckDamage {
  readonly type: 'damaged';
  readonly start: number;
  readonly end: number;
  /** Of the first of them. */
  readonly reason: string;
}

export interface CheckOptions {
  /** Blocks are not read back: only what is known to be damaged already is told. */
  readonly known?: boolean;
}

/** A point that needs what is known to be damaged. */
export interface PointDamage {
  readonly pointId: string;
  readonly blockCount: number;
  readonly byteCount: number;
}

export interface CheckSummary {
  readonly type: 'summary';
  /** Blocks that were read and digested; those that are zero are known without. */
  readonly blockCount: number;
  readonly damagedBlocks: number;
}

export type CheckEvent = CheckDamage | VerifyProgress | CheckSummary;

/**
 * What differs between two points: ranges of blocks, and their sum. Ascending over all events, never
 * touching. A block that one of the points does not have counts as zero there.
 */
export interface DiffRanges {
  readonly type: 'ranges';
  /** 1 to DIFF_RANGES_MAX. */
  readonly ranges: readonly DiffRange[];
}

export interface DiffSummary {
  readonly type: 'summary';
  readonly rangeCount: number;
  readonly blockCount: number;
  /** Of the blocks, a short last one as it is in the point that has more of it. */
  readonly changedBytes: number;
  /** Blocks that had content and are zero in the second point; not those that it does not have. */
  readonly zeroBlockCount: number;
}

export type DiffEvent = DiffRanges | VerifyProgress | DiffSummary;
