import test from 'ava';
import { DAY_MS, daysLeft, growthBy, growthRate } from '../../../src/domain/usage/growth.js';

const NOW = Date.parse('2026-06-30T12:00:00.000Z');

/** A point of so many days ago. */
function point(daysAgo: number, storedBytes: number, sequence = 2, device = 'disk') {
  const committedAt = new Date(NOW - daysAgo * DAY_MS).toISOString();
  return { agent: 'alpha', device, sequence, committedAt, storedBytes };
}

test('periods end now, have every point once, and keep first points apart', (t) => {
  const points = [point(16, 1000, 1), point(15, 10), point(8, 20), point(6.9, 30), point(0, 40)];
  const periods = growthBy(points, NOW, 7, 12);
  t.deepEqual(
    periods.map(({ pointCount, addedBytes, firstBytes }) => [pointCount, addedBytes, firstBytes]),
    [
      [2, 10, 1000],
      [1, 20, 0],
      [2, 70, 0],
    ],
  );
  t.is(periods[0]?.startAt, new Date(NOW - 21 * DAY_MS).toISOString());
  const added = periods.reduce((sum, { addedBytes, firstBytes }) => sum + addedBytes + firstBytes, 0);
  t.is(added, 1100, 'the sum of the parts is what all points added');
  t.is(growthBy(points, NOW, 7, 2).length, 2, 'only the last ones');
  t.deepEqual(growthBy([], NOW, 7, 12), []);
  // A receiver's clock that was set back: such a point is of the present.
  t.is(growthBy([point(-3, 5)], NOW, 7, 12)[0]?.addedBytes, 5);
});

test('a rate is of the last four weeks, without first points', (t) => {
  const points = [point(60, 9999), point(27, 280), point(20, 280), point(10, 1e9, 1, 'new'), point(1, 280)];
  t.deepEqual(growthRate(points, NOW), { bytesPerDay: 30, days: 28, pointCount: 3 });
  t.deepEqual(growthRate([point(10, 500, 1), point(9, 10), point(5, 10), point(1, 80)], NOW), {
    ...{ bytesPerDay: 10, days: 10, pointCount: 3 },
  });
});

test('with too little history there is no rate', (t) => {
  t.is(growthRate([], NOW), null);
  t.is(growthRate([point(6, 1), point(5, 1), point(4, 1), point(3, 1)], NOW), null, 'less than a week');
  t.is(growthRate([point(20, 1), point(3, 1)], NOW), null, 'two points');
  t.is(growthRate([point(20, 1, 1, 'a'), point(10, 1, 1, 'b'), point(9, 1, 1, 'c')], NOW), null);
});

test('days left are whole, never less than none, and not said beyond ten years', (t) => {
  const rate = { bytesPerDay: 100, days: 28, pointCount: 9 };
  t.is(daysLeft(rate, 1050), 10);
  t.is(daysLeft(rate, -5), 0);
  t.is(daysLeft(rate, 100 * 4000), null);
  t.is(daysLeft({ ...rate, bytesPerDay: 0 }, 1050), null);
});
