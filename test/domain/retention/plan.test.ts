/**
 * Which points stay: examples that people reckon with, and random histories against a model without
 * cleverness.
 */
import test from 'ava';
import type { Point } from '../../../src/domain/point/point.js';
import { zoneCalendar } from '../../../src/domain/retention/calendar.js';
import { commitTimes } from '../../../src/domain/retention/commit-times.js';
import { type PlanFacts, planRetention } from '../../../src/domain/retention/plan.js';
import type { RetentionPolicy } from '../../../src/domain/retention/policy.js';
import { makePoint } from '../../helpers/bytes/points.js';
import { seededRandom } from '../../helpers/seed.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOW_MS = Date.parse('2026-06-15T12:00:00.000Z');

const FACTS: PlanFacts = {
  policy: null,
  calendar: zoneCalendar('UTC'),
  nowMs: NOW_MS,
  clockDoubt: null,
  lockMs: 0,
  pinOf: () => null,
  useOf: () => null,
  isDamaged: () => false,
};

const at = (
  times: readonly (string | number)[],
  overrides: (i: number) => Partial<Point> = () => ({}),
): Point[] =>
  times.map((time, i) =>
    makePoint({
      sequence: i + 1,
      committedAt: typeof time === 'string' ? time : new Date(time).toISOString(),
      ...overrides(i),
    }),
  );
const staying = (points: readonly Point[], policy: RetentionPolicy | null, facts: Partial<PlanFacts> = {}) =>
  planRetention(points, { ...FACTS, policy, ...facts }).flatMap(({ point, stays }) =>
    stays ? [point.sequence] : [],
  );
const daysAgo = (days: number) => NOW_MS - days * DAY_MS;

test('without a policy everything stays, and so it does with keep-all', (t) => {
  const points = at([daysAgo(900), daysAgo(2), daysAgo(1)]);
  t.deepEqual(staying(points, null), [1, 2, 3]);
  t.deepEqual(staying(points, { keepAll: true }), [1, 2, 3]);
  t.deepEqual(planRetention(points, FACTS)[0]?.reasons, [
    { rule: 'no-policy', text: 'no policy is set for it' },
  ]);
});

test('each rule keeps the last point of each of its periods, and the plan says why', (t) => {
  const points = at([
    '2024-05-01T10:00:00.000Z',
    '2025-12-28T10:00:00.000Z',
    '2026-01-01T10:00:00.000Z',
    '2026-06-13T01:00:00.000Z',
    '2026-06-13T09:10:00.000Z',
    '2026-06-13T09:50:00.000Z',
    '2026-06-14T23:59:00.000Z',
    '2026-06-15T11:00:00.000Z',
  ]);
  t.deepEqual(staying(points, { keepLast: 2 }), [7, 8]);
  t.deepEqual(staying(points, { keepHourly: 3 }), [6, 7, 8]);
  t.deepEqual(staying(points, { keepDaily: 3 }), [6, 7, 8]);
  // The first of January 2026 is a Thursday: it and the 28th of December are of two ISO weeks.
  t.deepEqual(staying(points, { keepWeekly: 4 }), [2, 3, 7, 8]);
  t.deepEqual(staying(points, { keepMonthly: 2 }), [3, 8]);
  t.deepEqual(staying(points, { keepYearly: 3 }), [1, 2, 8]);
  t.deepEqual(staying(points, { keepWithinMs: 2 * DAY_MS }), [7, 8]);
  t.deepEqual(staying(points, { keepWithinMs: 51 * HOUR_MS, keepYearly: 2 }), [2, 5, 6, 7, 8]);
  const plan = planRetention(points, { ...FACTS, policy: { keepLast: 1, keepDaily: 2, keepMonthly: 9 } });
  const texts = plan.map(({ stays, reasons }) => [stays, ...reasons.map(({ text }) => text)]);
  t.deepEqual(texts[7], [
    true,
    'keep-last 1: number 1 of the last ones',
    'keep-daily 2: the last one of 2026-06-15',
    'keep-monthly 9: the last one of 2026-06',
    'it is the last point of its device',
  ]);
  t.deepEqual(texts[5], [
    false,
    'keep-last 1: there are 1 later ones',
    'keep-daily 2: 2026-06-13 is before the last 2 days with points',
    'keep-monthly 9: disk1@8 stands for 2026-06',
  ]);
  t.is(plan[5]?.ageMs, NOW_MS - Date.parse('2026-06-13T09:50:00.000Z'));
});

