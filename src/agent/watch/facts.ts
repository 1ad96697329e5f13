/** What is known of an agent at one moment: for metrics, and for what is told if it is not well. */
import type { AgentKnown, KnownOwnDevice } from '../../domain/notice/agent.js';
import type { Condition } from '../../domain/notice/events.js';
import { countConditions, ofLastPoint } from '../../monitor/metrics/samples.js';
import { type Labels, type MetricName, type Sample, secondsOf } from '../../monitor/metrics/table.js';
import type { Job } from '../daemon/jobs.js';
import type { DaemonView, DeviceView } from '../daemon/view.js';
import type { RunTally } from './tally.js';

/** @param jobs those that are configured, as they are now */
export function agentKnown(
  view: DaemonView,
  jobs: readonly Pick<Job, 'name' | 'staleAfterMs'>[],
  nowMs: number,
): AgentKnown {
  const staleAfterMs = new Map(jobs.map((job) => [job.name, job.staleAfterMs]));
  return {
    nowMs,
    devices: view.devices
      .filter(({ state }) => state !== 'disabled' && state !== 'paused' && state !== 'vanished')
      .map((device) => knownDevice(device, staleAfterMs.get(device.name) ?? 0)),
    receivers: new Map(view.receivers.map(({ url, problem }) => [url, problem])),
    journals: view.journals.map(({ device, receiver, brokenAt, lagMs, problem }) => ({
      ...{ subject: receiver === null ? device : `${device} at ${receiver}`, lagMs, problem },
      brokenMs: brokenAt === null ? null : Date.parse(brokenAt),
    })),
  };
}

function knownDevice(
  { name, schedule, state, failures, problem, lastGood }: DeviceView,
  staleAfterMs: number,
): KnownOwnDevice {
  return {
    device: name,
    failure: failures > 0 ? (problem ?? `${failures} failures in a row`) : null,
    isOpen: state === 'running' || state === 'retrying',
    lastPointMs: lastGood === null ? null : Date.parse(lastGood.instant),
    staleAfterMs: schedule === null ? 0 : staleAfterMs,
  };
}

export function agentSamples(view: DaemonView, tally: RunTally, conditions: readonly Condition[]): Sample[] {
  const of = (labels: Labels, values: Partial<Record<MetricName, number | null>>): Sample[] =>
    Object.entries(values).flatMap(([name, value]) =>
      value === null ? [] : [{ name: name as MetricName, labels, value }],
    );
  const timeOf = (text: string | null | undefined): number | null =>
    text == null ? null : secondsOf(Date.parse(text));
  return [
    ...view.devices.flatMap(({ name: device, state, failures, nextAt, lastGood }) => {
      const last = tally.last(device);
      return of(
        { device },
        {
          stillpoint_agent_last_point_timestamp_seconds: timeOf(lastGood?.instant),
          stillpoint_agent_last_duration_seconds: last && secondsOf(last.durationMs),
          stillpoint_agent_last_left_out: last?.leftOut ?? null,
          stillpoint_agent_failures: failures,
          stillpoint_agent_running: state === 'running' ? 1 : 0,
          stillpoint_agent_present: state === 'absent' || state === 'vanished' ? 0 : 1,
          stillpoint_agent_next_run_timestamp_seconds: timeOf(nextAt),
          ...ofLastPoint('stillpoint_agent', last?.facts ?? {}),
        },
      );
    }),
    ...view.receivers.flatMap(({ url, problem }) =>
      of({ receiver: url }, { stillpoint_agent_receiver_up: problem === null ? 1 : 0 }),
    ),
    ...view.journals.flatMap(({ device, lagMs, state }) =>
      of(
        { device },
        {
          stillpoint_agent_journal_lag_seconds: lagMs === null ? null : secondsOf(lagMs),
          stillpoint_agent_journal_broken: state === 'refused' ? null : state === 'broken' ? 1 : 0,
        },
      ),
    ),
    ...countConditions('stillpoint_agent_problem', 'agent', conditions),
  ];
}
