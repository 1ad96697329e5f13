/** What a device's daemon does under clocks that are set, downtimes, failures and pauses. */
import test from 'ava';
import fc from 'fast-check';
import {
  afterClock,
  began,
  decide,
  deferred,
  delayOf,
  failed,
  failedOnDemand,
  isPaused,
  newRecord,
  nextDue,
  type RunFacts,
  type RunRecord,
  type RunSettings,
  SET_BACK_MS,
  succeeded,
} from '../../../src/domain/order/run-plan.js';
import { parseSchedule } from '../../../src/domain/order/schedule.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 4, 1);
const DAILY: RunSettings = {
  ...{ schedule: parseSchedule('02:00 UTC'), delayMs: 0, retriesMax: 3, fullEveryMs: null },
};
const facts = (nowMs: number, changes: Partial<RunFacts> = {}): RunFacts => ({
  ...{ nowMs, isRunning: false, isThere: true, pause: null },
  ...changes,
});

test('the states, one after the other', (t) => {
  let record = newRecord(START);
  t.deepEqual(decide(record, DAILY, facts(START)), { kind: 'wait', why: 'due', untilMs: START + 2 * HOUR });
  const due = START + 2 * HOUR;
  t.deepEqual(decide(record, DAILY, facts(due)), { kind: 'run', why: 'due', full: false });
  t.like(decide(record, DAILY, facts(due, { isRunning: true })), { why: 'running' });
  t.like(decide(record, DAILY, facts(due, { isThere: false })), {
    kind: 'wait',
    why: 'absent',
    untilMs: null,
  });
  t.like(decide(record, DAILY, facts(due + DAY)), { kind: 'run' }, 'missed runs are one');
  record = began(record, DAILY, 'due', due);
  t.like(decide(record, DAILY, facts(due)), { kind: 'wait', untilMs: due + DAY });
  // Retries are bounded and their pauses grow; a success forgets them.
  const pauses: number[] = [];
  let nowMs = due;
  for (;;) {
    record = failed(record, DAILY, nowMs, () => 0.5);
    if (record.retryAtMs === null) break;
    pauses.push((record.retryAtMs - nowMs) / MINUTE);
    t.like(decide(record, DAILY, facts(nowMs)), { kind: 'wait', why: 'retry', untilMs: record.retryAtMs });
    nowMs = record.retryAtMs;
    t.like(decide(record, DAILY, facts(nowMs)), { kind: 'run', why: 'retry' });
    record = began(record, DAILY, 'retry', nowMs);
  }
  t.deepEqual(pauses, [5, 10, 20]);
  t.is(record.failures, 4);
  t.like(decide(record, DAILY, facts(nowMs)), { kind: 'wait', why: 'due', untilMs: due + DAY });
  record = began(record, DAILY, 'due', due + DAY);
  t.like(
    failed(record, DAILY, due + DAY, () => 0.5),
    { failures: 5, retries: 1 },
  );
  record = succeeded(record, false, due + DAY);
  t.like(record, { failures: 0, retries: 0, retryAtMs: null });
  t.like(deferred(record, nowMs), { failures: 0, retries: 0, retryAtMs: nowMs + MINUTE });
  // A run that was asked for, and failed, takes neither a due time nor a retry away.
  const waiting = failed(newRecord(START), DAILY, START, () => 0.5);
  t.deepEqual(failedOnDemand(waiting), { ...waiting, failures: 2 });
  const onDemand = { ...DAILY, schedule: null };
  t.like(decide(newRecord(START), onDemand, facts(START + 99 * DAY)), { why: 'on-demand', untilMs: null });
  t.like(decide(waiting, onDemand, facts(START + 99 * DAY)), { why: 'on-demand' }, 'nor is it tried again');
});

test('a pause ends with its time, and then what was missed is made up for once', (t) => {
  const pause = { fromMs: START, untilMs: START + 3 * DAY };
  const record = { ...newRecord(START), pause };
  t.deepEqual(decide(record, DAILY, facts(START + DAY)), {
    ...{ kind: 'wait', why: 'paused', untilMs: pause.untilMs },
  });
  t.like(decide(record, DAILY, facts(pause.untilMs)), { kind: 'run' });
  t.like(decide(newRecord(START), DAILY, facts(START + DAY, { pause })), { why: 'paused' });
  t.true(isPaused({ fromMs: START, untilMs: null }, START + 1000 * DAY));
  t.false(isPaused(pause, START - 2 * HOUR), 'the clock was set back past its beginning');
  t.true(isPaused(pause, START - HOUR / 2));
});

test('everything is read when that was long ago', (t) => {
  const settings = { ...DAILY, fullEveryMs: 30 * DAY };
  const fullOf = (fullAtMs: number | null) =>
    decide({ ...newRecord(START), fullAtMs }, settings, facts(START + DAY));
  t.like(fullOf(null), { full: true });
  t.like(fullOf(START), { full: false });
  t.like(fullOf(START - 29 * DAY), { full: true });
  t.like(fullOf(START + 2 * DAY), { full: true }, 'it seems to lie in the future');
});