test('days and hours are those of the time zone, when clocks are changed too', (t) => {
  const berlin = { calendar: zoneCalendar('Europe/Berlin') };
  // 22:30 and 23:30 UTC are of two days there, in winter; in UTC they are of one.
  const winter = at(['2026-01-10T22:30:00.000Z', '2026-01-10T23:30:00.000Z']);
  t.deepEqual(staying(winter, { keepDaily: 5 }), [2]);
  t.deepEqual(staying(winter, { keepDaily: 5 }, berlin), [1, 2]);
  // On 25 October 2026 clocks go back from 03:00 to 02:00: 02:30 comes twice, and these are two hours of a
  // day.
  const nowMs = Date.parse('2026-10-26T00:00:00.000Z');
  const autumn = at(['2026-10-25T00:30:00.000Z', '2026-10-25T01:30:00.000Z', '2026-10-25T22:59:00.000Z']);
  t.deepEqual(staying(autumn, { keepHourly: 9 }, { ...berlin, nowMs }), [1, 2, 3]);
  t.deepEqual(staying(autumn, { keepDaily: 9 }, { ...berlin, nowMs }), [3], 'a day of 25 hours is a day');
  const [first] = planRetention(autumn, { ...FACTS, ...berlin, nowMs, policy: { keepHourly: 9 } });
  t.is(first?.reasons[0]?.text, 'keep-hourly 9: the last one of 2026-10-25 02:00+02:00');
  const india = zoneCalendar('Asia/Kolkata').at(Date.parse('2026-01-10T18:40:00.000Z'));
  t.deepEqual(india, { year: 2026, month: 1, day: 11, hour: 0, offsetMinutes: 330 });
  t.throws(() => zoneCalendar('Mars/Base'), { message: /it is not known/ });
});

test('a point that is not whole takes no place of a whole one', (t) => {
  const times = [daysAgo(3), daysAgo(3) + HOUR_MS, daysAgo(2), daysAgo(1), daysAgo(0)];
  const fuzzy = at(times, (i) => (i === 1 || i === 4 ? { kind: 'fuzzy' } : {}));
  // Of the first day the whole one stays. The last point is kept anyway, and beside it one whole one.
  t.deepEqual(staying(fuzzy, { keepDaily: 4 }), [1, 3, 4, 5]);
  t.deepEqual(staying(fuzzy, { keepLast: 1 }), [4, 5]);
  t.deepEqual(staying(fuzzy, { keepDaily: 1 }), [4, 5]);
  const plan = planRetention(fuzzy, { ...FACTS, policy: { keepDaily: 4 } });
  t.is(plan[1]?.flaw, 'it is no single instant (fuzzy)');
  t.deepEqual(
    plan[1]?.reasons.map(({ text }) => text),
    ['keep-daily 4: disk1@1 stands for 2026-06-12'],
  );
  // A disk that has gone bad for good: the last whole points before that never expire.
  const bad = { badRanges: [{ byteOffset: 0, byteLength: 512, content: 'filler' as const }] };
  const dying = at([9, 8, 7, 6, 5, 4, 3, 2, 1].map(daysAgo), (i) => (i >= 3 ? bad : {}));
  t.deepEqual(staying(dying, { keepDaily: 2 }), [2, 3, 8, 9]);
  t.deepEqual(staying(dying, { keepWithinMs: 2.5 * DAY_MS }), [3, 8, 9]);
  t.is(planRetention(dying, { ...FACTS, policy: { keepDaily: 1 } })[2]?.reasons[1]?.rule, 'last-whole-point');
  // Known damage counts as well.
  const damaged = { isDamaged: (id: string) => id === fuzzy[3]?.id };
  t.deepEqual(staying(fuzzy, { keepLast: 1 }, damaged), [3, 5]);
});

