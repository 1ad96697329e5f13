/** The checks of a static view before a session begins over it. */
import type { Snapshot } from '../../capture/ports.js';
import { halfRestoredError, readMark, readMarkOfDisk } from '../../devices/facts/half-restored.js';
import { describeFormat, readImageFormat } from '../../devices/facts/image-format.js';
import type { OnAgentEvent } from '../common/events.js';

/**
 * A point of a container is what it says, and restores as one: a notice. Who wanted the disk in it, by the
 * raw blocks, must hear of it. Under a tap it was settled when that was put there.
 */
export async function noteFormat(
  path: string,
  { device, passes }: Pick<Snapshot, 'device' | 'passes'>,
  onEvent: OnAgentEvent,
): Promise<void> {
  const isTapped = device.type === 'snapshot' && passes === undefined;
  const format = isTapped ? null : await readImageFormat(device);
  if (format === null) return;
  const remedy = 'For points of the disk itself, convert it: qemu-img convert -O raw.';
  onEvent({
    type: 'notice',
    text: `${path}: ${describeFormat(format)}. The point is of the container. ${remedy}`,
  });
}

/**
 * Blocks that a tracker calls unchanged can't be read, unless the view is late. If the first block is one of
 * them, it is that of the last point, which had no mark.
 */
export async function refuseHalfRestored(
  path: string,
  { device, tracking, passes }: Snapshot,
): Promise<void> {
  const changes = passes === undefined ? (tracking?.changes ?? null) : null;
  const isReadable = changes === null || changes.sample.includes(0) || changes.ranges[0]?.[0] === 0;
  const mark = (isReadable ? await readMark(device) : null) ?? (await readMarkOfDisk(path));
  if (mark !== null) throw halfRestoredError(path, mark);
}
