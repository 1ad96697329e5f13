/** Which parts of a point the receiver can't give, as it says itself. */
import { StillpointError } from '../../domain/base/errors.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { PointPort } from '../../protocol/port/point.js';
import { throwIfCancelled } from '../common/cancel.js';
import type { OnAgentEvent } from '../common/events.js';

export interface DamagedRange {
  readonly blocks: BlockRange;
  readonly reason: string;
}

export interface CheckOptions {
  readonly receiver: CheckSource;
  readonly point: Point;
  /** Default: all of the point. */
  readonly ranges?: readonly BlockRange[] | undefined;
  readonly signal: AbortSignal;
  readonly onEvent: OnAgentEvent;
}

export type CheckSource = Pick<PointPort, 'check'>;

/**
 * What of the point can't be had from the receiver's stored bytes, by its own word; it
 * remembers that, and heals it.
 */
export async function checkStored(options: CheckOptions): Promise<DamagedRange[]> {
  const { receiver, point, ranges, signal, onEvent } = options;
  const damaged: DamagedRange[] = [];
  if (ranges?.length === 0) return damaged;
  onEvent({ type: 'phase', phase: 'check' });
  for await (const event of receiver.check(point.id, ranges)) {
    throwIfCancelled(signal);
    if (event.type === 'summary') return damaged;
    if (event.type === 'damaged') damaged.push({ blocks: [event.start, event.end], reason: event.reason });
    else onEvent({ ...event, wireBytes: 0 });
  }
  throw new StillpointError('connection-lost', {
    thing: `check of point ${pointLabel(point)}`,
    reason: 'the receiver ended it without a summary',
    remedy: 'Try again.',
    permanent: false,
  });
}