test('the minimum age, a pin, and a use keep whatever the rules say', (t) => {
  const points = at([daysAgo(9), daysAgo(5), daysAgo(3), daysAgo(1)]);
  const policy = { keepLast: 1 };
  t.deepEqual(staying(points, policy, { lockMs: 4 * DAY_MS }), [3, 4]);
  t.deepEqual(staying(points, policy, { lockMs: 5 * DAY_MS }), [3, 4], 'as old as that is old enough');
  t.deepEqual(staying(points, policy, { lockMs: 5 * DAY_MS + 1 }), [2, 3, 4]);
  const pin = {
    ...{ pointId: '', agent: 'local', device: 'disk1', sequence: 1, reason: 'before the move' },
    ...{ pinnedAtMs: 0, untilMs: NOW_MS + DAY_MS },
  };
  const pinOf = (id: string) => (id === points[0]?.id ? pin : null);
  const useOf = (id: string) => (id === points[1]?.id ? 'it is being read' : null);
  t.deepEqual(staying(points, policy, { pinOf, useOf }), [1, 2, 4]);
  const [first, second] = planRetention(points, { ...FACTS, policy, pinOf, useOf });
  t.deepEqual(first?.reasons, [
    { rule: 'pin', text: 'it is pinned until 2026-06-16T12:00:00.000Z: before the move' },
  ]);
  t.deepEqual(second?.reasons, [{ rule: 'in-use', text: 'it is being read' }]);
});

test('no point goes because of a clock that is not believed', (t) => {
  const points = at([daysAgo(9), daysAgo(5), daysAgo(3), daysAgo(1)]);
  const clockDoubt = 'it gained a year';
  t.deepEqual(staying(points, { keepDaily: 1 }, { clockDoubt }), [1, 2, 3, 4]);
  t.deepEqual(staying(points, { keepWithinMs: DAY_MS }, { clockDoubt }), [1, 2, 3, 4]);
  t.deepEqual(staying(points, { keepLast: 1 }, { clockDoubt }), [4], 'sequences need no clock');
  // A receiver whose clock was a year ahead for a day: these points stay, and displace none of their days.
  const ahead = at([daysAgo(4), daysAgo(-360), daysAgo(-359.9), daysAgo(3), daysAgo(2), daysAgo(1)]);
  t.deepEqual(staying(ahead, { keepDaily: 2 }), [2, 3, 5, 6]);
  const [, wrong] = planRetention(ahead, { ...FACTS, policy: { keepDaily: 2 } });
  t.deepEqual(
    wrong?.reasons.map(({ rule }) => rule),
    ['time-in-doubt'],
  );
  t.regex(wrong?.reasons[0]?.text ?? '', /^its time of commit, 2027-06-10T12:00:00.000Z, is in the future$/);
  t.is(wrong?.ageMs, 3 * DAY_MS, 'but it is as old as the next one, at least');
  t.deepEqual(staying(ahead, { keepLast: 1 }, { lockMs: 3 * DAY_MS }), [5, 6], 'so its lock ends as well');
  t.deepEqual(staying(ahead, { keepLast: 1 }, { lockMs: 3 * DAY_MS + 1 }), [2, 3, 4, 5, 6]);
  // A clock that was reset to 2020 for a day makes nothing old.
  const reset = at([
    daysAgo(4),
    '2020-01-01T00:00:00.000Z',
    '2020-01-01T08:00:00.000Z',
    daysAgo(3),
    daysAgo(1),
  ]);
  t.deepEqual(staying(reset, { keepWithinMs: 3.5 * DAY_MS }), [1, 2, 3, 4, 5]);
  t.is(
    planRetention(reset, FACTS)[1]?.ageMs,
    3 * DAY_MS,
    'it may be as young as the next one with a right time',
  );
  t.deepEqual(staying(reset, { keepWithinMs: 3 * DAY_MS }), [1, 5], 'the first one is in doubt');
  // Also where it was so for longer than it was right, and still is.
  const long = at([daysAgo(4), daysAgo(3), ...[1, 2, 3, 4, 5].map((day) => `2020-01-0${day}T00:00:00.000Z`)]);
  t.deepEqual(staying(long, { keepWithinMs: DAY_MS }), [1, 2, 3, 4, 5, 6, 7]);
  t.is(planRetention(long, FACTS)[3]?.ageMs, null);
  t.deepEqual(staying(long, { keepLast: 1 }, { lockMs: 3 * DAY_MS }), [3, 4, 5, 6, 7]);
  t.deepEqual(staying(long, { keepLast: 1 }), [7]);
});

