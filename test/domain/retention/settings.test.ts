import test from 'ava';
import {
  type ClockReading,
  confirmClock,
  judgeClock,
  rememberClock,
  restartMsMax,
} from '../../../src/domain/retention/clock.js';
import { type LockWish, lockAt, nextLowering, wishForLock } from '../../../src/domain/retention/lock.js';
import {
  checkPolicy,
  countsPointsOnly,
  describePolicy,
  formatLongPeriod,
  parseLongPeriod,
  policyFor,
} from '../../../src/domain/retention/policy.js';
import { copyForName, leaveName } from '../../../src/domain/retention/rename.js';
import {
  addPin,
  applyManaged,
  journalKeepMs,
  NO_SETTINGS,
  type Pin,
  pinOf,
  removePin,
  setJournalKeep,
  setMinAge,
  setPolicy,
  setTimeZone,
} from '../../../src/domain/retention/settings.js';
import { seededRandom } from '../../helpers/seed.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

test('periods are read as they are written', (t) => {
  const examples: readonly (readonly [string, number])[] = [
    ['36h', 36 * HOUR_MS],
    ['30d', 30 * DAY_MS],
    ['1w', 7 * DAY_MS],
    [' 2Y ', 730 * DAY_MS],
    ['0d', 0],
  ];
  for (const [text, periodMs] of examples) t.is(parseLongPeriod('period', text), periodMs);
  for (const text of ['', '3', 'd', '-1d', '1.5d', '3m', '1d1h', '101y', '9999999h'])
    t.throws(() => parseLongPeriod('period', text), { message: /period/ }, text);
  const written = [0, HOUR_MS, 36 * HOUR_MS, 48 * HOUR_MS, 14 * DAY_MS, 98 * DAY_MS, 730 * DAY_MS];
  t.deepEqual(written.map(formatLongPeriod), ['0d', '1h', '36h', '2d', '14d', '14w', '2y']);
  for (const periodMs of written) t.is(parseLongPeriod('period', formatLongPeriod(periodMs)), periodMs);
});

test('a policy has rules that keep something; the nearest one counts alone', (t) => {
  for (const policy of [
    {},
    { keepLast: 0 },
    { keepDaily: 1.5 },
    { keepDaily: -1 },
    { keepWithinMs: 0 },
    { keepAll: true as const, keepLast: 1 },
    { keepLast: 1_000_000 },
  ])
    t.throws(() => checkPolicy('policy', policy), { message: /^policy: / }, JSON.stringify(policy));
  t.is(
    describePolicy({ keepWithinMs: 2 * DAY_MS, keepDaily: 7, keepLast: 3 }),
    'keep-last 3, keep-daily 7, keep-within 2d',
  );
  t.true(countsPointsOnly({ keepLast: 9 }));
  for (const policy of [
    { keepLast: 9, keepHourly: 1 },
    { keepLast: 9, keepWithinMs: 1 },
    { keepAll: true as const },
  ])
    t.false(countsPointsOnly(policy));
  const none = { agent: null, device: null };
  let settings = setPolicy(NO_SETTINGS, none, { keepLast: 1 });
  settings = setPolicy(settings, { agent: 'web1', device: null }, { keepLast: 2 });
  settings = setPolicy(settings, { agent: 'web1', device: 'data' }, { keepAll: true });
  const lastOf = (agent: string, device: string) => policyFor(settings.policies, { agent, device })?.policy;
  t.deepEqual(lastOf('web1', 'data'), { keepAll: true });
  t.deepEqual(lastOf('web1', 'root'), { keepLast: 2 });
  t.deepEqual(lastOf('db1', 'data'), { keepLast: 1 });
  settings = setPolicy(settings, none, null);
  t.is(policyFor(settings.policies, { agent: 'db1', device: 'data' }), null);
  settings = setPolicy(settings, { agent: 'web1', device: null }, { keepLast: 5 });
  t.deepEqual(lastOf('web1', 'root'), { keepLast: 5 });
  t.throws(() => setPolicy(settings, none, {}), { message: /policy of all others: it has no rule/ });
  t.throws(() => setTimeZone(settings, 'Nowhere/City'), { message: /not known/ });
});

