/** What a receiver holds, as who looks at points, compares, verifies or restores asks for it. Nothing here changes the store. */
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type { Point } from '../../domain/point/point.js';
import type {
  CheckEvent,
  DiffEvent,
  NodeRequest,
  PartialSet,
  PointsOptions,
  ReceiverInfo,
  VerifyEvent,
} from '../../domain/session/messages.js';

export interface PointPort {
  info(): Promise<ReceiverInfo>;
  /**
   * Committed points of one device, or of all of the agent's devices; by device, then sequence. With `last` only the last one of each:
   * a history of years is not to come over the link before every backup.
   */
  points(device?: string, options?: PointsOptions): Promise<Point[]>;
  /** Sessions of the agent that are open, or ended without a point, whose blocks are kept; by device, then by last activity. */
  partialSets(device?: string): Promise<PartialSet[]>;

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

  /** Only of who holds a receiver's directory and sees the points of all agents: the agents that have points, sorted. */
  agents?(): Promise<string[]>;
}

/** Who answers for the contents of a point's blocks. */
export type BlockSource = Pick<PointPort, 'blocks'>;
/** Who answers for a point's tree: the receiver, or a tree file at hand. */
export type NodeSource = Pick<PointPort, 'nodes' | 'compareNodes'>;
/** A receiver whose points may have a local tree: it says which store it is. */
export type TreeSource = NodeSource & Pick<PointPort, 'info'>;
