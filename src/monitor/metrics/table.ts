/**
 * Every metric, in one table: docs/monitoring.md shows it, and what the alert rules and the dashboard name
 * must be in it. Names never change their meaning. Those that begin with `stillpoint_agent_` are an agent's
 * own; the others are a receiver's.
 */

interface MetricRow {
  readonly type: 'gauge' | 'counter';
  readonly labels: readonly string[];
  /** One sentence for users. */
  readonly help: string;
}

const DEVICE = ['agent', 'device'] as const;
const AGENT = ['agent'] as const;
const GROUP = ['group'] as const;
const OWN = ['device'] as const;

const gauge = (labels: readonly string[], help: string): MetricRow => ({ type: 'gauge', labels, help });
const counter = (labels: readonly string[], help: string): MetricRow => ({ type: 'counter', labels, help });

export const METRICS = {
  stillpoint_build_info: gauge(
    ['version', 'role'],
    '1; its labels say the version, and whether it is an agent or a receiver.',
  ),

  stillpoint_device_last_point_timestamp_seconds: gauge(
    DEVICE,
    'When the last point of the device was committed.',
  ),
  stillpoint_device_points: gauge(DEVICE, 'Points of the device.'),
  stillpoint_device_size_bytes: gauge(DEVICE, 'Size of the device, as of its last point.'),
  stillpoint_device_added_bytes: gauge(DEVICE, 'What the points of the device added to the store.'),
  stillpoint_device_last_duration_seconds: gauge(DEVICE, 'How long the backup of the last point took.'),
  stillpoint_device_last_stall_seconds: gauge(
    DEVICE,
    'For how long the instant of the last point held up writes at most; missing if nothing was held up.',
  ),
  stillpoint_device_last_frozen_seconds: gauge(
    DEVICE,
    'For how long file systems were frozen for the last point; missing if none was.',
  ),
  stillpoint_device_last_map_used: gauge(
    DEVICE,
    '1 if the last point was made from what is known to have changed, 0 if everything was read; missing where nothing tracks changes.',
  ),
  stillpoint_device_last_bad_ranges: gauge(
    DEVICE,
    'Ranges of the device that could not be read for the last point.',
  ),
  stillpoint_device_failures: gauge(DEVICE, 'Failed runs in a row, as the agent last told.'),
  stillpoint_device_damaged_points: gauge(DEVICE, 'Points that need something in the store that is damaged.'),
  stillpoint_device_journal_last_timestamp_seconds: gauge(
    DEVICE,
    'The stamp of the last record of the device that the receiver has; missing without a journal.',
  ),
  stillpoint_device_journal_bytes: gauge(DEVICE, "Bytes of the device's journals."),
  stillpoint_device_ended_journals: gauge(
    DEVICE,
    'Journals of the device that have ended and are still kept.',
  ),
  stillpoint_device_wrong_journals: gauge(
    DEVICE,
    'Journals of the device that an audit found wrong and that are still kept.',
  ),

  stillpoint_sessions_total: counter(
    [...DEVICE, 'result'],
    'Sessions that ended, by result: committed, aborted, expired.',
  ),
  stillpoint_read_bytes_total: counter(
    DEVICE,
    'What agents read of the device for points, since the receiver was started.',
  ),
  stillpoint_changed_bytes_total: counter(
    DEVICE,
    'What was found to differ from the point before, since the receiver was started.',
  ),
  stillpoint_sent_bytes_total: counter(
    DEVICE,
    'What crossed the network for points, both ways, since the receiver was started.',
  ),
  stillpoint_stored_bytes_total: counter(
    DEVICE,
    'What points added to the store, since the receiver was started.',
  ),
  stillpoint_backup_seconds_total: counter(DEVICE, 'How long backups took, since the receiver was started.'),
  stillpoint_requests_total: counter(AGENT, 'Messages of the agent.'),
  stillpoint_request_bytes_total: counter(AGENT, 'Bytes of messages of the agent.'),
  stillpoint_errors_total: counter(['code'], 'Messages that were refused, by error code.'),
  stillpoint_journal_audits_total: counter(
    [...DEVICE, 'result'],
    'Audits of journals, by result: right, wrong.',
  ),
  stillpoint_removed_points_total: counter([], 'Points that were removed by rules or by hand.'),
  stillpoint_freed_bytes_total: counter([], 'What collections freed.'),

  stillpoint_connected: gauge(AGENT, '1 if the agent is connected and takes orders, else 0.'),
  stillpoint_last_heard_timestamp_seconds: gauge(AGENT, 'When the agent was last heard of.'),
  stillpoint_certificate_expiry_timestamp_seconds: gauge(AGENT, "When the agent's certificate expires."),
  stillpoint_open_sessions: gauge([], 'Sessions that are open.'),
  stillpoint_round_failed_devices: gauge(
    ['schedule'],
    'Devices and groups that the last round failed to back up.',
  ),
  stillpoint_round_skipped_devices: gauge(
    ['schedule'],
    'Devices, groups and agents that the last round did not reach.',
  ),
  stillpoint_round_end_timestamp_seconds: gauge(['schedule'], 'When the last round ended.'),
  stillpoint_group_last_point_timestamp_seconds: gauge(
    GROUP,
    'When the last group point of the group over several hosts was committed.',
  ),
  stillpoint_group_last_end_timestamp_seconds: gauge(GROUP, 'When the last backup of the group ended.'),
  stillpoint_group_last_success: gauge(
    GROUP,
    '1 if the last backup of the group made a group point, else 0; 0 also if the receiver was stopped meanwhile.',
  ),
  stillpoint_group_last_stall_seconds: gauge(
    GROUP,
    'For how long the instant of the last backup held up writes of a member at most; missing if nothing was held up.',
  ),
  stillpoint_group_last_left_out: gauge(
    GROUP,
    'Members whose hosts were out at the end of the last backup of the group.',
  ),
  stillpoint_group_running: gauge(GROUP, '1 while a backup of the group runs, else 0.'),
  stillpoint_group_runs_total: counter(
    [...GROUP, 'result'],
    'Backups of the group that ended, by result: done, failed.',
  ),
  stillpoint_group_missed_tries_total: counter(
    GROUP,
    'How often hosts of the group missed a try of the common instant.',
  ),
  stillpoint_problem: gauge(
    ['event'],
    'Conditions that hold now, by the event that notifications tell of them.',
  ),

  stillpoint_store_bytes: gauge([], 'Bytes of packs.'),
  stillpoint_store_free_bytes: gauge([], "Free bytes on the store's disk."),
  stillpoint_store_reserve_bytes: gauge([], 'Free bytes that packs leave to the index and to commits.'),
  stillpoint_store_growth_bytes_per_day: gauge(
    [],
    'How fast the store grows; missing with too little history.',
  ),
  stillpoint_store_days_left: gauge(
    [],
    'Days until the disk is full at that rate; missing where it is not known, or means nothing.',
  ),
  stillpoint_scrub_covered_bytes: gauge([], "Bytes of packs that were read back within the scrub's period."),
  stillpoint_scrub_oldest_timestamp_seconds: gauge(
    [],
    'Since when the longest waiting pack was not read back.',
  ),
  stillpoint_scrub_period_seconds: gauge([], 'Within what time all is to be read back.'),
  stillpoint_damaged_records: gauge([], 'Damaged records that no copy stands in for.'),
  stillpoint_damaged_points: gauge([], 'Points that need such a record.'),
  stillpoint_healed_records: gauge([], 'Damaged records whose content came again, or was there twice.'),

  stillpoint_agent_last_point_timestamp_seconds: gauge(
    OWN,
    "The instant of the device's last point that this agent made.",
  ),
  stillpoint_agent_last_duration_seconds: gauge(OWN, 'How long the last run took, whatever came of it.'),
  stillpoint_agent_last_stall_seconds: gauge(
    OWN,
    'For how long the last instant held up writes at most; missing if nothing was held up.',
  ),
  stillpoint_agent_last_frozen_seconds: gauge(
    OWN,
    'For how long file systems were frozen for the last instant; missing if none was.',
  ),
  stillpoint_agent_last_map_used: gauge(
    OWN,
    '1 if the last point was made from what is known to have changed, else 0; missing where nothing tracks changes.',
  ),
  stillpoint_agent_last_left_out: gauge(
    OWN,
    'Devices that the last point of the group is without; missing for a device.',
  ),
  stillpoint_agent_failures: gauge(OWN, 'Failed runs in a row.'),
  stillpoint_agent_running: gauge(OWN, '1 while a backup of the device runs, else 0.'),
  stillpoint_agent_present: gauge(OWN, '1 if the device is there, else 0.'),
  stillpoint_agent_next_run_timestamp_seconds: gauge(OWN, 'When its next run is due; missing if none is.'),
  stillpoint_agent_runs_total: counter(
    [...OWN, 'result'],
    'Runs that ended, by result: done, failed, cancelled.',
  ),
  stillpoint_agent_errors_total: counter(['code'], 'Runs that failed, by error code.'),
  stillpoint_agent_run_seconds_total: counter(OWN, 'How long runs took.'),
  stillpoint_agent_read_bytes_total: counter(OWN, 'What was read of the device for points.'),
  stillpoint_agent_changed_bytes_total: counter(OWN, 'What was found to differ from the point before.'),
  stillpoint_agent_sent_bytes_total: counter(OWN, 'What crossed the network for points, both ways.'),
  stillpoint_agent_journal_lag_seconds: gauge(
    OWN,
    "For how long writes in the journal of the device's tap wait to be shipped; missing where there is none.",
  ),
  stillpoint_agent_journal_broken: gauge(
    OWN,
    "1 while the journal of the device's tap is broken, else 0; missing where there is none.",
  ),
  stillpoint_agent_journal_broken_total: counter(OWN, "Journals of the device's tap that were found broken."),
  stillpoint_agent_journal_shipped_bytes_total: counter(OWN, 'What was shipped of journals.'),
  stillpoint_agent_receiver_up: gauge(['receiver'], '1 if the receiver answers, else 0.'),
  stillpoint_agent_problem: gauge(
    ['event'],
    'Conditions that hold now, by the event that notifications tell of them.',
  ),
} as const satisfies Readonly<Record<string, MetricRow>>;

export type MetricName = keyof typeof METRICS;
export type Role = 'agent' | 'receiver';

export type Labels = Readonly<Record<string, string>>;

/** The value of a gauge at one moment. */
export interface Sample {
  readonly name: MetricName;
  readonly labels: Labels;
  readonly value: number;
}

/** Where counters go; without metrics nowhere. */
export interface Counters {
  add(name: MetricName, labels: Labels, value: number): void;
}

export const NO_COUNTERS: Counters = { add: () => undefined };

export function metricsOf(role: Role): MetricName[] {
  const names = Object.keys(METRICS) as MetricName[];
  const isOf = (name: string) =>
    name === 'stillpoint_build_info' || name.startsWith('stillpoint_agent_') === (role === 'agent');
  return names.filter(isOf);
}

/** Of a time in ms since 1970. */
export const secondsOf = (ms: number): number => Math.round(ms) / 1000;