test('the time of journals is that of the nearest scope, goes with a name, and is replaced by a file', (t) => {
  const all = { agent: null, device: null };
  let settings = setJournalKeep(NO_SETTINGS, { agent: 'web1', device: null }, 2 * DAY_MS);
  settings = setJournalKeep(settings, { agent: 'web1', device: 'data' }, 3 * DAY_MS);
  const keepOf = (agent: string, device: string) => journalKeepMs(settings, { agent, device }) / DAY_MS;
  const keeps = () => [keepOf('web1', 'data'), keepOf('web1', 'root'), keepOf('db1', 'data')];
  t.deepEqual(keeps(), [3, 2, 1]);
  settings = setJournalKeep(settings, all, 4 * DAY_MS);
  t.deepEqual(keeps(), [3, 2, 4]);
  settings = setJournalKeep(settings, { agent: 'web1', device: 'data' }, null);
  t.deepEqual(keeps(), [2, 2, 4]);
  t.is(setJournalKeep(NO_SETTINGS, all, null), NO_SETTINGS);
  for (const keepMs of [0, -1, Number.NaN, 11 * 365 * DAY_MS])
    t.throws(() => setJournalKeep(settings, all, keepMs), { message: /^journals of all others: / });
  settings = copyForName(settings, 'web1', 'db1');
  t.deepEqual(keeps(), [2, 2, 2]);
  settings = leaveName(settings, 'web1', 'db1');
  t.deepEqual(keeps(), [4, 4, 2]);
  const managed = { policies: [], journalKeep: [{ agent: 'db1', device: null, keepMs: 5 * DAY_MS }] };
  settings = applyManaged(settings, managed, 'receiver.toml', 0);
  t.deepEqual(keeps(), [1, 1, 5]);
  settings = applyManaged(settings, { policies: [] }, 'receiver.toml', 0);
  t.deepEqual(keeps(), [1, 1, 1]);
});

test('raising the minimum age counts at once, lowering it after the old period', (t) => {
  let wishes = wishForLock([], 30 * DAY_MS, 0);
  t.is(lockAt(wishes, 0), 30 * DAY_MS);
  wishes = wishForLock(wishes, 7 * DAY_MS, 10 * DAY_MS);
  const days = (list: readonly LockWish[], day: number) => lockAt(list, day * DAY_MS) / DAY_MS;
  t.deepEqual(
    [10, 39.9, 40, 90].map((day) => days(wishes, day)),
    [30, 30, 7, 7],
  );
  t.deepEqual(nextLowering(wishes, 20 * DAY_MS), wishes.at(-1) ?? null);
  t.is(nextLowering(wishes, 40 * DAY_MS), null);
  // Lowered further before that: that takes the period in force again.
  const lower = wishForLock(wishes, DAY_MS, 20 * DAY_MS);
  t.deepEqual(
    [39, 40, 49.9, 50].map((day) => days(lower, day)),
    [30, 7, 7, 1],
  );
  // Raised again before it was lower: it never was.
  const raised = wishForLock(wishes, 60 * DAY_MS, 20 * DAY_MS);
  t.deepEqual(
    [20, 40, 90].map((day) => days(raised, day)),
    [60, 60, 60],
  );
  // A smaller lowering instead of a larger one.
  const less = wishForLock(wishForLock(wishes, DAY_MS, 11 * DAY_MS), 20 * DAY_MS, 12 * DAY_MS);
  t.deepEqual(
    [12, 40, 41, 42].map((day) => days(less, day)),
    [30, 20, 20, 20],
  );
  // Given up and lowered again at once: the clock begins anew.
  const off = wishForLock(wishes, 0, 20 * DAY_MS);
  t.deepEqual(
    [39, 40, 50].map((day) => days(off, day)),
    [30, 7, 0],
  );
  t.deepEqual(wishForLock(wishes, 7 * DAY_MS, 15 * DAY_MS), wishes, 'the same wish is no new one');
  let many = wishForLock([], 3650 * DAY_MS, 0);
  for (let n = 1; n < 64; n += 1) many = wishForLock(many, n * DAY_MS, n);
  t.throws(() => wishForLock(many, 70 * DAY_MS, 99), { message: /changed 64 times/ });
});

test('random wishes: what a lock has promised, it keeps', (t) => {
  const random = seededRandom(t);
  for (let round = 0; round < 500; round += 1) {
    let wishes: LockWish[] = [];
    const asked: (readonly [number, number])[] = [];
    let day = 0;
    for (let n = 0; n < 8; n += 1) {
      const minAge = random.below(20);
      wishes = wishForLock(wishes, minAge * DAY_MS, day * DAY_MS);
      asked.push([day, minAge]);
      t.true(lockAt(wishes, day * DAY_MS) >= minAge * DAY_MS, 'raising counts at once');
      // Whatever is wished now, the period that is in force is over before the lock is less than it would be.
      const present = lockAt(wishes, day * DAY_MS);
      const untilMs = day * DAY_MS + present - 1;
      const lowered = wishForLock(wishes, random.below(20) * DAY_MS, day * DAY_MS);
      t.true(lockAt(lowered, untilMs) >= Math.min(present, lockAt(wishes, untilMs)));
      t.true(
        present <= Math.max(...asked.map(([, age]) => age)) * DAY_MS,
        'nor is it more than was asked for',
      );
      day += 1 + random.below(15);
    }
    t.is(
      lockAt(wishes, (day + 100) * DAY_MS) / DAY_MS,
      asked.at(-1)?.[1] ?? -1,
      'in the end the last wish counts',
    );
  }
});

