import test from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { type LivePending, LivePlan } from '../../../src/domain/live/plan.js';

const OPTIONS = { stagingMaxBytes: 256 * MiB, cutMaxBytes: 256 * MiB, freezeBudgetMs: 500 };

const pending = (readBytes: number, more: Partial<LivePending> = {}): LivePending => ({
  ...{ shipBytes: readBytes, stageBytes: readBytes, readBytes, stagedBytes: 0 },
  ...more,
});

test('the first look is never followed by the cut: nothing was flushed before it', (t) => {
  const plan = new LivePlan(OPTIONS);
  t.is(plan.next(pending(0)), 'stage');
  t.is(plan.next(pending(0)), 'cut');
  t.is(plan.passes, 1);
});

test('what fits into memory is staged, what does not is shipped', (t) => {
  const plan = new LivePlan(OPTIONS);
  t.is(plan.next(pending(1000 * MiB)), 'ship');
  t.is(plan.next(pending(200 * MiB, { stagedBytes: 100 * MiB })), 'ship');
  t.is(plan.next(pending(140 * MiB)), 'stage');
  t.is(plan.next(pending(90 * MiB, { stagedBytes: 166 * MiB })), 'stage');
  // Staged again, it takes no more memory.
  t.is(plan.next(pending(70 * MiB, { stageBytes: 0, stagedBytes: 256 * MiB })), 'stage');
});

test('the cut comes when what is left can be read in its share of the freeze', (t) => {
  const plan = new LivePlan(OPTIONS);
  t.is(plan.next(pending(10 * MiB)), 'stage');
  plan.measured(10 * MiB, 1000);
  t.is(plan.next(pending(3 * MiB)), 'stage');
  plan.measured(3 * MiB, 300);
  t.is(plan.cutMs(pending(3 * MiB)), 300);
  // A shorter freeze can be had.
  t.is(plan.next(pending(1.9 * MiB)), 'stage');
  t.is(plan.next(pending(1.8 * MiB)), 'cut');
});

test('so short a freeze is not worth another pass', (t) => {
  const plan = new LivePlan(OPTIONS);
  plan.next(pending(100 * MiB));
  plan.measured(100 * MiB, 1000);
  t.is(plan.next(pending(2.1 * MiB)), 'stage');
  t.is(plan.next(pending(1.9 * MiB)), 'cut');
});

test('however quickly it could be read, the cut is bounded', (t) => {
  const plan = new LivePlan({ ...OPTIONS, freezeBudgetMs: 600_000 });
  plan.next(pending(MiB));
  t.is(plan.next(pending(33 * MiB)), 'stage');
  t.is(plan.next(pending(32 * MiB)), 'cut');
});

test('a slow disk is known as one from little that was read of it, a quick one is not', (t) => {
  const plan = new LivePlan(OPTIONS);
  const supposed = plan.readBytesPerMs;
  plan.measured(64 * KiB, 1);
  plan.measured(0, 500);
  t.is(plan.readBytesPerMs, supposed);
  plan.measured(64 * KiB, 64);
  t.is(plan.readBytesPerMs, KiB);
  t.is(plan.next(pending(MiB)), 'stage');
  t.is(plan.next(pending(300 * KiB)), 'stage');
  t.is(plan.next(pending(200 * KiB)), 'stage');
  t.is(plan.next(pending(190 * KiB)), 'cut');
});

test('passes that bring nothing are given up, those that bring something are not', (t) => {
  const plan = new LivePlan(OPTIONS);
  plan.next(pending(100 * MiB));
  plan.measured(100 * MiB, 100_000);
  for (let bytes = 100 * MiB; bytes > MiB; bytes *= 0.85) t.is(plan.next(pending(bytes)), 'stage');
  const stuck = new LivePlan(OPTIONS);
  stuck.next(pending(100 * MiB));
  stuck.measured(100 * MiB, 100_000);
  const steps = Array.from({ length: 11 }, () => stuck.next(pending(100 * MiB)));
  t.deepEqual(steps, [...Array(9).fill('stage'), 'give-up', 'give-up']);
  stuck.again();
  t.is(stuck.next(pending(100 * MiB)), 'stage');
});

test('where a flush takes so long that passes bring nothing, they go on without one', (t) => {
  const plan = new LivePlan(OPTIONS);
  plan.next(pending(300 * MiB));
  for (let pass = 0; pass < 4; pass += 1) {
    t.is(plan.next(pending(100 * MiB)), 'stage');
    t.true(plan.flushesFirst);
  }
  t.is(plan.next(pending(100 * MiB)), 'stage');
  t.false(plan.flushesFirst);
  t.is(plan.next(pending(10 * MiB)), 'stage');
  t.is(plan.next(pending(10 * MiB)), 'cut');
  plan.again();
  t.true(plan.flushesFirst, 'the pages that it did not write out may be what was too much');
});

test('what crosses the wire again is bounded: so many passes are shipped, no more', (t) => {
  const plan = new LivePlan(OPTIONS);
  let bytes = 1e13;
  let ships = 0;
  for (let step = plan.next(pending(bytes)); step === 'ship'; step = plan.next(pending(bytes))) {
    ships += 1;
    bytes *= 0.5;
  }
  t.is(ships, 8);
  t.is(plan.next(pending(bytes)), 'give-up');
});
