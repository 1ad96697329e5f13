/** Group points stay or go as one: examples, and random plans against a model without cleverness. */
import test from 'ava';
import type { Point, PointGroup } from '../../../src/domain/point/point.js';
import { zoneCalendar } from '../../../src/domain/retention/calendar.js';
import { devicesTogether, keepGroupsWhole } from '../../../src/domain/retention/groups.js';
import { type PlanFacts, planRetention } from '../../../src/domain/retention/plan.js';
import { makePoint } from '../../helpers/bytes/points.js';
import { type Random, seededRandom } from '../../helpers/seed.js';

const DAY_MS = 24 * 3_600_000;
const NOW_MS = Date.parse('2026-06-15T12:00:00.000Z');
const FACTS: PlanFacts = {
  ...{ policy: null, calendar: zoneCalendar('UTC'), nowMs: NOW_MS, clockDoubt: null, lockMs: 0 },
  ...{ pinOf: () => null, useOf: () => null, isDamaged: () => false },
};

const idOf = (device: string, sequence: number) =>
  Buffer.from(`${device}@${sequence}`).toString('hex').padEnd(32, '0');
const groupOf = (name: string, sequence: number, memberCount: number): PointGroup => ({
  ...{ id: idOf(name, sequence), name, sequence, memberCount },
});
const made = (device: string, sequence: number, days: number, group?: PointGroup): Point =>
  makePoint({
    ...{ device, sequence, id: idOf(device, sequence) },
    committedAt: new Date(NOW_MS - days * DAY_MS).toISOString(),
    ...(group === undefined ? {} : { group }),
  });
const label = ({ device, sequence }: Point) => `${device}@${sequence}`;

/** Each device is planned by itself. */
function alone(points: readonly Point[], facts: (device: string) => Partial<PlanFacts>) {
  const devices = [...new Set(points.map(({ device }) => device))].sort();
  return devices.flatMap((device) =>
    planRetention(
      points.filter((point) => point.device === device),
      { ...FACTS, ...facts(device) },
    ),
  );
}
const staying = (points: readonly Point[], facts: (device: string) => Partial<PlanFacts>) =>
  keepGroupsWhole(alone(points, facts)).flatMap(({ point, stays }) => (stays ? [label(point)] : []));

const [one, two, three] = [1, 2, 3].map((sequence) => groupOf('db', sequence, 2));
const HISTORY = [
  ...[made('data', 1, 9, one), made('data', 2, 8, two), made('data', 3, 2), made('data', 4, 1, three)],
  ...[made('wal', 1, 9, one), made('wal', 2, 8, two), made('wal', 3, 1, three)],
];

test('if a rule keeps one point of a group point, all of it stays, and the plan says why', (t) => {
  const policy = { keepLast: 1 };
  t.deepEqual(
    staying(HISTORY, () => ({ policy })),
    ['data@4', 'wal@3'],
  );
  const two = (device: string) => ({ policy: { keepLast: device === 'wal' ? 2 : 1 } });
  t.deepEqual(staying(HISTORY, two), ['data@2', 'data@4', 'wal@2', 'wal@3']);
  const plans = keepGroupsWhole(alone(HISTORY, two));
  t.deepEqual(plans.find(({ point }) => label(point) === 'data@2')?.reasons, [
    {
      rule: 'group',
      text: 'group point db@2 needs it: wal@2 stays: keep-last 2: number 2 of the last ones',
    },
  ]);
  t.deepEqual(
    plans.find(({ point }) => label(point) === 'data@1')?.reasons.map(({ rule }) => rule),
    ['keep-last'],
    'what goes says why its own rules do not keep it',
  );
});