test('delays are the same for a device, differ between devices, and leave each due time its turn', (t) => {
  const delays = Array.from({ length: 200 }, (_, n) => delayOf(`host${n}/data`, HOUR));
  t.deepEqual([delayOf('host7/data', HOUR)], delays.slice(7, 8));
  t.true(delays.every((delay) => delay >= 0 && delay < HOUR));
  for (const part of [0, 1, 2, 3]) {
    const inPart = delays.filter((delay) => Math.floor((4 * delay) / HOUR) === part).length;
    t.true(inPart > 25 && inPart < 80, `${inPart} of 200`);
  }
  const often = { ...DAILY, schedule: parseSchedule('*:0/10 UTC'), delayMs: HOUR };
  t.is(nextDue(often, START), START + 15 * MINUTE, 'half of what lies between');
});

test('an interval keeps its grid: neither a delay nor late beginnings add to it; a long absence moves it', (t) => {
  const everyMs = 6 * HOUR;
  const delays = fc.integer({ min: 0, max: 12 * HOUR });
  const lates = fc.array(fc.integer({ min: 0, max: everyMs / 2 }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(delays, lates, (delayMs, late) => {
      const settings = { ...DAILY, schedule: parseSchedule('every 6h'), delayMs };
      let record = newRecord(START);
      const firstMs = nextDue(settings, START) ?? 0;
      for (const [at, lateMs] of late.entries()) {
        const dueMs = nextDue(settings, record.anchorMs);
        t.is(dueMs, firstMs + at * everyMs);
        record = began(record, settings, 'due', (dueMs ?? 0) + lateMs);
      }
      const backMs = START + 100 * DAY + 4 * HOUR;
      record = began(record, settings, 'due', backMs);
      const gapMs = (nextDue(settings, record.anchorMs) ?? 0) - backMs;
      t.true(gapMs >= everyMs / 2 && gapMs <= everyMs, `${gapMs / HOUR} h`);
    }),
    { numRuns: 100 },
  );
});

/** A daemon that looks at its clock every few minutes; the clock may be set. */
function simulate(settings: RunSettings, steps: readonly { passMs: number; setMs: number }[]) {
  let record: RunRecord = newRecord(START);
  let [realMs, clockMs] = [START, START];
  const runs: { realMs: number; clockMs: number }[] = [];
  for (const { passMs, setMs } of steps) {
    realMs += passMs;
    clockMs += passMs + setMs;
    record = afterClock(record, settings, clockMs);
    const decision = decide(record, settings, facts(clockMs));
    if (decision.kind !== 'run') continue;
    runs.push({ realMs, clockMs });
    record = succeeded(began(record, settings, decision.why, clockMs), false, clockMs);
  }
  return runs;
}

test('however the clock is set, no day is without a run', (t) => {
  const step = fc.record({
    passMs: fc.constant(10 * MINUTE),
    setMs: fc.oneof(
      { weight: 200, arbitrary: fc.constant(0) },
      { weight: 1, arbitrary: fc.integer({ min: -400 * DAY, max: 400 * DAY }) },
      { weight: 1, arbitrary: fc.integer({ min: -2 * HOUR, max: 2 * HOUR }) },
    ),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 800, maxLength: 1200 }), (steps) => {
      const runs = simulate(DAILY, steps);
      let quietMs = 0;
      let last = START;
      let sets = 0;
      let realMs = START;
      for (const { passMs, setMs } of steps) {
        realMs += passMs;
        if (setMs !== 0) sets += 1;
        if (runs.some((run) => run.realMs === realMs)) [last, sets] = [realMs, 0];
        quietMs = realMs - last;
        // Each time the clock is set it may shift the day once.
        t.true(quietMs <= (DAY + SET_BACK_MS) * (1 + sets) + 20 * MINUTE, `${quietMs / HOUR} h, ${sets}`);
      }
    }),
    { numRuns: 60 },
  );
});

test('a clock that is set by little repeats no run; one set far ahead and back costs one more', (t) => {
  const steps = (count: number, sets: Readonly<Record<number, number>>) =>
    Array.from({ length: count }, (_, n) => ({ passMs: 10 * MINUTE, setMs: sets[n] ?? 0 }));
  const days = 10;
  const count = days * 144;
  t.is(simulate(DAILY, steps(count, {})).length, days);
  t.is(simulate(DAILY, steps(count, { 15: -50 * MINUTE })).length, days, 'just after the run');
  t.is(simulate(DAILY, steps(count, { 15: -50 * MINUTE, 16: 50 * MINUTE, 17: -50 * MINUTE })).length, days);
  t.is(simulate(DAILY, steps(count, { 40: 300 * DAY, 41: -300 * DAY })).length, days + 1);
  t.is(simulate(DAILY, steps(count, { 40: 300 * DAY })).length, days + 1);
  t.true(simulate(DAILY, steps(count, { 40: -300 * DAY })).length >= days - 1);
});
