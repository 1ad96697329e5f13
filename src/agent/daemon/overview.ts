/** What `status` shows of all devices. */
import { isPaused, type Pause } from '../../domain/order/run-plan.js';
import type { DeviceTable, Entry } from './devices.js';
import { runningView } from './running.js';
import { type DaemonView, viewDevice, viewVanished } from './view.js';

export interface DaemonFacts extends Pick<DaemonView, 'startedAt' | 'parallel' | 'receivers' | 'problems'> {
  readonly nowMs: number;
  readonly pause: Pause | null;
  readonly isThere: (entry: Entry) => Promise<boolean>;
}

export async function viewDaemon(
  { entries, vanished, problems }: Pick<DeviceTable, 'entries' | 'vanished' | 'problems'>,
  { isThere, ...facts }: DaemonFacts,
): Promise<DaemonView> {
  const { nowMs, pause, startedAt, parallel, receivers } = facts;
  const looked = await Promise.all(entries.map(async (entry) => ({ entry, isThere: await isThere(entry) })));
  const devices = looked.map(({ entry: { settings, memory, running }, isThere: isHere }) =>
    viewDevice(settings, memory, {
      ...{ nowMs, pause, isThere: isHere },
      running: running === null ? null : runningView(running),
    }),
  );
  devices.push(...[...vanished.values()].map(viewVanished));
  return {
    ...{ startedAt, parallel, receivers, isPaused: isPaused(pause, nowMs) },
    pausedUntil: pause?.untilMs == null ? null : new Date(pause.untilMs).toISOString(),
    devices: devices.sort((a, b) => (a.name < b.name ? -1 : 1)),
    problems: [...facts.problems, ...problems],
  };
}
