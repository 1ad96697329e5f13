/** What `status` shows while no daemon runs: the configuration, and what the last one has left. */
import { pino } from 'pino';
import { Matches } from './matches.js';
import type { DaemonConfig } from './options.js';
import { viewDaemon } from './overview.js';
import { missingOf, presenceOf } from './presence.js';
import { readMemory } from './state.js';
import { JobTable } from './table.js';
import type { DaemonView } from './view.js';

/** @throws StillpointError `config` if what was left is damaged */
export async function viewAtRest(
  stateDirectory: string,
  { parallel, ...configured }: DaemonConfig,
  nowMs: number,
): Promise<DaemonView> {
  const { pause, ...remembered } = await readMemory(stateDirectory);
  const table = new JobTable(pino({ level: 'silent' }));
  const found = await new Matches().of(configured.devices, remembered.devices);
  table.apply(configured, found, nowMs, remembered);
  for (const entry of table.entries) {
    const { last } = entry.memory;
    // It ended while it ran.
    if (last?.endedAt === null) entry.memory = { ...entry.memory, last: { ...last, state: 'interrupted' } };
  }
  const isThere = presenceOf();
  return viewDaemon(table, {
    ...{ nowMs, pause, startedAt: '', parallel, receivers: [], journals: [], problems: [] },
    missing: ({ job }) => missingOf(job, isThere),
  });
}
