/** What `status` shows while no daemon runs: the configuration, and what the last one has left. */
import { stat } from 'node:fs/promises';
import { pino } from 'pino';
import { isPaused } from '../../domain/order/run-plan.js';
import { DeviceTable } from './devices.js';
import type { DaemonConfig } from './options.js';
import { readMemory } from './state.js';
import { type DaemonView, viewDevice, viewVanished } from './view.js';

/** @throws StillpointError `config` if what was left is damaged */
export async function viewAtRest(
  stateDirectory: string,
  { parallel, devices: configured }: DaemonConfig,
  nowMs: number,
): Promise<DaemonView> {
  const { devices: remembered, pause } = await readMemory(stateDirectory);
  const table = new DeviceTable(pino({ level: 'silent' }));
  await table.expand(configured, nowMs, remembered);
  const devices = [];
  for (const { settings, memory } of table.entries) {
    const isThere = await stat(settings.path).then(
      () => true,
      () => false,
    );
    const { last } = memory;
    // It ended while it ran.
    const left =
      last?.endedAt === null ? { ...memory, last: { ...last, state: 'interrupted' as const } } : memory;
    devices.push(viewDevice(settings, left, { nowMs, isThere, pause, running: null }));
  }
  devices.push(...[...table.vanished.values()].map(viewVanished));
  return {
    ...{
      startedAt: '',
      parallel,
      isPaused: isPaused(pause, nowMs),
      receivers: [],
      problems: [...table.problems],
    },
    pausedUntil: pause?.untilMs == null ? null : new Date(pause.untilMs).toISOString(),
    devices: devices.sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}
