/** Retention as it is told to commands. */
import type { GroupPoint } from '../../domain/point/group.js';
import type { Point } from '../../domain/point/point.js';
import { lockAt, nextLowering } from '../../domain/retention/lock.js';
import type { PlannedPoint } from '../../domain/retention/plan.js';
import {
  isInForce,
  JOURNAL_KEEP_MS_DEFAULT,
  NO_SETTINGS,
  type Pin,
} from '../../domain/retention/settings.js';
import type { StoreRetention } from '../../store/port/store.js';
import type { BrokenGroupView, PinView, PlannedPointView, RetentionView } from './messages.js';

export function retentionView(retention: StoreRetention): RetentionView {
  const clock = retention.clock();
  const {
    managedBy,
    timeZone,
    policies,
    journalKeep = [],
    lock,
    pins,
  } = retention.fault === null ? retention.settings : NO_SETTINGS;
  const lowering = nextLowering(lock, clock.nowMs);
  return {
    ...{ fault: retention.fault, managedBy, timeZone },
    policies: policies.map((entry) => ({ ...entry })),
    journalKeep: [...journalKeep],
    journalKeepDefaultMs: JOURNAL_KEEP_MS_DEFAULT,
    minAgeMs: lockAt(lock, clock.nowMs),
    lowering:
      lowering === null
        ? null
        : { minAgeMs: lockAt(lock, lowering.fromMs), at: new Date(lowering.fromMs).toISOString() },
    pins: pins.map((pin) => pinView(pin, clock.nowMs)),
    clock: {
      isBelieved: clock.isBelieved,
      now: new Date(clock.nowMs).toISOString(),
      reason: clock.isBelieved ? null : clock.reason,
    },
  };
}

export function viewOf({ point, stays, reasons, ageMs, flaw }: PlannedPoint<Point>): PlannedPointView {
  const { id, agent, device, sequence, committedAt } = point;
  return { agent, device, sequence, pointId: id, committedAt, ageMs, flaw, stays, reasons: [...reasons] };
}

export function forgottenView({ id, agent, device, sequence, committedAt }: Point): PlannedPointView {
  const point = { agent, device, sequence, pointId: id, committedAt };
  return { ...point, ageMs: null, flaw: null, stays: false, reasons: [] };
}

/** @param removed the device whose points are removed */
export function brokenView(
  { agent, name, sequence, points }: GroupPoint,
  removed: Pick<Point, 'agent' | 'device'>,
): BrokenGroupView {
  const left = points.filter((point) => point.device !== removed.device || point.agent !== removed.agent);
  return { agent, name, sequence, left: left.map(leftOf) };
}

function leftOf({ id, agent, device, sequence }: Point) {
  return { agent, device, sequence, pointId: id };
}

function pinView(pin: Pin, nowMs: number): PinView {
  const { agent, device, sequence, pointId, reason, pinnedAtMs, untilMs } = pin;
  return {
    ...{ agent, device, sequence, pointId, reason },
    pinnedAt: new Date(pinnedAtMs).toISOString(),
    until: untilMs === null ? null : new Date(untilMs).toISOString(),
    isInForce: isInForce(pin, nowMs),
  };
}
