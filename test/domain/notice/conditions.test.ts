/** What is not well, from what is known. */
import test from 'ava';
import { agentConditions, type KnownJournal, type KnownOwnDevice } from '../../../src/domain/notice/agent.js';
import {
  type ReceiverKnown,
  type ReceiverLimits,
  receiverConditions,
} from '../../../src/domain/notice/receiver.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = Date.UTC(2026, 5, 15);
const WELL: ReceiverKnown = {
  ...{ nowMs: NOW, devices: [], agents: [], rounds: [], groups: [], journals: [], room: null },
  ...{ damagedPoints: [], problems: new Map() },
};
const LIMITS: ReceiverLimits = {
  ...{ staleAfterMs: 2 * DAY, staleOf: [], silentAfterMs: DAY, spaceBelowBytes: null, daysLeft: 14 },
};

function receiver(known: Partial<ReceiverKnown>, limits: Partial<ReceiverLimits> = {}): string[] {
  return receiverConditions({ ...WELL, ...known }, { ...LIMITS, ...limits }).map(
    ({ event, subject }) => `${event} ${subject}`,
  );
}

test('a device is stale by the limit that is nearest to it', (t) => {
  const device = (agent: string, name: string, hours: number) => ({
    ...{ agent, device: name, lastPointMs: NOW - hours * HOUR },
  });
  const devices = [device('a', 'x', 49), device('a', 'y', 47), device('b', 'x', 49), device('b', 'y', 49)];
  t.deepEqual(receiver({ devices }), ['device-stale a/x', 'device-stale b/x', 'device-stale b/y']);
  t.deepEqual(receiver({ devices }, { staleAfterMs: 0 }), []);
  const staleOf = [
    { agent: 'b', device: 'y', afterMs: DAY },
    { agent: 'b', device: null, afterMs: 0 },
    { agent: 'a', device: 'y', afterMs: DAY },
  ];
  t.deepEqual(receiver({ devices }, { staleOf }), [
    'device-stale a/x',
    'device-stale a/y',
    'device-stale b/y',
  ]);
});

test('a group over several hosts is stale as a device is, once it has a group point', (t) => {
  const groups = [
    { group: 'late', lastPointMs: NOW - 49 * HOUR },
    { group: 'fresh', lastPointMs: NOW - 47 * HOUR },
    { group: 'new', lastPointMs: null },
  ];
  t.deepEqual(receiver({ groups }), ['device-stale late']);
  t.deepEqual(receiver({ groups }, { staleAfterMs: 0 }), []);
});

test('an agent is silent if it is not there, and was not for so long', (t) => {
  const agent = (name: string, isConnected: boolean, hours: number) => ({
    ...{ agent: name, isConnected, lastHeardMs: NOW - hours * HOUR },
  });
  const agents = [agent('dead', false, 25), agent('lately', false, 23), agent('quiet', true, 100)];
  t.deepEqual(receiver({ agents }), ['agent-silent dead']);
  t.deepEqual(receiver({ agents }, { silentAfterMs: 0 }), []);
});

test('a journal that is wrong is told of as long as it is kept', (t) => {
  const journals = [
    { agent: 'web', device: 'data', fault: 'block 1 differs' },
    { agent: 'web', device: 'logs', fault: null },
  ];
  t.deepEqual(receiver({ journals }), ['journal-fault web/data']);
});

test('damage, failed rounds, upkeep and room', (t) => {
  t.deepEqual(receiver({ damagedPoints: ['a/x@1', 'a/x@2'] }), ['damage a/x@1', 'damage a/x@2']);
  const round = { endedMs: NOW, failed: 0, skipped: 0 };
  const rounds = [
    { schedule: 'well', ...round },
    { schedule: 'half', ...round, skipped: 1 },
    { schedule: 'ill', ...round, failed: 2 },
  ];
  t.deepEqual(receiver({ rounds }), ['round-failed half', 'round-failed ill']);
  t.deepEqual(receiver({ problems: new Map([['scrub', 'it failed']]) }), ['upkeep-failed scrub']);
  const room = { freeBytes: 100, daysLeft: 13 };
  t.deepEqual(receiver({ room }), ['space-soon-low store']);
  t.deepEqual(receiver({ room }, { spaceBelowBytes: 101, daysLeft: 13 }), ['space-low store']);
  t.deepEqual(receiver({ room }, { spaceBelowBytes: 100, daysLeft: 0 }), []);
  t.deepEqual(receiver({ room: { freeBytes: 100, daysLeft: null } }), []);
});

test('an agent: journals that stay broken, or are not shipped for long', (t) => {
  const journal = (subject: string, more: Partial<KnownJournal>): KnownJournal => ({
    ...{ subject, brokenMs: null, lagMs: 0, problem: null },
    ...more,
  });
  const minutes = 60_000;
  const journals = [
    journal('well', {}),
    journal('unknown', { lagMs: null }),
    journal('just broken', { brokenMs: NOW - 59 * minutes, problem: 'its spool is full' }),
    journal('broken', { brokenMs: NOW - 61 * minutes, problem: 'its spool is full' }),
    journal('a little behind', { lagMs: 14 * minutes, problem: 'no connection' }),
    journal('behind', { lagMs: 16 * minutes, problem: 'no connection' }),
    journal('slow', { lagMs: 16 * minutes }),
  ];
  const since = /since .* UTC is at the receiver/;
  const found = agentConditions({ nowMs: NOW, devices: [], receivers: new Map(), journals });
  t.deepEqual(
    found.map(({ event, subject }) => [event, subject]),
    [
      ['journal-broken', 'broken'],
      ['journal-behind', 'behind'],
      ['journal-behind', 'slow'],
    ],
  );
  t.is(found[0]?.text, 'its spool is full');
  t.regex(found[1]?.text ?? '', since);
  t.regex(found[1]?.text ?? '', /because no connection$/);
  t.regex(found[2]?.text ?? '', /receiver$/);
});

test('an agent: failures that are not tried again, stale devices, receivers that do not answer', (t) => {
  const device = (name: string, more: Partial<KnownOwnDevice>): KnownOwnDevice => ({
    ...{ device: name, failure: null, isOpen: false, lastPointMs: NOW, staleAfterMs: DAY },
    ...more,
  });
  const devices = [
    device('well', {}),
    device('failed', { failure: 'it broke' }),
    device('retrying', { failure: 'it broke', isOpen: true }),
    device('old', { lastPointMs: NOW - DAY - 1 }),
    device('never', { lastPointMs: null }),
    device('unscheduled', { lastPointMs: 0, staleAfterMs: 0 }),
  ];
  const receivers = new Map([
    ['https://up', null],
    ['https://down', 'refused'],
  ]);
  t.deepEqual(
    agentConditions({ nowMs: NOW, devices, receivers, journals: [] }).map(
      ({ event, subject, afterMs, isOpen }) => [...[event, subject, afterMs ?? 0, isOpen ?? false]],
    ),
    [
      ['backup-failed', 'failed', 0, false],
      ['backup-failed', 'retrying', 0, true],
      ['device-stale', 'old', 0, false],
      ['device-stale', 'never', DAY, false],
      ['receiver-unreachable', 'https://down', 15 * 60_000, false],
    ],
  );
});
