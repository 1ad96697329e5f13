/** When runs are due: what people write, and the wall clocks of some zones over years. */
import test from 'ava';
import fc from 'fast-check';
import { describeSchedule, dueAfter, parseEvery, parseSchedule } from '../../../src/domain/order/schedule.js';
import { wallTime, zoneNamed } from '../../../src/domain/order/zone.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** With DST in both hemispheres, by half an hour, negative in winter, none, and a day that was left out. */
const ZONES = [
  ...['UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kathmandu', 'Australia/Lord_Howe', 'Europe/Dublin'],
  ...['America/Sao_Paulo', 'Pacific/Apia', 'Africa/Casablanca', 'Asia/Tehran'],
];

function dues(text: string, from: string, count: number): string[] {
  const all: string[] = [];
  let afterMs: number | null = Date.parse(from);
  for (let i = 0; i < count && afterMs !== null; i += 1) {
    afterMs = dueAfter(parseSchedule(text), afterMs);
    if (afterMs !== null) all.push(new Date(afterMs).toISOString().slice(0, 16));
  }
  return all;
}

const SAMPLES: readonly (readonly [text: string, from: string, ...dues: string[]])[] = [
  ['hourly UTC', '2026-01-10T01:00:00Z', '2026-01-10T02:00', '2026-01-10T03:00'],
  ['daily UTC', '2026-01-10T01:00:00Z', '2026-01-11T00:00', '2026-01-12T00:00'],
  ['weekly UTC', '2026-01-10T01:00:00Z', '2026-01-12T00:00', '2026-01-19T00:00'],
  ['monthly UTC', '2026-01-10T01:00:00Z', '2026-02-01T00:00', '2026-03-01T00:00'],
  ['quarterly UTC', '2026-01-10T01:00:00Z', '2026-04-01T00:00', '2026-07-01T00:00'],
  ['yearly UTC', '2026-01-10T01:00:00Z', '2027-01-01T00:00', '2028-01-01T00:00'],
  ['Mon..Fri 02:00 UTC', '2026-01-09T03:00:00Z', '2026-01-12T02:00', '2026-01-13T02:00'],
  [
    'sat..mon UTC',
    '2026-01-09T03:00:00Z',
    '2026-01-10T00:00',
    '2026-01-11T00:00',
    '2026-01-12T00:00',
    '2026-01-17T00:00',
  ],
  ['Mon,Wednesday 4:05 UTC', '2026-01-09T03:00:00Z', '2026-01-12T04:05', '2026-01-14T04:05'],
  ['*-*-1 03:30 UTC', '2026-01-09T03:00:00Z', '2026-02-01T03:30', '2026-03-01T03:30'],
  ['*-*~1 03:30 UTC', '2026-01-31T04:00:00Z', '2026-02-28T03:30', '2026-03-31T03:30'],
  ['Sun *-*-1..7 01:00 UTC', '2026-01-01T00:00:00Z', '2026-01-04T01:00', '2026-02-01T01:00'],
  ['02:00,14:00 UTC', '2026-01-09T03:00:00Z', '2026-01-09T14:00', '2026-01-10T02:00'],
  ['2,14:00 UTC', '2026-01-09T03:00:00Z', '2026-01-09T14:00', '2026-01-10T02:00'],
  ['*:0/20 UTC', '2026-01-09T03:30:00Z', '2026-01-09T03:40', '2026-01-09T04:00', '2026-01-09T04:20'],
  ['8..18/5:15 UTC', '2026-01-09T08:30:00Z', '2026-01-09T13:15', '2026-01-09T18:15', '2026-01-10T08:15'],
  ['12-24 18:00 UTC', '2026-01-09T08:30:00Z', '2026-12-24T18:00', '2027-12-24T18:00'],
  ['*-2-29 UTC', '2026-01-09T08:30:00Z', '2028-02-29T00:00', '2032-02-29T00:00'],
  ['2027-3-4 05:06 UTC', '2026-01-09T08:30:00Z', '2027-03-04T05:06'],
  ['Sat 03:00 UTC; Sun 04:00 UTC', '2026-01-09T08:30:00Z', '2026-01-10T03:00', '2026-01-11T04:00'],
  ['every 90m', '2026-01-09T08:30:00Z', '2026-01-09T10:00', '2026-01-09T11:30'],
  // Skipped in spring, shown twice in autumn.
  ['02:30 Europe/Berlin', '2026-03-27T12:00:00Z', '2026-03-28T01:30', '2026-03-29T01:30', '2026-03-30T00:30'],
  ['02:30 Europe/Berlin', '2026-10-23T12:00:00Z', '2026-10-24T00:30', '2026-10-25T00:30', '2026-10-26T01:30'],
  [
    'hourly Europe/Berlin',
    '2026-10-24T23:30:00Z',
    '2026-10-25T00:00',
    '2026-10-25T01:00',
    '2026-10-25T02:00',
  ],
  ['02:30,03:30 Europe/Berlin', '2026-03-28T23:00:00Z', '2026-03-29T01:30', '2026-03-30T00:30'],
  // Samoa had no 30 December 2011.
  ['10:00 Pacific/Apia', '2011-12-29T21:00:00Z', '2011-12-30T20:00', '2011-12-31T20:00'],
];

