/** Groups over several hosts as people read of them. */
import test from 'ava';
import { groupLines, groupRows } from '../../../src/cli/commands/receiver/group-lines.js';
import type { GroupView } from '../../../src/receiver/groups/views.js';

const NOW = Date.UTC(2026, 4, 1, 12);
const ago = (seconds: number) => new Date(NOW - seconds * 1000).toISOString();

const VIEW: GroupView = {
  group: {
    ...{ name: 'db', missing: 'leave-out' },
    members: [
      { agent: 'db1', device: 'data' },
      { agent: 'db2', device: 'log' },
    ],
  },
  ...{ running: null, cutOffAt: null, lastRun: null, lastPoint: null },
  members: [
    { agent: 'db1', device: 'data', state: 'connected', isOffered: true, canGroup: true },
    { agent: 'db2', device: 'log', state: 'connected', isOffered: false, canGroup: false },
  ],
};

const ENDED: GroupView = {
  ...VIEW,
  lastPoint: { point: 'db@3', committedAt: ago(7_500) },
  lastRun: {
    ...{ startedAt: ago(7_600), endedAt: ago(7_490), by: 'schedule', tries: 2, missed: 1 },
    ...{ instant: ago(7_550), point: 'db@3', failure: null, warningCount: 0 },
    hosts: [
      {
        agent: 'db1',
        devices: ['data'],
        isOut: false,
        reason: null,
        stalls: [{ device: 'data', stallMs: 41.6 }],
      },
      { agent: 'db2', devices: ['log'], isOut: true, reason: 'agent db2: it is not connected', stalls: [] },
    ],
    phases: [
      { phase: 'gathering', durationMs: 30_000 },
      { phase: 'sending', durationMs: 65_000 },
    ],
  },
};

const text = (view: GroupView) => groupLines(view, NOW).join('\n');

test('members are shown with their agents, and that there is nothing yet', (t) => {
  const [, data, log, ...rest] = groupLines(VIEW, NOW);
  t.regex(data ?? '', /^ {2}db1\/data +connected +offered$/);
  t.regex(log ?? '', /^ {2}db2\/log +connected, too old for this +not offered now$/);
  t.deepEqual(rest, ['  last point: none', '  last backup: none has ended yet']);
});

test('the last backup: what it made or why not, who was out, how long writes waited', (t) => {
  t.regex(text(ENDED), /last point: db@3, .*, 2 h 05 min ago/);
  t.regex(
    text(ENDED),
    /last backup, by schedule: .*: db@3, 2 attempts at the instant\n {4}gathering 30 s, sending 1 min 05 s/,
  );
  t.regex(
    text(ENDED),
    /db2\/log out: agent db2: it is not connected\n {4}db1\/data: writes waited for 42 ms$/,
  );
  const failed = {
    ...ENDED,
    lastRun: { ...(ENDED.lastRun as never as object), failure: 'it broke' },
  } as GroupView;
  t.regex(text(failed), /failed: it broke/);
  t.regex(text({ ...VIEW, cutOffAt: ago(60) }), /has not ended: the receiver was stopped meanwhile/);
});

test('what runs: its phase, and each host with since when and why', (t) => {
  const hosts = [
    { agent: 'db1', devices: ['data'], state: 'ready', since: ago(5), reason: null },
    { agent: 'db2', devices: ['log'], state: 'out', since: ago(65), reason: 'log: it broke' },
  ];
  const running = { startedAt: ago(90), phase: 'gathering', phaseSince: ago(12), try: 2, hosts };
  t.regex(
    text({ ...VIEW, running }),
    /a backup runs since .*: gathering for 12 s, try 2\n {4}db1: ready for 5\.0 s\n {4}db2: out for 1 min 05 s: log: it broke/,
  );
});

test('the table has the age of the last point, and how the last backup went', (t) => {
  const rows = groupRows([VIEW, ENDED, { ...ENDED, cutOffAt: ago(1) }], NOW);
  t.regex(rows[1] ?? '', /^db +- +- +- +leave-out +db1\/data, db2\/log$/);
  t.regex(rows[2] ?? '', /^db +db@3 +2 h 05 min +done, some left out /);
  t.regex(rows[3] ?? '', /^db +db@3 +2 h 05 min +failed /);
});
