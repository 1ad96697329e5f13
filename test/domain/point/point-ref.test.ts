import test from 'ava';
import { formatInstant } from '../../../src/cli/output/format.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { Point } from '../../../src/domain/point/point.js';
import { deviceOf, parsePointRef, pointName, resolvePoint } from '../../../src/domain/point/point-ref.js';
import { makePoint } from '../../helpers/bytes/points.js';

const points = [1, 2, 3].map((sequence) => makePoint({ sequence, id: `${sequence}abcdef0`.padEnd(32, '0') }));
const other = makePoint({ device: 'disk2', id: '1abcdef0'.padEnd(31, '0').concat('9') });
const resolve = (text: string, list = points) => resolvePoint(parsePointRef(text), list);

test('a point is named by latest, sequence, time or id', (t) => {
  t.is(resolve('disk1@latest').sequence, 3);
  t.is(resolve('disk1@2').sequence, 2);
  t.is(resolve('disk1@2026-01-02T12:00:00Z').sequence, 2);
  t.is(resolve('disk1@2026-01-02T13:59:59+02:00').sequence, 1);
  t.is(resolve('disk1@2026-01-02 11:59:59.999Z').sequence, 1);
  t.is(resolve('disk1@2030-01-01').sequence, 3);
  t.is(resolve('3abcdef0').sequence, 3);
  t.is(resolve(points[1]?.id.toUpperCase() ?? '').sequence, 2);
});

test('a date is the end of that day, local time', (t) => {
  const evening = makePoint({ sequence: 1, instant: new Date(2026, 4, 1, 23, 30).toISOString() });
  const nextDay = makePoint({ sequence: 2, instant: new Date(2026, 4, 2, 0, 30).toISOString() });
  t.is(resolve('disk1@2026-05-01', [evening, nextDay]).sequence, 1);
});

test('a time to the second names the point that was taken within that second', (t) => {
  const later = [1, 2].map((sequence) =>
    makePoint({ sequence, instant: `2026-01-01T00:00:0${sequence}.900Z` }),
  );
  t.is(resolve('disk1@2026-01-01 00:00:02Z', later).sequence, 2);
  t.is(resolve('disk1@2026-01-01 00:00:01Z', later).sequence, 1);
  t.is(resolve('disk1@2026-01-01T00:00:02.899Z', later).sequence, 1);
  t.is(resolve('disk1@2026-01-01T00:00:02.9Z', later).sequence, 2);
  t.is(resolve('disk1@2026-01-01T00:00Z', later).sequence, 2);
});

test('of several points within a second none is chosen without a word; of a longer time the last counts', (t) => {
  const twins = [1, 2].map((sequence) =>
    makePoint({ sequence, instant: `2026-01-01T00:00:00.${sequence}00Z` }),
  );
  const error = t.throws(() => resolve('disk1@2026-01-01 00:00:00Z', twins), { instanceOf: StillpointError });
  t.is(error?.code, 'bad-point-name');
  t.regex(error?.message ?? '', /2 points were taken within that time\. Name one of them: disk1@1 .*disk1@2/);
  t.is(resolve('disk1@2026-01-01 00:00:00.200Z', twins).sequence, 2);
  t.is(resolve('disk1@2026-01-01T00:00Z', twins).sequence, 2);
  const same = [1, 2].map((sequence) => makePoint({ sequence, instant: '2026-01-01T00:00:00.000Z' }));
  t.throws(() => resolve('disk1@2026-01-01T00:00:00.000Z', same), { message: /Name one of them/ });
});

test('a point of a clock that was set back is found by its own time', (t) => {
  const instants = ['2026-01-01T12:00:00.000Z', '2026-01-01T11:30:00.000Z'];
  const turned = instants.map((instant, at) => makePoint({ sequence: at + 1, instant }));
  t.is(resolve('disk1@2026-01-01T11:30:00Z', turned).sequence, 2);
  t.is(resolve('disk1@2026-01-01T12:00:00Z', turned).sequence, 1);
});

test.serial('a local time that clocks show twice is refused where it means two points', (t) => {
  process.env.TZ = 'Europe/Vienna';
  const instants = ['2026-10-25T00:30:00.000Z', '2026-10-25T01:30:00.000Z'];
  const [summer, winter] = instants.map((instant, at) => makePoint({ sequence: at + 1, instant }));
  if (summer === undefined || winter === undefined) return t.fail();
  const message = t.throws(() => resolve('disk1@2026-10-25 02:30:00', [summer, winter]))?.message;
  t.regex(message ?? '', /clocks showed that time twice/);
  t.is(resolve('disk1@2026-10-25 02:30:00+02:00', [summer, winter]).sequence, 1);
  t.is(resolve('disk1@2026-10-25 02:30:00+01:00', [summer, winter]).sequence, 2);
  t.is(resolve('disk1@2026-10-25 02:30:00', [summer]).sequence, 1);
});