test('a clock is believed as far as the machine says that it ran', (t) => {
  const start: ClockReading = { wallMs: 1000 * DAY_MS, upMs: DAY_MS, bootId: 'a' };
  const later = (days: number, upDays: number, bootId = 'a'): ClockReading => ({
    ...{ wallMs: start.wallMs + days * DAY_MS, upMs: start.upMs + upDays * DAY_MS, bootId },
  });
  const record = rememberClock(null, start);
  t.deepEqual(judgeClock(null, start, 0), { isBelieved: true, nowMs: start.wallMs });
  const judged = (now: ClockReading, lockMs = 0, known = record) => judgeClock(known, now, lockMs).isBelieved;
  t.true(judged(later(100, 100)));
  t.true(judged(later(1.04, 1)));
  t.false(judged(later(1.05, 1)), 'it gained more than an hour');
  t.true(judged(later(1000.9, 1000)), 'a clock that drifts by a minute a day');
  t.false(judged(later(1001.1, 1000)), 'more than a thousandth, and an hour');
  t.true(judged(later(99, 100)), 'set back to what it should be');
  t.true(judged(later(-0.005, 0)));
  t.false(judged(later(-0.01, 0)), 'before what was believed');
  t.deepEqual(judgeClock(record, later(-1, 1), 0).nowMs, start.wallMs);
  // A restart may take a while; with a lock, a part of that.
  t.true(judged(later(34, -0.5, 'b')));
  t.false(judged(later(36, -0.5, 'b')));
  t.is(restartMsMax(28 * DAY_MS), 7 * DAY_MS);
  t.true(judged(later(7, -0.5, 'b'), 28 * DAY_MS));
  t.false(judged(later(7.1, -0.5, 'b'), 28 * DAY_MS));
  t.is(restartMsMax(DAY_MS), DAY_MS);
  t.false(judged({ wallMs: Number.NaN, upMs: 0, bootId: 'b' }));
  // Looking often gains nothing: the hour is one for all looks since the machine was started.
  let seen = record;
  for (let n = 1; n <= 40; n += 1) {
    const now = later(n * 0.04, n * 0.01);
    if (judgeClock(seen, now, 0).isBelieved) seen = rememberClock(seen, now);
  }
  t.true(seen.latestMs - start.wallMs <= 0.4 * DAY_MS + HOUR_MS);
  t.true(judged(later(100, 100), 0, seen), 'and the right time is believed again');
  t.true(judged(later(500, 1), 0, confirmClock(later(500, 0))), 'confirmed');
  t.is(rememberClock(record, later(-0.004, 1)).latestMs, start.wallMs, 'what was believed stays the least');
});

test('a pin keeps until its end, and what a configuration file says replaces what commands said', (t) => {
  const pin: Pin = {
    ...{ pointId: 'p', agent: 'web1', device: 'data', sequence: 3, reason: ' before the move ' },
    ...{ pinnedAtMs: 100, untilMs: 200 },
  };
  const pinned = addPin(NO_SETTINGS, pin);
  t.is(pinOf(pinned, 'p', 199)?.reason, 'before the move');
  t.is(pinOf(pinned, 'p', 200), null);
  t.is(pinOf(pinned, 'q', 150), null);
  const longer = addPin(pinned, { ...pin, reason: 'for ever', untilMs: null });
  t.is(longer.pins.length, 1);
  t.is(pinOf(longer, 'p', 1e15)?.reason, 'for ever');
  t.is(pinOf(removePin(longer, 'p'), 'p', 150), null);
  for (const wrong of [{ reason: '  ' }, { reason: 'x'.repeat(501) }, { untilMs: 100 }])
    t.throws(() => addPin(NO_SETTINGS, { ...pin, ...wrong }), { message: /^pin of data@3: / });

  const byHand = setMinAge(setPolicy(longer, { agent: 'old', device: null }, { keepLast: 1 }), 9 * DAY_MS, 0);
  const policies = [{ agent: null, device: null, policy: { keepDaily: 7 } }];
  const managed = applyManaged(
    byHand,
    { policies, timeZone: 'Asia/Tokyo' },
    '/etc/stillpoint/receiver.toml',
    DAY_MS,
  );
  t.like(managed, { policies, timeZone: 'Asia/Tokyo', managedBy: '/etc/stillpoint/receiver.toml' });
  t.is(managed.pins.length, 1);
  t.is(
    lockAt(managed.lock, 2 * DAY_MS),
    9 * DAY_MS,
    'a file lowers the minimum age no faster than a command',
  );
  t.is(lockAt(managed.lock, 10 * DAY_MS), 0);
  t.throws(() => applyManaged(byHand, { policies: [{ agent: 'a', device: null, policy: {} }] }, 'f', 0), {
    message: /policy of agent a/,
  });
});