test('what is written comes when it says', (t) => {
  for (const [text, from, ...expected] of SAMPLES)
    t.deepEqual(dues(text, from, Math.max(expected.length, 1)).slice(0, expected.length), expected, text);
  t.deepEqual(dues('2027-3-4 05:06 UTC', '2027-04-01T00:00:00Z', 1), [], 'never again');
});

test('texts are kept short and told as they are written', (t) => {
  t.is(describeSchedule(parseSchedule('  2:00,14:30  ')), 'at 2:00,14:30');
  t.is(describeSchedule(parseSchedule('daily')), 'daily');
  for (const text of ['30m', '6h', '2d', '1w']) t.is(describeSchedule(parseEvery(text)), `every ${text}`);
  t.is(parseSchedule('Mon   02:00 ;daily').text, 'Mon 02:00; daily');
  for (const text of [
    ...[
      '',
      '24:00',
      '2:60',
      'noon',
      '02:00,',
      'Mon..Fri..Sun',
      'Funday 02:00',
      '02:00 Mon',
      '*-13-1',
      '*-2-30',
    ],
    ...[
      '*-4~31',
      '0-0-0',
      '02:00:30',
      '*..5:00',
      '5..2:00',
      '1/0:00',
      '02:00 Mars/Olympus',
      'UTC',
      ';',
      '1-2-3-4',
    ],
    ...['every', 'every 0h', 'every 6', 'every 32d', 'every 1.5h', 'daily daily', `${'1,'.repeat(120)}2:00`],
    'daily;'.repeat(17),
  ])
    t.throws(() => parseSchedule(text), { code: 'usage' }, text);
});

test('in any zone and at any time, a daily run comes within a day and what its clock jumps', (t) => {
  const minute = fc.nat(24 * 60 - 1);
  fc.assert(
    fc.property(
      fc.constantFrom(...ZONES),
      minute,
      fc.integer({ min: 2 * DAY, max: 2 ** 42 }),
      (name, at, afterMs) => {
        const schedule = parseSchedule(`${Math.floor(at / 60)}:${String(at % 60).padStart(2, '0')} ${name}`);
        const due = dueAfter(schedule, afterMs) ?? Number.NaN;
        const mostMs = name === 'Pacific/Apia' ? 2 * DAY : DAY + 2 * HOUR;
        t.true(due > afterMs && due <= afterMs + mostMs, `${name} ${at} ${afterMs}: ${due}`);
        const shown = Math.floor(wallTime(zoneNamed(name), due) / 60_000) % (24 * 60);
        // Later where the clock skips it.
        const isShown = shown === at || (shown > at && shown <= at + 60) || at + 60 >= 24 * 60;
        t.true(isShown, `${name} ${at} ${afterMs}: ${due}, ${shown}`);
      },
    ),
    { numRuns: 300 },
  );
});

test('over years, a day of the wall clock has one daily run, and each hour has one hourly', (t) => {
  for (const name of ZONES.filter((zone) => zone !== 'Pacific/Apia')) {
    const zone = zoneNamed(name);
    const daily = parseSchedule(`02:30 ${name}`);
    let atMs = Date.UTC(2019, 0, 1, 12);
    let day = Math.floor(wallTime(zone, atMs) / DAY);
    for (let n = 0; n < 800; n += 1) {
      atMs = dueAfter(daily, atMs) ?? Number.NaN;
      const next = Math.floor(wallTime(zone, atMs) / DAY);
      t.is(next, day + 1, `${name} ${new Date(atMs).toISOString()}`);
      day = next;
    }
  }
  const hourly = parseSchedule('hourly Europe/Berlin');
  for (const start of [Date.UTC(2026, 2, 28), Date.UTC(2026, 9, 24)]) {
    let atMs = start;
    for (let n = 0; n < 48; n += 1, atMs += HOUR) t.is(dueAfter(hourly, atMs), atMs + HOUR);
  }
});
