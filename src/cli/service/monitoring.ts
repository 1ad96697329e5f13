/** What an agent and a receiver begin for `[metrics]` and `[notify]` of their configuration. */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Daemon } from '../../agent/daemon/daemon.js';
import type { BesideView } from '../../agent/daemon/view.js';
import type { RunTally } from '../../agent/watch/tally.js';
import type { MetricsSettings, NotifySettings, ReceiverNotifySettings } from '../../config/schema/monitor.js';
import { agentConditions } from '../../domain/notice/agent.js';
import { type ReceiverLimits, receiverConditions } from '../../domain/notice/receiver.js';
import type { Metrics } from '../../monitor/metrics/metrics.js';
import type { Role } from '../../monitor/metrics/table.js';
import type { Monitor } from '../../monitor/monitor.js';
import { channelsOf } from '../../monitor/notify/channels.js';
import type { NotifierSettings } from '../../monitor/notify/notifier.js';
import type { RunningServer } from '../../receiver/server.js';
import { ownVersion } from '../common/version.js';

/** Null, and its library is not loaded, where they are not served. */
export async function openMetrics(role: Role, { listen }: MetricsSettings): Promise<Metrics | null> {
  if (listen === null) return null;
  const { Metrics: Opened } = await import('../../monitor/metrics/metrics.js');
  return new Opened(role, ownVersion());
}

export function notifierSettings(settings: NotifySettings): NotifierSettings {
  return {
    ...{ channels: channelsOf(settings), events: settings.events },
    repeatAfterMs: settings['repeat-after'],
  };
}

interface Common {
  readonly metrics: Metrics | null;
  readonly listen: MetricsSettings['listen'];
  readonly log: Logger;
}

export async function monitorReceiver(
  options: Common & {
    readonly directory: string;
    readonly server: Pick<RunningServer, 'facts'>;
    /** Those that apply now. */
    readonly notify: () => ReceiverNotifySettings;
  },
): Promise<Monitor> {
  const { directory, server, notify, ...rest } = options;
  const { startMonitor } = await import('../../monitor/monitor.js');
  const { receiverSamples } = await import('../../receiver/watch/gauges.js');
  return startMonitor({
    ...{ ...rest, role: 'receiver', bookPath: join(directory, 'receiver', 'notices.json') },
    look: async () => {
      const facts = await server.facts();
      const conditions = receiverConditions(facts, limitsOf(notify()));
      return { samples: receiverSamples(facts, conditions), conditions };
    },
    notify: () => notifierSettings(notify()),
  });
}

export function limitsOf(settings: ReceiverNotifySettings): ReceiverLimits {
  return {
    staleAfterMs: settings['stale-after'],
    staleOf: settings.stale.map(({ agent, device, after: afterMs }) => ({ agent, device, afterMs })),
    silentAfterMs: settings['agent-silent-after'],
    spaceBelowBytes: settings['space-below'],
    daysLeft: settings['days-left'],
  };
}

export async function monitorAgent(
  options: Common & {
    readonly stateDirectory: string;
    readonly daemon: Daemon;
    readonly beside: () => BesideView;
    readonly tally: RunTally;
    readonly notify: () => NotifySettings;
  },
): Promise<Monitor> {
  const { stateDirectory, daemon, beside, tally, notify, ...rest } = options;
  const { startMonitor } = await import('../../monitor/monitor.js');
  const { agentKnown, agentSamples } = await import('../../agent/watch/facts.js');
  return startMonitor({
    ...{ ...rest, role: 'agent', bookPath: join(stateDirectory, 'notices.json') },
    look: async () => {
      const view = await daemon.view(beside());
      const conditions = agentConditions(agentKnown(view, daemon.jobs, Date.now()));
      return { samples: agentSamples(view, tally, conditions), conditions };
    },
    notify: () => notifierSettings(notify()),
  });
}
