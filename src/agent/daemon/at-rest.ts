/** What `status` shows while no daemon runs: the configuration, and what the last one has left. */
import { pino } from 'pino';
import { DeviceTable } from './devices.js';
import { Matches } from './matches.js';
import type { DaemonConfig } from './options.js';
import { viewDaemon } from './overview.js';
import { presenceOf } from './presence.js';
import { readMemory } from './state.js';
import type { DaemonView } from './view.js';

/** @throws StillpointError `config` if what was left is damaged */
export async function viewAtRest(
  stateDirectory: string,
  { parallel, devices: configured }: DaemonConfig,
  nowMs: number,
): Promise<DaemonView> {
  const { devices: remembered, pause } = await readMemory(stateDirectory);
  const table = new DeviceTable(pino({ level: 'silent' }));
  table.apply(configured, await new Matches().of(configured, remembered), nowMs, remembered);
  for (const entry of table.entries) {
    const { last } = entry.memory;
    // It ended while it ran.
    if (last?.endedAt === null) entry.memory = { ...entry.memory, last: { ...last, state: 'interrupted' } };
  }
  const isThere = presenceOf();
  return viewDaemon(table, {
    ...{ nowMs, pause, startedAt: '', parallel, receivers: [], problems: [] },
    isThere: ({ settings }) => isThere(settings.path),
  });
}
