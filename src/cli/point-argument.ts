/** A point as it is named on the command line. */
import type { Point } from '../domain/point.js';
import { deviceOf, parsePointRef, resolvePoint } from '../domain/point-ref.js';
import type { ReceiverPort } from '../protocol/receiver-port.js';

/** @throws StillpointError `bad-point-name`, `device-unknown`, `point-unknown` */
export async function findPoint(receiver: ReceiverPort, text: string): Promise<Point> {
  const ref = parsePointRef(text);
  const points = await receiver.points(deviceOf(ref));
  // For an unknown device the error names the known ones.
  return resolvePoint(ref, points.length > 0 ? points : await receiver.points());
}
