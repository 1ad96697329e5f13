/** Samples that agents and receivers have alike. */
import { type Condition, eventsOf } from '../../domain/notice/events.js';
import type { ProviderFacts } from '../../domain/point/point.js';
import { type MetricName, type Role, type Sample, secondsOf } from './table.js';

/** What the instant of a point has cost, and whether its changes were known. */
export function ofLastPoint(
  prefix: 'stillpoint_device' | 'stillpoint_agent',
  { stallMs, frozenMs, mapUsed, marksUsed = mapUsed }: ProviderFacts,
): Partial<Record<MetricName, number>> {
  return {
    ...(typeof stallMs === 'number' && { [`${prefix}_last_stall_seconds`]: secondsOf(stallMs) }),
    ...(typeof frozenMs === 'number' && { [`${prefix}_last_frozen_seconds`]: secondsOf(frozenMs) }),
    ...(typeof marksUsed === 'boolean' && { [`${prefix}_last_map_used`]: marksUsed ? 1 : 0 }),
  };
}

/** Also those that do not hold: an alert needs to see that they are over. */
export function countConditions(
  name: 'stillpoint_problem' | 'stillpoint_agent_problem',
  role: Role,
  conditions: readonly Condition[],
): Sample[] {
  return eventsOf(role).map((event) => ({
    ...{ name, labels: { event } },
    value: conditions.filter((condition) => condition.event === event).length,
  }));
}
