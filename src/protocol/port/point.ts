import type { PortOf } from '../messages/message.js';
import type { POINT_MESSAGES } from '../messages/point-messages.js';

/**
 * What a receiver holds, as who looks at points, compares, verifies or restores asks for it. What each
 * method does, its message says.
 */
export interface PointPort extends PortOf<typeof POINT_MESSAGES> {
  /**
   * Only of who holds a receiver's directory and sees the points of all agents: the agents
   * that have points, sorted.
   */
  agents?(): Promise<string[]>;
}

/** Who answers for the contents of a point's blocks. */
export type BlockSource = Pick<PointPort, 'blocks'>;
/** Who answers for a point's tree: the receiver, or a tree file at hand. */
export type NodeSource = Pick<PointPort, 'nodes' | 'compareNodes'>;
/** A receiver whose points may have a local tree: it says which store it is. */
export type TreeSource = NodeSource & Pick<PointPort, 'info'>;