test('a pin, a use, the minimum age and damage of one point hold its group point', (t) => {
  const policy = { keepLast: 1 };
  const isFirst = (id: string) => id === idOf('wal', 1);
  const pin = {
    ...{ pointId: '', agent: '', device: '', sequence: 1, reason: 'r', pinnedAtMs: 0, untilMs: null },
  };
  const held = ['data@1', 'data@4', 'wal@1', 'wal@3'];
  t.deepEqual(
    staying(HISTORY, () => ({ policy, pinOf: (id) => (isFirst(id) ? pin : null) })),
    held,
  );
  t.deepEqual(
    staying(HISTORY, () => ({ policy, useOf: (id) => (isFirst(id) ? 'it is read' : null) })),
    held,
  );
  const oldest = (device: string) => ({ policy, lockMs: device === 'wal' ? 9 * DAY_MS : 0 });
  t.deepEqual(staying(HISTORY, oldest), ['data@2', 'data@4', 'wal@2', 'wal@3']);
  // The last whole point of wal is wal@2.
  const isDamaged = (id: string) => id === idOf('wal', 3);
  t.deepEqual(
    staying(HISTORY, () => ({ policy, isDamaged })),
    ['data@2', 'data@4', 'wal@2', 'wal@3'],
  );
});

test('points of a group point that is not whole, or has one point, are as any other', (t) => {
  const policy = (device: string) => ({ policy: { keepLast: device === 'wal' ? 9 : 1 } });
  const lost = HISTORY.filter((point) => label(point) !== 'data@1');
  t.deepEqual(staying(lost, policy), ['data@2', 'data@4', 'wal@1', 'wal@2', 'wal@3']);
  const single = [made('data', 1, 3, groupOf('db', 1, 1)), made('data', 2, 2)];
  t.deepEqual(staying(single, policy), ['data@2']);
});

test('devices that share group points are planned together, also by way of others', (t) => {
  const names = (points: readonly Point[]) =>
    devicesTogether(points).map((devices) => devices.map(({ device }) => device));
  t.deepEqual(names(HISTORY), [['data', 'wal']]);
  t.deepEqual(names([made('a', 1, 1), made('b', 1, 1)]), [['a'], ['b']]);
  const shared = groupOf('all', 1, 2);
  const more = [made('data', 5, 0, shared), made('etc', 1, 0, shared), made('opt', 1, 0)];
  t.deepEqual(names([...HISTORY, ...more]), [['data', 'etc', 'wal'], ['opt']]);
  t.deepEqual(names([...more, ...HISTORY].reverse()), [['data', 'etc', 'wal'], ['opt']]);
});

/** Devices with points of their own, and group points of some of them. */
function randomHistory(random: Random): Point[] {
  const devices = ['a', 'b', 'c', 'd'].slice(0, 2 + random.below(3));
  const sequences = new Map(devices.map((device) => [device, 0]));
  const next = (device: string) => {
    const sequence = (sequences.get(device) ?? 0) + 1;
    sequences.set(device, sequence);
    return sequence;
  };
  const points: Point[] = [];
  for (let day = 30; day > 0; day -= 1 + random.below(4)) {
    const members = random.sample(devices, 1 + random.below(devices.length));
    const group = random.below(3) === 0 ? undefined : groupOf('g', day, members.length);
    for (const device of members) points.push(made(device, next(device), day, group));
  }
  return points.filter(() => random.below(15) > 0);
}

test('random histories: a point stays if a rule keeps it or one that is of its whole group point', (t) => {
  const random = seededRandom(t);
  for (let round = 0; round < 400; round += 1) {
    const points = randomHistory(random);
    const counts = new Map(['a', 'b', 'c', 'd'].map((device) => [device, 1 + random.below(5)]));
    const fuzzy = new Set(points.filter(() => random.below(6) === 0).map(({ id }) => id));
    const facts = (device: string) => ({
      policy: { keepLast: counts.get(device) ?? 1 },
      isDamaged: (id: string) => fuzzy.has(id),
    });
    const plans = alone(points, facts);
    const own = new Set(plans.filter(({ stays }) => stays).map(({ point }) => label(point)));
    const expected = plans.flatMap(({ point }) => {
      const partners = points.filter(({ group }) => group !== undefined && group.id === point.group?.id);
      const isWhole = partners.length === point.group?.memberCount;
      const holders = isWhole ? partners : [point];
      return holders.some((holder) => own.has(label(holder))) ? [label(point)] : [];
    });
    const what = JSON.stringify(points.map((point) => [label(point), point.group?.sequence]));
    t.deepEqual(staying(points, facts), expected, what);
    const left = points.filter((point) => expected.includes(label(point)));
    t.deepEqual(staying(left, facts), expected, `again: ${what}`);
    for (const { reasons } of keepGroupsWhole(plans)) t.true(reasons.length > 0);
  }
});
