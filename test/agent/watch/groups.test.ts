/** Groups in metrics and conditions: as devices of their name, with what was read at their members. */
import test from 'ava';
import type { BackupResult } from '../../../src/agent/backup/options.js';
import type { DaemonView, DeviceView } from '../../../src/agent/daemon/view.js';
import type { GroupBackupResult } from '../../../src/agent/group/options.js';
import { agentKnown, agentSamples } from '../../../src/agent/watch/facts.js';
import { RunTally } from '../../../src/agent/watch/tally.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { agentConditions } from '../../../src/domain/notice/agent.js';

const result = (device: string, scannedBytes: number) =>
  ({
    point: { device, statistics: { scannedBytes, changedBytes: 1 }, providerFacts: { frozenMs: 1500 } },
    wireBytes: 9,
  }) as unknown as BackupResult;

const view = (name: string, more: Partial<DeviceView>): DeviceView => ({
  ...{ name, path: `/dev/${name}`, members: null, schedule: null, state: 'on-demand', nextAt: null },
  ...{ pausedUntil: null, failures: 0, running: null, last: null, lastGood: null, problem: null },
  ...more,
});

test('runs are counted for the group, what was read and sent for its members', async (t) => {
  const counted: string[] = [];
  const tally = new RunTally({
    add: (name, labels, value) => {
      const what = name.replace('stillpoint_agent_', '');
      if (!what.includes('seconds')) counted.push(`${what} ${Object.values(labels).join()} ${value}`);
    },
  });
  const error = new StillpointError('device-not-found', { thing: '/dev/log', reason: 'it is not there' });
  const group = { id: '0'.repeat(32), name: 'db', sequence: 1, memberCount: 2 };
  const results = [result('data', 10), result('wal', 20)];
  const made: GroupBackupResult = { group, results, leftOut: [{ device: 'log', error }] };
  await tally.run('db', async () => made);
  await t.throwsAsync(tally.run('db', () => Promise.reject(error)));
  t.deepEqual(counted, [
    ...['read_bytes_total data 10', 'changed_bytes_total data 1', 'sent_bytes_total data 9'],
    ...['read_bytes_total wal 20', 'changed_bytes_total wal 1', 'sent_bytes_total wal 9'],
    ...['runs_total db,done 1', 'errors_total device-not-found 1', 'runs_total db,failed 1'],
  ]);
  await tally.run('db', async () => made);
  const devices = [view('data', {}), view('db', { path: null, members: ['data', 'wal', 'log'] })];
  const samples = agentSamples({ devices, receivers: [], journals: [] } as unknown as DaemonView, tally, []);
  const of = (device: string, name: string) =>
    samples.find((sample) => sample.labels.device === device && sample.name.endsWith(name))?.value;
  t.deepEqual([of('db', 'left_out'), of('data', 'left_out')], [1, undefined]);
  t.deepEqual([of('db', 'frozen_seconds'), of('data', 'frozen_seconds')], [undefined, 1.5]);
});

test('a group with a schedule is stale by its own limit', (t) => {
  const nowMs = Date.UTC(2026, 4, 10);
  const lastGood = { point: 'x@1', instant: new Date(nowMs - 3 * 86_400_000).toISOString() };
  const devices = [
    view('data', { lastGood, schedule: 'daily' }),
    view('db', { lastGood, schedule: 'weekly', path: null, members: ['data', 'wal'] }),
    view('all', { lastGood, path: null, members: ['data', 'wal'] }),
  ];
  const jobs = [
    { name: 'data', staleAfterMs: 7 * 86_400_000 },
    { name: 'db', staleAfterMs: 2 * 86_400_000 },
    { name: 'all', staleAfterMs: 1 },
  ];
  const known = agentKnown({ devices, receivers: [], journals: [] } as unknown as DaemonView, jobs, nowMs);
  t.like(agentConditions(known), { length: 1, 0: { event: 'device-stale', subject: 'db' } });
});