test('times that contradict the sequence are found, and a clock may step back a little', (t) => {
  const hours = (values: readonly number[]) => values.map((hour) => new Date(hour * HOUR_MS).toISOString());
  const doubted = (values: readonly number[], nowMs = 1000 * HOUR_MS) =>
    commitTimes(hours(values), nowMs).flatMap(({ doubt }, i) => (doubt === null ? [] : [i]));
  t.deepEqual(doubted([1, 2, 2, 3]), []);
  t.deepEqual(doubted([1, 2, 9, 3, 4, 5]), [2]);
  t.deepEqual(doubted([1, 2, 0, 3, 4, 5]), [2]);
  t.deepEqual(doubted([5, 3]), [0, 1], 'between two nothing is decided');
  t.deepEqual(doubted([1, 5, 3, 6]), [1, 2]);
  t.deepEqual(doubted([1, 3, 2.9, 2.85, 4]), [], 'steps of some minutes');
  t.deepEqual(doubted([1, 3, 2.8, 4]), [1, 2]);
  t.deepEqual(doubted([1, 7, 2, 3], 5 * HOUR_MS), [1]);
  t.deepEqual(doubted([1, 5.1, 5.2], 5 * HOUR_MS), [2], 'a little ahead is now');
  t.regex(commitTimes(['nonsense'], NOW_MS)[0]?.doubt ?? '', /is not a time/);
  t.is(commitTimes(['nonsense'], NOW_MS)[0]?.youngestMs, null);
  t.is(commitTimes([], NOW_MS).length, 0);
});

test('random: those times are believed that are in every longest part that ascends', (t) => {
  const random = seededRandom(t);
  for (let round = 0; round < 300; round += 1) {
    const values = Array.from({ length: random.below(9) }, () => random.below(8));
    const longest: number[][] = [];
    for (let set = 0; set < 2 ** values.length; set += 1) {
      const part = [...values.keys()].filter((i) => (set >> i) % 2 === 1);
      if (part.every((i, n) => n === 0 || (values[i] ?? 0) >= (values[part[n - 1] ?? 0] ?? 0)))
        longest.push(part);
    }
    const most = Math.max(...longest.map(({ length }) => length));
    const all = longest.filter(({ length }) => length === most);
    const expected = [...values.keys()].filter((i) => all.every((part) => part.includes(i)));
    const times = commitTimes(
      values.map((value) => new Date(value * HOUR_MS).toISOString()),
      9 * HOUR_MS,
    );
    t.deepEqual(
      times.flatMap(({ believedMs }, i) => (believedMs === null ? [] : [i])),
      expected,
      values.join(),
    );
  }
});

// ---- the model -------------------------------------------------------------------------------------------

const periodText: Readonly<Record<string, (date: Date) => string>> = {
  keepHourly: (date) => date.toISOString().slice(0, 13),
  keepDaily: (date) => date.toISOString().slice(0, 10),
  // Days since Monday, 29 December 1969.
  keepWeekly: (date) => String(Math.floor((date.getTime() / DAY_MS + 3) / 7)),
  keepMonthly: (date) => date.toISOString().slice(0, 7),
  keepYearly: (date) => date.toISOString().slice(0, 4),
};

