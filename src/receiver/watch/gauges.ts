/** What a receiver's metrics show of its facts, and what they count of its sessions. */
import type { Condition } from '../../domain/notice/events.js';
import type { Point } from '../../domain/point/point.js';
import { countConditions, ofLastPoint } from '../../monitor/metrics/samples.js';
import {
  type Counters,
  type Labels,
  type MetricName,
  type Sample,
  secondsOf,
} from '../../monitor/metrics/table.js';
import type { DeviceKey } from '../../store/port/store.js';
import type { GroupFacts, ReceiverFacts } from './facts.js';

export function receiverSamples(facts: ReceiverFacts, conditions: readonly Condition[]): Sample[] {
  const { devices, journals, agents, rounds, groups, openSessions } = facts;
  const of = (labels: Labels, values: Partial<Record<MetricName, number | null>>): Sample[] =>
    Object.entries(values).flatMap(([name, value]) =>
      value === null ? [] : [{ name: name as MetricName, labels, value }],
    );
  return [
    ...devices.flatMap(({ agent, device, usage, lastPoint, failures, damagedPoints }) =>
      of(
        { agent, device },
        {
          stillpoint_device_last_point_timestamp_seconds: secondsOf(Date.parse(lastPoint.committedAt)),
          stillpoint_device_points: usage.pointCount,
          stillpoint_device_size_bytes: usage.sizeBytes,
          stillpoint_device_added_bytes: usage.addedBytes,
          stillpoint_device_last_duration_seconds: secondsOf(lastPoint.statistics.durationMs),
          stillpoint_device_last_bad_ranges: lastPoint.badRanges.length,
          stillpoint_device_failures: failures,
          stillpoint_device_damaged_points: damagedPoints,
          ...ofLastPoint('stillpoint_device', lastPoint.providerFacts),
        },
      ),
    ),
    ...journals.flatMap(({ agent, device, lastMs, sizeBytes, endedCount, wrongCount }) =>
      of(
        { agent, device },
        {
          stillpoint_device_journal_last_timestamp_seconds: lastMs === null ? null : secondsOf(lastMs),
          stillpoint_device_journal_bytes: sizeBytes,
          stillpoint_device_ended_journals: endedCount,
          stillpoint_device_wrong_journals: wrongCount,
        },
      ),
    ),
    ...agents.flatMap(({ agent, isConnected, lastHeardMs, certificateExpiresMs }) =>
      of(
        { agent },
        {
          stillpoint_connected: isConnected ? 1 : 0,
          stillpoint_last_heard_timestamp_seconds: secondsOf(lastHeardMs),
          stillpoint_certificate_expiry_timestamp_seconds: secondsOf(certificateExpiresMs),
        },
      ),
    ),
    ...rounds.flatMap(({ schedule, endedMs, failed, skipped }) =>
      of(
        { schedule },
        {
          stillpoint_round_failed_devices: failed,
          stillpoint_round_skipped_devices: skipped,
          stillpoint_round_end_timestamp_seconds: secondsOf(endedMs),
        },
      ),
    ),
    ...groups.flatMap((facts) => of({ group: facts.group }, groupValues(facts))),
    ...of({}, { stillpoint_open_sessions: openSessions, ...storeValues(facts) }),
    ...countConditions('stillpoint_problem', 'receiver', conditions),
  ];
}

function groupValues({ view, lastPointMs }: GroupFacts): Partial<Record<MetricName, number | null>> {
  const { lastRun, cutOffAt, running } = view;
  const stalls = (lastRun?.hosts ?? []).flatMap((host) => host.stalls.map(({ stallMs }) => stallMs));
  const out = (lastRun?.hosts ?? []).filter(({ isOut }) => isOut).flatMap(({ devices }) => devices);
  return {
    stillpoint_group_running: running === null ? 0 : 1,
    stillpoint_group_last_point_timestamp_seconds: lastPointMs === null ? null : secondsOf(lastPointMs),
    stillpoint_group_last_stall_seconds: stalls.length === 0 ? null : secondsOf(Math.max(...stalls)),
    ...(lastRun !== null && {
      stillpoint_group_last_end_timestamp_seconds: secondsOf(Date.parse(lastRun.endedAt)),
      stillpoint_group_last_left_out: out.length,
    }),
    ...((lastRun !== null || cutOffAt !== null) && {
      stillpoint_group_last_success: cutOffAt === null && lastRun?.failure === null ? 1 : 0,
    }),
  };
}

function storeValues({ room, growth, scrub }: ReceiverFacts): Partial<Record<MetricName, number | null>> {
  return {
    ...(room && {
      stillpoint_store_free_bytes: room.freeBytes,
      stillpoint_store_reserve_bytes: room.reserveBytes,
      stillpoint_store_days_left: room.daysLeft,
    }),
    stillpoint_store_growth_bytes_per_day: growth?.bytesPerDay ?? null,
    ...(scrub && {
      stillpoint_store_bytes: scrub.totalBytes,
      stillpoint_scrub_covered_bytes: scrub.coveredBytes,
      stillpoint_scrub_oldest_timestamp_seconds:
        scrub.oldestSince === null ? null : secondsOf(Date.parse(scrub.oldestSince)),
      stillpoint_scrub_period_seconds: secondsOf(scrub.periodMs),
      stillpoint_damaged_records: scrub.damage.openCount,
      stillpoint_damaged_points: scrub.damage.pointCount,
      stillpoint_healed_records: scrub.damage.healedCount,
    }),
  };
}

const RESULTS: Readonly<Record<string, string>> = {
  'session-commit': 'committed',
  'session-expired': 'expired',
};

export function countSession(
  counters: Counters,
  { agent, device }: DeviceKey,
  { what, point }: { readonly what: string; readonly point?: Point },
): void {
  const labels = { agent, device };
  counters.add('stillpoint_sessions_total', { ...labels, result: RESULTS[what] ?? 'aborted' }, 1);
  if (point === undefined) return;
  const { scannedBytes, changedBytes, wireBytes, durationMs } = point.statistics;
  counters.add('stillpoint_read_bytes_total', labels, scannedBytes);
  counters.add('stillpoint_changed_bytes_total', labels, changedBytes);
  counters.add('stillpoint_sent_bytes_total', labels, wireBytes);
  counters.add('stillpoint_stored_bytes_total', labels, point.storedBytes);
  counters.add('stillpoint_backup_seconds_total', labels, durationMs / 1000);
}
