import type { PortOf } from '../messages/message.js';
import type { POINT_MESSAGES } from '../messages/point-messages.js';

export interface PointPin {
  readonly pointId: string;
  readonly reason: string;
  /** ISO 8601; null: until it is taken away. */
  readonly until: string | null;
}

/**
 * A receiver's points, for the parts of the agent that list, compare, verify or restore them. Each method is
 * described at its message.
 */
export interface PointPort extends PortOf<typeof POINT_MESSAGES> {
  /**
   * Only for the holder of a receiver's directory, which sees the points of all agents: the agents that have
   * points, sorted.
   */
  agents?(): Promise<string[]>;
  /** As `agents`: the pins that are in force. */
  pins?(): Promise<PointPin[]>;
}

/** Gives the contents of a point's blocks. */
export type BlockSource = Pick<PointPort, 'blocks'>;
/** Gives the nodes of a point's tree: the receiver, or a local tree file. */
export type NodeSource = Pick<PointPort, 'nodes' | 'compareNodes'>;
/** A receiver whose points may have a local tree: it says which store it is. */
export type TreeSource = NodeSource & Pick<PointPort, 'info'>;