const ZONES = ['UTC', 'Europe/Vienna', 'America/St_Johns', 'Australia/Lord_Howe', 'Pacific/Apia'];

test.serial(
  'whatever instant is printed names its point, in every zone and around every change of clocks',
  (t) => {
    const around = [
      '2026-03-29T01:00',
      '2026-10-25T01:00',
      '2026-04-04T15:00',
      '2026-10-03T15:30',
      '2026-11-01T04:30',
    ];
    for (const zone of ZONES) {
      process.env.TZ = zone;
      for (const change of around) {
        const startMs = Date.parse(`${change}:00.789Z`) - 2 * 3_600_000;
        const hourly = Array.from({ length: 17 }, (_, at) =>
          makePoint({ sequence: at + 1, instant: new Date(startMs + at * 15 * 60_000).toISOString() }),
        );
        for (const point of hourly) {
          for (const printed of [
            formatInstant(point.instant),
            formatInstant(point.instant, 'millisecond'),
            point.instant,
          ]) {
            t.is(resolve(`disk1@${printed}`, hourly).sequence, point.sequence, `${printed} in ${zone}`);
          }
        }
      }
    }
  },
);

test('which points are needed', (t) => {
  t.is(deviceOf(parsePointRef('disk1@latest')), 'disk1');
  t.is(deviceOf(parsePointRef('0123abcd')), undefined);
});

for (const text of [
  '',
  'disk1',
  '@latest',
  'disk1@',
  'disk1@0',
  'disk1@-1',
  'disk1@soon',
  'disk1@2026-13-45',
  'disk1@2026-02-30',
  '1234567',
  'a/b/c@1',
  '/b@1',
  'a/@1',
  'nobody/disk1@1',
  'disk1@2026',
  'disk1@2026-02-30 12:00:00',
  'disk1@2026-01-01 24:01',
  'disk1@2026-01-01 12:00.5',
]) {
  test(`"${text}" is refused or resolves to nothing`, (t) => {
    const error = t.throws(() => resolve(text), { instanceOf: StillpointError });
    t.true(['bad-point-name', 'bad-name', 'point-unknown', 'device-unknown'].includes(error?.code ?? ''));
  });
}

test('what can not be resolved says what there is', (t) => {
  const message = (text: string, list = [...points, other]) => t.throws(() => resolve(text, list))?.message;
  t.is(
    message('disk9@latest'),
    'device disk9: the store has no point of it. Devices with points: disk1, disk2.',
  );
  t.is(
    message('disk9@latest', []),
    'device disk9: the store has no point of it. The store has no points yet.',
  );
  t.regex(
    message('disk1@9') ?? '',
    /no point of that number. There are: disk1@1 \(2026-01-01T12:00:00.000Z, 1abcdef00000\), /,
  );
  t.regex(message('disk1@1999-01-01') ?? '', /all points of the device are later. There are: disk1@1/);
  t.regex(
    message('1abcdef0') ?? '',
    /2 points have an id that starts like this. Use more digits: disk1@1 .*disk2@1/,
  );
  t.regex(message('99999999') ?? '', /no point has an id that starts like this/);
});

test('where several agents are seen, the own one is meant, else the only one; a name says whose', (t) => {
  const of = (agent: string, device: string): Point => ({
    ...other,
    agent,
    device,
    id: `${agent}${device}`.padEnd(32, '0'),
  });
  const list = [of('local', 'root'), of('m1', 'root'), of('m1', 'disk'), of('m2', 'data'), of('m3', 'data')];
  const find = (text: string) => resolvePoint(parsePointRef(text), list, 'local').agent;
  t.is(find('root@latest'), 'local');
  t.is(find('m1/root@1'), 'm1');
  t.is(find('disk@1'), 'm1');
  t.is(find('m3/data@latest'), 'm3');
  const refusal = t.throws(() => find('data@1'), { instanceOf: StillpointError });
  t.is(refusal?.code, 'bad-point-name');
  t.is(
    refusal?.message,
    'device data: 2 agents have a device of this name: m2, m3. Say whose, like m2/data@latest, or with --agent m2.',
  );
  t.regex(
    t.throws(() => find('m2/disk@1'))?.message ?? '',
    /device m2\/disk: .* Devices with points: root, m1\/root, m1\/disk, /,
  );
  for (const point of list)
    t.is(resolvePoint(parsePointRef(pointName(point, 'local')), list, 'local'), point);
});
