import test from 'ava';
import fc from 'fast-check';
import {
  describeTiming,
  dueAfter,
  parseEvery,
  parseTimes,
  type Timing,
} from '../../../src/domain/order/schedule.js';
import { LOCAL_CALENDAR } from '../../../src/receiver/orders/scheduler.js';

const HOUR = 3_600_000;

/** In that time zone. */
function inZone<T>(zone: string, work: () => T): T {
  const before = process.env.TZ;
  process.env.TZ = zone;
  try {
    return work();
  } finally {
    if (before === undefined) delete process.env.TZ;
    else process.env.TZ = before;
  }
}

function dues(timing: Timing, from: string, count: number): string[] {
  const all: string[] = [];
  let afterMs = Date.parse(from);
  for (let i = 0; i < count; i += 1) {
    afterMs = dueAfter(timing, afterMs, LOCAL_CALENDAR);
    all.push(new Date(afterMs).toISOString());
  }
  return all;
}

test.serial('times of the day follow the local clock', (t) => {
  inZone('Europe/Berlin', () => {
    t.deepEqual(dues(parseTimes('14:30, 02:00'), '2026-01-10T01:00:00Z', 4), [
      '2026-01-10T13:30:00.000Z',
      '2026-01-11T01:00:00.000Z',
      '2026-01-11T13:30:00.000Z',
      '2026-01-12T01:00:00.000Z',
    ]);
  });
});

test.serial('a time that the clock skips in spring comes late, once', (t) => {
  inZone('Europe/Berlin', () => {
    t.deepEqual(dues(parseTimes('02:30'), '2026-03-27T12:00:00Z', 3), [
      '2026-03-28T01:30:00.000Z',
      '2026-03-29T01:30:00.000Z',
      '2026-03-30T00:30:00.000Z',
    ]);
  });
});

test.serial('a time that the clock shows twice in autumn counts once', (t) => {
  inZone('Europe/Berlin', () => {
    t.deepEqual(dues(parseTimes('02:30'), '2026-10-23T12:00:00Z', 4), [
      '2026-10-24T00:30:00.000Z',
      '2026-10-25T00:30:00.000Z',
      '2026-10-26T01:30:00.000Z',
      '2026-10-27T01:30:00.000Z',
    ]);
  });
});

test('every so often, from the last one', (t) => {
  t.is(dueAfter(parseEvery('6h'), 1000, LOCAL_CALENDAR), 1000 + 6 * HOUR);
});

test.serial(
  'in any zone and at any time, the next one is later, within a day and an hour, and at the time asked for',
  (t) => {
    const minute = fc.nat(24 * 60 - 1);
    const zone = fc.constantFrom(
      'UTC',
      'Europe/Berlin',
      'America/New_York',
      'Asia/Kathmandu',
      'Australia/Lord_Howe',
    );
    fc.assert(
      fc.property(zone, minute, fc.integer({ min: 0, max: 2 ** 42 }), (name, at, afterMs) =>
        inZone(name, () => {
          const due = dueAfter({ kind: 'at', minutes: [at] }, afterMs, LOCAL_CALENDAR);
          const date = new Date(due);
          t.true(due > afterMs && due <= afterMs + 26 * HOUR);
          const shown = date.getHours() * 60 + date.getMinutes();
          // Later where the clock skips it.
          t.true(shown === at || (shown > at && shown <= at + 60));
        }),
      ),
    );
  },
);

test('what people write', (t) => {
  t.deepEqual(parseTimes('02:00'), { kind: 'at', minutes: [120] });
  t.deepEqual(parseTimes('23:59,0:00,23:59'), { kind: 'at', minutes: [0, 1439] });
  t.is(describeTiming(parseTimes('2:00,14:30')), 'at 02:00, 14:30');
  for (const text of ['30m', '6h', '2d']) t.is(describeTiming(parseEvery(text)), `every ${text}`);
  t.is(describeTiming(parseEvery('90m')), 'every 90m');
  for (const text of ['', '24:00', '2:60', 'noon', '02:00,', '1:1']) {
    t.throws(() => parseTimes(text), { code: 'usage' }, text);
  }
  for (const text of ['', '0h', '6', 'h', '32d', '1.5h'])
    t.throws(() => parseEvery(text), { code: 'usage' }, text);
});
