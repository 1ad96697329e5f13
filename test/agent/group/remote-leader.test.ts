/** A host's part: what it reports, and what it makes of commands that come late, twice or never. */
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { RemoteLeader } from '../../../src/agent/group/remote-leader.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { INSTANT, RUN_ID, ScriptedSteps, WAIT, wellBehaved } from '../../helpers/groups/scripted-leader.js';
import { refused } from '../../helpers/refused.js';

const FACTS = { kind: 'crash', sessionIds: ['cd'.repeat(16)] } as const;
/** Of a try that is not this one. */
const OTHER = '2001-01-01T00:00:00.000Z';
const nobody = () => new AbortController().signal;
const moved = new StillpointError('device-changed', { thing: '/a', reason: 'it moved', permanent: false });

function begin(steps: ScriptedSteps, more = {}): RemoteLeader {
  return new RemoteLeader({ steps, runId: RUN_ID, name: 'all', everyMs: 100, patienceMs: 10_000, ...more });
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const endMs = Date.now() + 10_000; !holds(); await sleep(5))
    if (Date.now() > endMs) throw new Error(`never: ${what}`);
}

/** The members here do all that they are told. @returns the instant */
async function pass(leader: RemoteLeader): Promise<Date> {
  const led = await leader.ready(nobody());
  await led.rested();
  const instant = await led.closed();
  led.cut([{ device: 'a', stallMs: 3 }]);
  return instant;
}

test('from the preparation to the commit; each state is told again while it lasts', async (t) => {
  const steps = new ScriptedSteps();
  const leader = begin(steps);
  await until('it counts as alive', () => steps.reports.length >= 3);
  t.deepEqual(steps.steps, ['preparing']);
  t.is((await pass(leader)).toISOString(), INSTANT);
  t.true(leader.hasCut);
  await until('it counts as alive', () => steps.states.filter((state) => state === 'cut').length >= 3);
  const commit = await leader.transferred(FACTS);
  t.deepEqual(commit.group.sessionIds, FACTS.sessionIds);
  await leader.close(null);
  t.deepEqual(steps.steps, ['preparing', 'ready', 'rested', 'closed', 'cut', 'transferred']);
  t.is(leader.end, null);
  t.false(leader.signal.aborted, 'the commits go on');
});

test('commands of other tries, and that nobody waits for, have no effect', async (t) => {
  const good = wellBehaved();
  const steps = new ScriptedSteps((report, count) => {
    if (count === 1 && report.state === 'preparing') return { do: 'cut', try: 1, instant: OTHER };
    if (count === 1 && report.state === 'ready') return { do: 'cut', try: 1, instant: OTHER };
    if (count === 2 && report.state === 'ready') return { do: 'rest', try: 0, restMs: 1, closedMs: 1 };
    if (count === 3 && report.state === 'ready') return { do: 'close', try: 1 };
    if (count === 1 && report.state === 'rested') return { do: 'cut', try: 1, instant: OTHER };
    if (count === 2 && report.state === 'rested') return { do: 'close', try: 7 };
    if (count === 3 && report.state === 'rested') return { do: 'rest', try: 2, restMs: 1, closedMs: 1 };
    if (count === 4 && report.state === 'rested') return { do: 'open', try: 0 };
    if (count === 1 && report.state === 'closed') return { do: 'cut', try: 7, instant: OTHER };
    if (count === 2 && report.state === 'closed') return { do: 'close', try: 1 };
    if (count === 3 && report.state === 'closed') return { do: 'open', try: 0 };
    if (count === 4 && report.state === 'closed') return { do: 'cut', try: 0, instant: OTHER };
    if (report.state === 'cut') return { do: 'cut', try: 1, instant: OTHER };
    return good(report, count);
  });
  const leader = begin(steps);
  const led = await leader.ready(nobody());
  t.is(led.closedMs, 2_000);
  await led.rested();
  t.is((await led.closed()).toISOString(), INSTANT);
  led.cut([]);
  await leader.transferred(FACTS);
  await leader.close(null);
});

test('`open` ends a try, before it is at rest and after it is closed, without a report; the next one has the next number', async (t) => {
  const good = wellBehaved();
  const steps = new ScriptedSteps((report, count) => {
    if (report.state === 'closed' && count === 1) return { do: 'open', try: 1 };
    if (report.state === 'ready' && report.try === 2 && count >= 3) return { do: 'open', try: 2 };
    return good(report, count);
  });
  const leader = begin(steps);
  const first = await leader.ready(nobody());
  await first.rested();
  const over = await t.throwsAsync(first.closed());
  t.regex(over?.message ?? '', /^group all: the receiver has ended this try/);
  first.missed(over, true);
  const second = await leader.ready(nobody());
  // Hooks take their time: it hears of the end meanwhile.
  await until('it is told again', () => steps.states.filter((state) => state === 'ready').length >= 3);
  await sleep(50);
  await t.throwsAsync(second.rested(), { message: /the receiver has ended this try/ });
  second.missed(moved, true);
  t.is((await pass(leader)).toISOString(), INSTANT);
  t.false(steps.states.includes('missed'));
  t.deepEqual(
    steps.reports.flatMap((report) => (report.state === 'closed' ? [report.try] : [])),
    [1, 3],
  );
  await leader.close(moved);
});

