/** What a live copy works with. */
import type { DeviceUse } from '../../../devices/system/in-use.js';
import type { LivePlan, LivePlanOptions } from '../../../domain/live/plan.js';
import type { DeviceIdentity } from '../../../domain/point/point.js';
import type { Device, LiveCopy } from '../../../native/index.js';
import type { TrackPlace } from '../../../track/place.js';
import type { Marks } from './marks.js';

/** All that a live copy has acquired. */
export interface LiveParts {
  readonly place: TrackPlace;
  readonly identity: DeviceIdentity;
  readonly device: Device;
  readonly copy: LiveCopy;
  readonly marks: Marks;
  /** Of the lock on the marks, for the process that takes the cut. */
  readonly lockDescriptor: number;
  readonly plan: LivePlan;
  readonly limits: LivePlanOptions;
  /** Null: nobody can write to it. */
  readonly writer: DeviceUse | null;
  /** The session reads everything. */
  readonly isFull: boolean;
  /** A clause: why it does, or not. */
  readonly reason: string;
  /** In reverse order; harmless a second time. */
  release(): Promise<void>;
}