/** By the words of docs/retention.md, one point at a time. */
function modelStays(points: readonly Point[], policy: RetentionPolicy, lockMs: number, pinned: Set<string>) {
  const isWhole = ({ kind }: Point) => kind !== 'fuzzy';
  const later = (among: readonly Point[], { sequence }: Point) => among.filter((p) => p.sequence > sequence);
  return points.filter((point) => {
    if (later(points, point).length === 0 || pinned.has(point.id)) return true;
    if (isWhole(point) && later(points, point).every((p) => !isWhole(p))) return true;
    const ageMs = NOW_MS - Date.parse(point.committedAt);
    if (ageMs < lockMs || ageMs < (policy.keepWithinMs ?? 0)) return true;
    return [points, points.filter(isWhole)].some((among) => {
      if (among.includes(point) && later(among, point).length < (policy.keepLast ?? 0)) return true;
      return Object.entries(periodText).some(([rule, text]) => {
        const count = policy[rule as 'keepDaily'] ?? 0;
        const periodOf = (p: Point) => text(new Date(p.committedAt));
        const rivals = points.filter((p) => periodOf(p) === periodOf(point));
        const best = rivals.findLast(isWhole) ?? rivals.at(-1);
        const laterPeriods = new Set(
          among
            .map(periodOf)
            .filter((_, i) => (among[i]?.sequence ?? 0) > Math.max(...rivals.map((p) => p.sequence))),
        );
        return best === point && among.some((p) => rivals.includes(p)) && laterPeriods.size < count;
      });
    });
  });
}

test('random histories: the plan is that of the model, never keeps less with more rules, and is stable', (t) => {
  const random = seededRandom(t);
  for (let round = 0; round < 400; round += 1) {
    let timeMs = NOW_MS - (random.below(500) + 1) * DAY_MS;
    const times: number[] = [];
    for (let i = random.below(40); i >= 0 && timeMs < NOW_MS; i -= 1) {
      times.push(timeMs);
      timeMs += random.below(random.pick([2, 60, 3 * 24 * 60, 40 * 24 * 60])) * 60_000;
    }
    const points = at(times, () => (random.below(5) === 0 ? { kind: 'fuzzy' } : {}));
    const rules = Object.fromEntries(
      ['keepLast', ...Object.keys(periodText)].flatMap((rule) =>
        random.below(3) === 0 ? [[rule, 1 + random.below(6)]] : [],
      ),
    );
    const policy: RetentionPolicy = {
      ...(random.below(3) === 0 ? { keepWithinMs: random.below(200) * DAY_MS + DAY_MS } : {}),
      ...(Object.keys(rules).length === 0 ? { keepLast: 2 } : rules),
    };
    const lockMs = random.below(3) === 0 ? random.below(100) * DAY_MS : 0;
    const pinned = new Set(points.filter(() => random.below(15) === 0).map(({ id }) => id));
    const pinOf = (id: string) =>
      pinned.has(id)
        ? { pointId: id, agent: '', device: '', sequence: 1, reason: '', pinnedAtMs: 0, untilMs: null }
        : null;
    const stays = staying(points, policy, { lockMs, pinOf });
    const what = JSON.stringify({
      policy,
      lockMs,
      times: points.map(({ committedAt, kind }) => [committedAt, kind]),
    });
    t.deepEqual(
      stays,
      modelStays(points, policy, lockMs, pinned).map(({ sequence }) => sequence),
      what,
    );
    const left = points.filter(({ sequence }) => stays.includes(sequence));
    t.deepEqual(staying(left, policy, { lockMs, pinOf }), stays, `again: ${what}`);
    const more = staying(points, { ...policy, keepDaily: (policy.keepDaily ?? 0) + 3 }, { lockMs, pinOf });
    t.true(
      stays.every((sequence) => more.includes(sequence)),
      `more: ${what}`,
    );
    for (const { reasons } of planRetention(points, { ...FACTS, policy, lockMs, pinOf }))
      t.true(reasons.length > 0);
  }
});
