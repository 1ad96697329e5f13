/** The phases of a run, one by one. run-model.test.ts lets hosts and links do what they like. */
import test from 'ava';
import { commandFor } from '../../../src/domain/group/commands.js';
import {
  advanceRun,
  leftOut,
  newRun,
  RUN_LIMITS,
  type Run,
  type RunEvent,
  type RunSettings,
} from '../../../src/domain/group/run.js';
import type { GroupReport } from '../../../src/domain/group/steps.js';

const FAILURE = { code: 'device-io', thing: 'x', reason: 'it broke', permanent: true } as const;
const { silentMs, restMs, closeMs, closedMs, cutMs, commitMs } = RUN_LIMITS;

const settings = (changes: Partial<RunSettings> = {}): RunSettings => ({
  ...{ id: '1'.repeat(32), name: 'db', missing: 'fail', limits: RUN_LIMITS },
  hosts: [
    { agent: 'a', devices: ['data', 'wal'] },
    { agent: 'b', devices: ['log'] },
  ],
  ...changes,
});
const OUT = settings({ missing: 'leave-out' });

const say = (agent: string, report: GroupReport, nowMs = 0): RunEvent => ({
  ...{ type: 'report', agent, report, nowMs },
});
const tick = (nowMs: number): RunEvent => ({ type: 'tick', nowMs });
const ready = (agent: string, of = 1, nowMs = 0) => say(agent, { state: 'ready', try: of }, nowMs);
const rested = (agent: string, of = 1, nowMs = 0) => say(agent, { state: 'rested', try: of }, nowMs);
const closed = (agent: string, of = 1, nowMs = 0) => say(agent, { state: 'closed', try: of }, nowMs);
const cut = (agent: string, of = 1, nowMs = 0) => say(agent, { state: 'cut', try: of, stalls: [] }, nowMs);
const missed = (agent: string, of = 1, again = true, nowMs = 0) =>
  say(agent, { state: 'missed', try: of, again, error: FAILURE }, nowMs);
const sent = (agent: string, count: number, nowMs = 0) =>
  say(agent, { state: 'transferred', kind: 'crash', sessionIds: Array(count).fill(agent.repeat(32)) }, nowMs);
const failed = (agent: string) => say(agent, { state: 'failed', error: FAILURE });

const after = (of: RunSettings, ...events: readonly RunEvent[]): Run =>
  events.reduce(advanceRun, newRun(of, 0));
const READY = [ready('a'), ready('b')];
const RESTED = [...READY, rested('a'), rested('b')];
const CLOSED = [...RESTED, closed('a'), closed('b')];
const CUT = [...CLOSED, cut('a'), cut('b')];
const SENT = [...CUT, sent('a', 2), sent('b', 1)];
const tries = (count: number) =>
  Array.from({ length: count }, (_, at) => [
    ready('a', at + 1),
    ready('b', at + 1),
    rested('a', at + 1),
    missed('b', at + 1),
  ]).flat();
const SECOND = [ready('a', 2), ready('b', 2)];
/** The last one, once all are at rest. */
const LAST = [...tries(2), ...['a', 'b'].flatMap((agent) => [ready(agent, 3), rested(agent, 3)])];

