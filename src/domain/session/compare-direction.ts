/** Which side's digests of a node cross the wire. Pure. */
import { DIGEST_BYTES } from '../base/limits.js';

/**
 * `fetch`: the receiver sends its digests, the agent compares. `send`: the other way round. `cheaper`: for
 * each node what takes fewer bytes, both ways together.
 */
export const DIRECTIONS = ['cheaper', 'fetch', 'send'] as const;
export type Direction = (typeof DIRECTIONS)[number];

/** One node in the JSON of `nodes`, and the length before its content. */
const FETCH_OVERHEAD_BYTES = 30;
/** Head of a node in a comparison, and its answer. */
const SEND_OVERHEAD_BYTES = 28;
/** What was fetched is proven: it is preferred while it costs about the same. */
const SEND_GAIN_MIN = 0.9;

/**
 * @param ownBytes of the agent's content of the node, trailing NULLs left out
 * @param childCount children that the node can have: the receiver's content is assumed to be full
 */
export function compareDirection(
  direction: Direction,
  ownBytes: number,
  childCount: number,
): 'fetch' | 'send' {
  if (direction !== 'cheaper') return direction;
  const fetchBytes = FETCH_OVERHEAD_BYTES + childCount * DIGEST_BYTES;
  return SEND_OVERHEAD_BYTES + ownBytes < SEND_GAIN_MIN * fetchBytes ? 'send' : 'fetch';
}
