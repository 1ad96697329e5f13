/**
 * Does the store still have the point that was acknowledged last? If an older copy of a store was restored,
 * or a store lost points, a backup does not silently continue from it. Pure.
 *
 * The agent's memory may be older than the store's last point: it died before it wrote that point down, the
 * answer to its commit was lost, or another agent of the same name continued. So a later point is not a loss.
 */

import { type Point, pointLabel, type RemovedPoint } from './point.js';

export type AcknowledgedPoint = Pick<Point, 'id' | 'sequence' | 'committedAt'>;

/**
 * @param ownIds points that the agent knows as its own otherwise: those of its tree, and of a session whose
 * answer was lost
 * @returns a clause: what was acknowledged, and what the store has; null: nothing is missing
 */
export function whyPointsAreMissing(
  device: string,
  acknowledged: AcknowledgedPoint | null,
  last: AcknowledgedPoint | null,
  ownIds: readonly (string | undefined)[],
): string | null {
  if (acknowledged === null) return null;
  const was = `point ${nameOf(device, acknowledged)} was acknowledged`;
  if (last === null) return `${was}, and the store has no point of the device now`;
  if (last.id === acknowledged.id || ownIds.includes(last.id)) return null;
  if (last.sequence > acknowledged.sequence) return null;
  return `${was}, and the last point that the store has now is ${nameOf(device, last)}`;
}

/**
 * All points of the device are gone because the receiver's operator had them removed: then the next backup
 * begins anew. An older copy of the store knows of no removal, and a point of the same number is not enough.
 * @returns what the user is told, a clause; null: that is not why
 */
export function whyRemoved(
  acknowledged: AcknowledgedPoint,
  last: AcknowledgedPoint | null,
  removed: RemovedPoint | null,
): string | null {
  if (last !== null || removed?.id !== acknowledged.id) return null;
  return `point ${pointLabel(removed)} was removed at the receiver on purpose, at ${removed.removedAt} (${removed.why}); this backup begins anew`;
}

/** With its id: two points of one number are told apart. */
function nameOf(device: string, { id, sequence, committedAt }: AcknowledgedPoint): string {
  return `${pointLabel({ device, sequence })} (${id.slice(0, 12)}, committed at ${committedAt})`;
}