const PHASES: readonly [what: string, of: RunSettings, events: readonly RunEvent[], is: string][] = [
  ['one is ready', settings(), [ready('a')], 'gathering 1'],
  ['all are ready', settings(), READY, 'resting 1'],
  ['one is at rest', settings(), [...READY, rested('a')], 'resting 1'],
  ['one that is not ready is at rest', settings(), [ready('a'), rested('b'), rested('a')], 'gathering 1'],
  ['all are at rest', settings(), RESTED, 'closing 1'],
  ['one is closed', settings(), [...RESTED, closed('a')], 'closing 1'],
  ['one is closed before it was told to', settings(), [...READY, closed('a'), rested('b')], 'resting 1'],
  ['all are closed', settings(), CLOSED, 'cutting 1'],
  ['all are closed, each said twice', settings(), CLOSED.flatMap((each) => [each, each]), 'cutting 1'],
  ['all are cut', settings(), CUT, 'sending 1'],
  ['all is sent', settings(), SENT, 'committing 1'],
  ['the report of a cut was lost', settings(), [...CLOSED, sent('a', 2), cut('b')], 'sending 1'],
  ['all is committed', settings(), [...SENT, { type: 'deciding' }, { type: 'committed' }], 'done 1'],
  ['commits do not come', settings(), [...SENT, tick(commitMs)], 'failed 1'],
  [
    'a host prepares for hours',
    settings(),
    [ready('a', 1, 1e7), say('b', { state: 'preparing' }, 1e7)],
    'gathering 1',
  ],
  ['nobody has come yet', settings(), [tick(1e9)], 'gathering 1'],
  ['a host is silent', settings(), [ready('a'), tick(silentMs)], 'failed 1'],
  [
    'a host is silent while it sends',
    settings(),
    [...CUT, cut('a', 1, silentMs), tick(silentMs)],
    'failed 1',
  ],
  ['a host misses', settings(), [...RESTED, closed('a'), missed('b')], 'gathering 2'],
  ['a host can’t come to rest', settings(), tries(1), 'gathering 2'],
  ['a host that missed needs not say more', settings(), [...tries(1), ready('a', 2)], 'resting 2'],
  ['what was missed in a former try', settings(), [...tries(1), ...SECOND, missed('b')], 'resting 2'],
  ['a host can’t try again', settings(), [...READY, missed('b', 1, false)], 'failed 1'],
  ['a third try is missed', settings(), tries(3), 'failed 3'],
  ['resting takes too long', settings(), [...READY, rested('a'), tick(restMs)], 'gathering 2'],
  ['resting takes long', settings(), [...READY, rested('a'), rested('b', 1, restMs - 1)], 'closing 1'],
  ['closing takes too long', settings(), [...RESTED, tick(closeMs)], 'gathering 2'],
  [
    'the first gate is about to open',
    settings(),
    [...RESTED, closed('a'), tick(closedMs - 1000)],
    'gathering 2',
  ],
  [
    'the last is closed too late',
    settings(),
    [...RESTED, closed('a'), closed('b', 1, closedMs)],
    'gathering 2',
  ],
  ['a former try rests', settings(), [...tries(1), ready('a', 2), rested('a'), rested('b')], 'resting 2'],
  [
    'a former try is closed',
    settings(),
    [...tries(1), ready('a', 2), rested('a', 2), rested('b', 2), closed('a'), closed('b')],
    'closing 2',
  ],
  ['one says that it is cut too early', settings(), [...RESTED, closed('a'), cut('a')], 'failed 1'],
  ['one misses after another has cut', settings(), [...CLOSED, cut('a'), missed('b')], 'failed 1'],
  ['all miss the cut', settings(), [...CLOSED, missed('a'), missed('b')], 'resting 2'],
  ['nobody says that it is cut', settings(), [...CLOSED, tick(cutMs)], 'failed 1'],
  ['sessions are missing', settings(), [...CUT, sent('a', 1)], 'failed 1'],
  ['a host fails', settings(), [failed('b')], 'failed 1'],
  ['a host fails at the end', OUT, [...SENT, failed('b')], 'failed 1'],
  ['a host fails while the store decides', OUT, [...SENT, { type: 'deciding' }, failed('b')], 'deciding 1'],
  ['others go on without a host', OUT, [failed('b'), ready('a')], 'resting 1'],
  ['others are at rest already', OUT, [...READY, rested('a'), failed('b')], 'closing 1'],
  ['nobody is left', OUT, [failed('a'), failed('b')], 'failed 1'],
  ['others are closed already', OUT, [...RESTED, closed('a'), failed('b')], 'cutting 1'],
  ['others go on in the last try', OUT, [...LAST, closed('a', 3), missed('b', 3)], 'cutting 3'],
  ['a late one is left out in the last try', OUT, [...LAST, closed('a', 3), tick(8000)], 'cutting 3'],
  [
    'one is never at rest in the last try',
    OUT,
    [...tries(2), ready('a', 3), rested('a', 3), tick(restMs)],
    'closing 3',
  ],
  ['others have cut', OUT, [...CLOSED, cut('a'), missed('b')], 'sending 1'],
  [
    'what is out stays out',
    OUT,
    [...CLOSED, cut('a'), missed('b'), cut('b'), sent('b', 1), sent('a', 2)],
    'committing 1',
  ],
];

for (const [what, of, events, is] of PHASES) {
  test(`a run, ${of.missing}: ${what}`, (t) => {
    const run = after(of, ...events);
    t.is(`${run.phase} ${run.try}`, is);
  });
}

test('a host is told what fits its own report', (t) => {
  const told = (run: Run, agent: string, report: GroupReport) => commandFor(run, agent, report);
  const isReady: GroupReport = { state: 'ready', try: 1 };
  const isRested: GroupReport = { state: 'rested', try: 1 };
  const isClosed: GroupReport = { state: 'closed', try: 1 };
  t.is(told(after(settings(), ready('a')), 'a', isReady), null);
  t.deepEqual(told(after(settings(), ...READY), 'a', isReady), { do: 'rest', try: 1, restMs, closedMs });
  t.is(told(after(settings(), ...READY, rested('a')), 'a', isRested), null);
  t.deepEqual(told(after(settings(), ...RESTED), 'a', isRested), { do: 'close', try: 1 });
  t.deepEqual(told(after(settings(), ...tries(1)), 'a', isRested), { do: 'open', try: 1 });
  t.is(told(after(settings(), ...RESTED, closed('a')), 'a', isClosed), null);
  const instant = new Date(0).toISOString();
  t.deepEqual(told(after(settings(), ...CLOSED), 'a', isClosed), { do: 'cut', try: 1, instant });
  t.is(told(after(settings(), ...CLOSED, cut('a')), 'a', isClosed), null, 'it has cut');
  t.deepEqual(told(after(settings(), ...tries(1)), 'a', isClosed), { do: 'open', try: 1 });
  t.like(told(after(settings(), failed('b')), 'a', isReady), { do: 'abandon' });
  t.like(told(after(OUT, failed('b')), 'b', isReady), { do: 'abandon', reason: 'it broke' });
  t.like(told(after(OUT, failed('b')), 'c', isReady), { do: 'abandon' });
});

test('the commit names all sessions and the worst kind, and not who is left out', (t) => {
  const frozen: GroupReport = { state: 'transferred', kind: 'filesystem', sessionIds: ['c'.repeat(32)] };
  const run = after(settings(), ...CUT, sent('a', 2), say('b', frozen));
  const sessionIds = ['a', 'a', 'c'].map((id) => id.repeat(32));
  const group = { id: '1'.repeat(32), name: 'db', sessionIds, isOfReceiver: true };
  t.deepEqual(commandFor(run, 'b', frozen), { do: 'commit', kind: 'crash', group });
  const less = after(OUT, failed('a'), ready('b'), rested('b'), closed('b'), cut('b'), say('b', frozen));
  t.deepEqual(leftOut(less), ['a/data', 'a/wal']);
  t.deepEqual(commandFor(less, 'b', frozen), {
    ...{ do: 'commit', kind: 'filesystem', group: { ...group, sessionIds: ['c'.repeat(32)] } },
  });
});
