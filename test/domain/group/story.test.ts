/** What changes of a run mean to an operator. */
import test from 'ava';
import {
  advanceRun,
  newRun,
  RUN_LIMITS,
  type Run,
  type RunEvent,
  type RunSettings,
} from '../../../src/domain/group/run.js';
import type { GroupReport } from '../../../src/domain/group/steps.js';
import { type Happening, happeningsOf } from '../../../src/domain/group/story.js';

const FAILURE = { code: 'device-io', thing: 'x', reason: 'it broke', permanent: true } as const;
const SETTINGS: RunSettings = {
  ...{ id: '1'.repeat(32), name: 'db', limits: RUN_LIMITS, missing: 'leave-out' },
  hosts: [
    { agent: 'a', devices: ['data', 'wal'] },
    { agent: 'b', devices: ['log'] },
  ],
};

const say = (agent: string, report: GroupReport, nowMs = 0): RunEvent => ({
  ...{ type: 'report', agent, report, nowMs },
});
const both = (report: GroupReport) => [say('a', report), say('b', report)];
const missed = (agent: string, of: number, again = true) =>
  say(agent, { state: 'missed', try: of, again, error: FAILURE });
const READY = both({ state: 'ready', try: 1 });
const RESTED = [...READY, ...both({ state: 'rested', try: 1 })];

/** All that happened, in a word each. */
function story(...events: readonly RunEvent[]): string[] {
  const told: string[] = [];
  let run: Run = newRun(SETTINGS, 0);
  for (const event of events) {
    const next = advanceRun(run, event);
    told.push(...happeningsOf(run, event, next).map(inWords));
    run = next;
  }
  return told;
}

function inWords(happening: Happening): string {
  if (happening.type === 'missed')
    return `${happening.agent} missed ${happening.try}: ${happening.failure.reason}`;
  if (happening.type === 'host-out') return `${happening.members.join()} out: ${happening.failure.reason}`;
  return `instant ${happening.try}: ${happening.stalls.map(({ member, stallMs }) => `${member} ${stallMs}`).join()}`;
}

test('a miss is told once, also of a try that ends with it', (t) => {
  t.deepEqual(story(...READY, missed('b', 1)), ['b missed 1: it broke']);
  t.deepEqual(story(...READY, missed('b', 1), missed('b', 1), missed('a', 1)), ['b missed 1: it broke']);
  const CLOSED = [...RESTED, ...both({ state: 'closed', try: 1 })];
  t.deepEqual(story(...CLOSED, missed('b', 1), missed('b', 1)), ['b missed 1: it broke']);
});

test('one that can not try again is out besides', (t) => {
  t.deepEqual(story(...READY, missed('b', 1, false)), ['b missed 1: it broke', 'b/log out: it broke']);
});

test('one that is late has missed the try; one that was closed has not', (t) => {
  const late: RunEvent = { type: 'tick', nowMs: RUN_LIMITS.closeMs + 1 };
  t.deepEqual(story(...RESTED, say('a', { state: 'closed', try: 1 }), late), [
    'b missed 1: it did not get ready in time',
  ]);
  const slow: RunEvent = { type: 'tick', nowMs: RUN_LIMITS.restMs + 1 };
  t.deepEqual(story(...READY, say('b', { state: 'rested', try: 1 }), slow), [
    'a missed 1: it did not get ready in time',
  ]);
});

test('the instant is told when all have cut, with the stalls of those that are of it', (t) => {
  const events = [
    ...RESTED,
    ...both({ state: 'closed', try: 1 }),
    say('a', { state: 'cut', try: 1, stalls: [{ device: 'data', stallMs: 7 }] }),
  ];
  t.deepEqual(story(...events), []);
  const stalls = [{ device: 'log', stallMs: 9 }];
  t.deepEqual(story(...events, say('b', { state: 'cut', try: 1, stalls })), ['instant 1: a/data 7,b/log 9']);
  t.deepEqual(story(...events, missed('b', 1)), [
    'b missed 1: it broke',
    'b/log out: it broke',
    'instant 1: a/data 7',
  ]);
});

test('a host that is gone is out, once', (t) => {
  const gone: RunEvent = { type: 'gone', agent: 'a', failure: FAILURE, nowMs: 0 };
  t.deepEqual(story(gone, gone), ['a/data,a/wal out: it broke']);
});
