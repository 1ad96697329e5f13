/** A point as it is named on the command line. */
import { StillpointError } from '../../domain/base/errors.js';
import { type AtTime, resolveTime } from '../../domain/moment/moments.js';
import { hasDevice, type Named, refuseGroup, resolveNamed } from '../../domain/point/named.js';
import type { Point } from '../../domain/point/point.js';
import { deviceOf, parsePointRef } from '../../domain/point/point-ref.js';
import type { JournalPort } from '../../protocol/port/journal.js';
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
 * What can be restored: a point, a group point, or where a journal has it the state of a time.
 * @throws StillpointError as `findNamed`; `journal-faulty`
 */
export async function findRestorable(
  receiver: PointLister & Pick<JournalPort, 'journals'>,
  text: string,
): Promise<Named | AtTime> {
  const ref = parsePointRef(text);
  if (ref.by !== 'time') return findNamed(receiver, text);
  const points = await receiver.points(ref.device);
  // Where no point is in a journal there is nothing to ask; a receiver of a former version knows of none.
  if (!points.some(({ journal }) => journal !== undefined) || !hasDevice(ref, points)) {
    return findNamed(receiver, text);
  }
  return resolveTime(ref, points, await receiver.journals(ref.device), await ownAgent(receiver));
}

/**
 * In a receiver's own directory, whose points are named without an agent; null where only one
 * agent's points are seen anyway.
 */
export async function ownAgent(receiver: Pick<PointPort, 'info' | 'agents'>): Promise<string | null> {
  return receiver.agents === undefined ? null : (await receiver.info()).agent;
}
