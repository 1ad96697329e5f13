/** What a host of a run is told. Pure; run.ts has the phases. */
import { kindOf, type Run, sessionsOf } from './run.js';
import type { GroupCommand, GroupReport } from './steps.js';

/** Agents are not told which others there are. */
const ENDED = 'the backup of the group has failed on another host, or was stopped';

/**
 * @param report the host's last, which the run has heeded
 * @returns null: it waits
 */
export function commandFor(run: Run, agent: string, report: GroupReport): GroupCommand | null {
  const host = run.hosts.find((each) => each.agent === agent);
  if (host === undefined) return { do: 'abandon', reason: 'it is not a part of the group' };
  if (host.state === 'out') return { do: 'abandon', reason: host.failure?.reason ?? ENDED };
  if (run.phase === 'failed') return { do: 'abandon', reason: ENDED };
  const { settings, phase, instant } = run;
  switch (report.state) {
    case 'ready':
    case 'missed': {
      if (phase !== 'resting' || host.state !== 'ready') return null;
      const { restMs, closedMs } = settings.limits;
      return { do: 'rest', try: run.try, restMs, closedMs };
    }
    case 'rested':
      if (report.try < run.try) return { do: 'open', try: report.try };
      if (phase !== 'closing' || host.state !== 'rested') return null;
      return report.try === run.try ? { do: 'close', try: run.try } : null;
    case 'closed':
      if (report.try < run.try) return { do: 'open', try: report.try };
      if (phase !== 'cutting' || host.state !== 'closed' || instant === null) return null;
      return report.try === run.try ? { do: 'cut', try: run.try, instant } : null;
    case 'transferred': {
      if (phase !== 'committing' && phase !== 'deciding' && phase !== 'done') return null;
      const { id, name } = settings;
      const sessionIds = sessionsOf(run).map(({ sessionId }) => sessionId);
      return { do: 'commit', kind: kindOf(run), group: { id, name, sessionIds, isOfReceiver: true } };
    }
    case 'preparing':
    case 'cut':
    case 'failed':
      return null;
  }
}
