/** What `status` shows of all devices and groups. */
import { isPaused, type Pause } from '../../domain/order/run-plan.js';
import { runningView } from './running.js';
import type { Entry, JobTable } from './table.js';
import { type BesideView, type DaemonView, viewJob, viewVanished } from './view.js';

export interface DaemonFacts extends BesideView, Pick<DaemonView, 'startedAt' | 'parallel' | 'problems'> {
  readonly nowMs: number;
  readonly pause: Pause | null;
  /** The names of its devices that are not there. */
  readonly missing: (entry: Entry) => Promise<readonly string[]>;
}

export async function viewDaemon(
  { entries, guests, vanished, problems }: Pick<JobTable, 'entries' | 'guests' | 'vanished' | 'problems'>,
  { missing: missingOf, ...facts }: DaemonFacts,
): Promise<DaemonView> {
  const { nowMs, pause, startedAt, parallel, receivers, journals } = facts;
  const devices = await Promise.all(
    [...entries, ...guests].map(async (entry) => {
      const missing = await missingOf(entry);
      const { job, memory, running } = entry;
      return viewJob(job, memory, {
        ...{ nowMs, pause, missing },
        running: running === null ? null : runningView(running),
      });
    }),
  );
  devices.push(...[...vanished.values()].map(viewVanished));
  return {
    ...{ startedAt, parallel, receivers, journals, isPaused: isPaused(pause, nowMs) },
    pausedUntil: pause?.untilMs == null ? null : new Date(pause.untilMs).toISOString(),
    devices: devices.sort((a, b) => (a.name < b.name ? -1 : 1)),
    problems: [...facts.problems, ...problems],
  };
}