test('what was missed is told before it is ready again, also over a link that comes and goes', async (t) => {
  const steps = new ScriptedSteps();
  let broken = 0;
  steps.breaks = (report, count) => {
    if (report.state !== 'missed' || Math.abs(count) > 2) return false;
    broken += 1;
    return true;
  };
  const leader = begin(steps);
  const led = await leader.ready(nobody());
  led.missed(moved, true);
  await pass(leader);
  await until('it is told', () => steps.states.includes('cut'));
  t.true(broken >= 2);
  t.deepEqual(
    steps.steps.filter((state) => state !== 'preparing'),
    ['ready', 'missed', 'ready', 'rested', 'closed', 'cut'],
  );
  t.like(
    steps.reports.find(({ state }) => state === 'missed'),
    { try: 1, again: true, error: { code: 'device-changed' } },
  );
  await leader.close(moved);
});

test('never told: it waits, and counts as alive', async (t) => {
  const steps = new ScriptedSteps(() => null);
  const leader = begin(steps);
  let isTold = false;
  const waiting = leader.ready(nobody()).finally(() => {
    isTold = true;
  });
  await until('it was told again', () => steps.states.filter((state) => state === 'ready').length >= 3);
  t.false(isTold);
  await leader.close(null);
  waiting.catch(() => undefined);
});

test('a member that is not ready any more withdraws; a command that was on its way has no effect', async (t) => {
  const steps = new ScriptedSteps(async (report) => {
    if (report.state !== 'ready') return null;
    await sleep(50);
    return { do: 'rest', try: report.try, restMs: 100, closedMs: 100 };
  });
  const leader = begin(steps);
  const over = new AbortController();
  const waiting = leader.ready(over.signal);
  await until('ready', () => steps.states.includes('ready'));
  over.abort();
  await t.throwsAsync(waiting, { message: /not ready any more/ });
  await sleep(80);
  t.is(steps.states.at(-1), 'preparing');
  await leader.close(moved);
  t.like(steps.reports.at(-1), { state: 'failed', error: { reason: 'it moved' } });
});

for (const state of ['preparing', 'ready', 'rested', 'closed', 'cut', 'transferred'] as const) {
  test(`abandon while it is ${state}: it ends, and says why; the receiver is not told again`, async (t) => {
    const good = wellBehaved();
    const steps = new ScriptedSteps((report, count) =>
      report.state === state ? { do: 'abandon', reason: 'host b failed' } : good(report, count),
    );
    const leader = begin(steps);
    const work = async () => {
      await sleep(state === 'preparing' ? 50 : 0);
      await pass(leader);
      await sleep(state === 'cut' ? 50 : 0);
      await leader.transferred(FACTS);
    };
    await refused(t, work(), 'group-failed', /^group all: the receiver gave it up: host b failed/);
    t.true(leader.signal.aborted);
    await leader.close(leader.end);
    t.false(steps.states.includes('failed'));
  });

  test(`a link that breaks while it is ${state}`, async (t) => {
    for (const isAnswerLost of [false, true]) {
      const steps = new ScriptedSteps();
      steps.breaks = (report, count) => report.state === state && count === (isAnswerLost ? -1 : 1);
      const leader = begin(steps);
      await sleep(20);
      const led = await leader.ready(nobody());
      await led.rested();
      if (state === 'closed') {
        const error = await t.throwsAsync(led.closed());
        t.regex(error?.message ?? '', /the link to the receiver broke while all were closed/);
        await sleep(50);
        t.is(steps.states.filter((told) => told === 'closed').length, 1, 'nothing is told that may be wrong');
        led.missed(error, true);
        await until('it is told', () => steps.states.includes('missed'));
        await pass(leader);
      } else {
        await led.closed();
        led.cut([]);
      }
      await leader.transferred(FACTS);
      await leader.close(null);
      t.is(leader.end, null, state);
    }
  });
}

test('a receiver that does not answer for long, or knows nothing of the run, has given it up', async (t) => {
  const silent = new ScriptedSteps();
  silent.breaks = () => true;
  const lost = begin(silent, { patienceMs: 300 });
  await refused(t, lost.ready(nobody()), 'connection-lost', /the connection was lost/);
  t.true(lost.signal.aborted);
  await lost.close(lost.end);
  const gone = new ScriptedSteps(() => {
    throw new StillpointError('session-unknown', { thing: 'run', reason: 'there is none' });
  });
  const unknown = begin(gone);
  await refused(t, unknown.ready(nobody()), 'session-unknown', /there is none/);
  t.true(gone.reports.length <= 2);
  await unknown.close(unknown.end);
});

test('what failed here is told, if the link allows it; a receiver that answers at once is not asked without a pause', async (t) => {
  const steps = new ScriptedSteps(() => WAIT);
  const leader = begin(steps, { everyMs: 20_000 });
  void leader.ready(nobody()).catch(() => undefined);
  await sleep(500);
  t.true(steps.reports.length <= 6, `${steps.reports.length} questions`);
  await leader.close(moved);
  t.is(steps.states.at(-1), 'failed');
});
