/** A receiver in this process with a group over two hosts, which the test plays, and what is seen of it. */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { Run } from '../../../src/domain/group/run.js';
import type { ReceiverGroup } from '../../../src/domain/order/receiver-group.js';
import { initReceiver } from '../../../src/receiver/access/identity.js';
import type { AuditEvent } from '../../../src/receiver/audit/entry.js';
import { Groups } from '../../../src/receiver/groups/groups.js';
import type { GroupBackupResult } from '../../../src/receiver/groups/witness.js';
import { readGroups, writeGroup } from '../../../src/receiver/orders/group-settings.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { tempDir } from '../disks/temp-dir.js';
import { HostPort } from './host-port.js';

export const GROUP: ReceiverGroup = {
  name: 'db',
  missing: 'fail',
  members: [
    { agent: 'db1', device: 'data' },
    { agent: 'db2', device: 'log' },
    { agent: 'db1', device: 'wal' },
  ],
};
const DEVICES = { db1: ['data', 'wal'], db2: ['log'] } as const;
type Agent = keyof typeof DEVICES;

interface Seen {
  /** Of the log. */
  readonly lines: Record<string, unknown>[];
  /** Of the audit log. */
  readonly entries: AuditEvent[];
  readonly counted: string[];
}

export async function makeBackupWorld(t: ExecutionContext) {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  await writeGroup(dir, GROUP);
  const store = await openStore(dir);
  const service = await ReceiverService.open(store);
  t.teardown(async () => {
    await service.close();
    await store.close();
  });
  const { orders, runs } = service;
  const seen: Seen = { lines: [], entries: [], counted: [] };
  const groups = new Groups({
    ...{ dir, store, orders, runs, now: () => new Date(), list: () => readGroups(dir) },
    tenants: { agent: (name) => (name in DEVICES ? ({ name } as never) : null) },
    log: pino({ base: null }, { write: (line) => void seen.lines.push(JSON.parse(line)) }),
    audit: { note: (entry) => void seen.entries.push(entry) },
    counters: { add: (name, labels) => void seen.counted.push([name, ...Object.values(labels)].join(' ')) },
  });
  const phases: string[] = [];
  const stop = new AbortController();
  const run = (changes: Partial<ReceiverGroup> = {}, waitMs = 60_000): Promise<GroupBackupResult> =>
    groups.backups.run({
      ...{ by: 'schedule', group: { ...GROUP, ...changes }, waitMs, signal: stop.signal },
      onChange: ({ phase }: Run) => {
        if (phases.at(-1) !== phase) phases.push(phase);
      },
      whyAbsent: () => 'it is not connected',
    });
  /** Takes its order. */
  const comes = async (agent: Agent) => {
    const port = agentReceiver(service, agent);
    const devices = DEVICES[agent];
    const question = { devices, running: [], ordersMax: 1, canGroup: true, waitMs: 10_000 };
    const order = await port.awaitOrder(question);
    if (order?.group === undefined) throw new Error('no order of a group came');
    return { port, order, host: new HostPort(port, order.group.runId, devices) };
  };
  /** Does all of its part. */
  const plays = async (agent: Agent, warnings: readonly string[] = []) => {
    const { port, order, host } = await comes(agent);
    const instant = await host.cuts();
    const points = await host.commits(await host.says(await host.sends()), instant);
    await port.reportOrder(order.orderId, { state: 'done', pointId: points[0]?.id ?? '', warnings });
    return points;
  };
  return { dir, store, service, groups, seen, run, comes, plays, phases, stop };
}
