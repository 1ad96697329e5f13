/** What an agent has taken of its receiver, counted (src/receiver/access/quota.ts). */
import type { DeviceKey, Store } from '../../store/port/store.js';
import type { QuotaUse } from '../access/quota.js';

export interface AgentUse {
  readonly used: QuotaUse;
  /** Of its devices. */
  readonly names: ReadonlySet<string>;
}

/** @param open devices of all sessions that are open */
export async function agentUse(store: Store, agent: string, open: readonly DeviceKey[]): Promise<AgentUse> {
  const points = await store.points({ agent });
  const sets = await store.partialSets({ agent });
  const journals = await store.journals.list({ agent });
  const sessions = open.filter((session) => session.agent === agent);
  const names = new Set([
    ...[...points, ...sets, ...sessions, ...journals].map(({ device }) => device),
    ...store.deviceNames(agent),
  ]);
  const storedBytes =
    points.reduce((sum, point) => sum + point.storedBytes, 0) +
    sets.reduce((sum, { durableBytes }) => sum + durableBytes, 0) +
    journals.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  // One is replaced by another of its device.
  const openCount = new Set(sessions.map(({ device }) => device)).size;
  const used = { storedBytes, points: points.length, devices: names.size, sessions: openCount };
  return { used, names };
}
