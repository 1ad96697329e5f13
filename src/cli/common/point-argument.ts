/** A point as it is named on the command line. */
import { StillpointError } from '../../domain/base/errors.js';
import { hasDevice, type Named, refuseGroup, resolveNamed } from '../../domain/point/named.js';
import type { Point } from '../../domain/point/point.js';
import { deviceOf, parsePointRef } from '../../domain/point/point-ref.js';
import type { PointPort } from '../../protocol/port/point.js';

type PointLister = Pick<PointPort, 'info' | 'points' | 'agents'>;

/** @throws StillpointError `bad-point-name` (for a group point too), `device-unknown`, `point-unknown` */
export async function findPoint(receiver: PointLister, text: string): Promise<Point> {
  const found = await findNamed(receiver, text);
  return found.kind === 'point' ? found.point : refuseGroup(found.group, await ownAgent(receiver));
}

/** A point or a group point. @throws StillpointError `bad-point-name`, `device-unknown`, `point-unknown` */
export async function findNamed(receiver: PointLister, text: string): Promise<Named> {
  const ref = parsePointRef(text);
  const points = await receiver.points(deviceOf(ref));
  // It may be a group's name; and for an unknown device the error names the known ones.
  const known = ref.by === 'id' || hasDevice(ref, points) ? points : await receiver.points();
  const own = await ownAgent(receiver);
  const agents = known.length > 0 ? [] : ((await receiver.agents?.()) ?? []);
  if (agents.length === 0) return resolveNamed(ref, known, own);
  throw new StillpointError('device-unknown', {
    thing: `agent ${own}`,
    reason: 'the store has no point of it',
    remedy: `Agents with points: ${agents.join(', ')}.`,
  });
}

/**
 * In a receiver's own directory, whose points are named without an agent; null where only one
 * agent's points are seen anyway.
 */
export async function ownAgent(receiver: Pick<PointPort, 'info' | 'agents'>): Promise<string | null> {
  return receiver.agents === undefined ? null : (await receiver.info()).agent;
}
