/** Group points: when one is whole, and what a name means. */
import test from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import {
  brokenGroupPoints,
  groupPoints,
  isPart,
  partText,
  seenByItsAgent,
} from '../../../src/domain/point/group.js';
import { refuseGroup, resolveNamed } from '../../../src/domain/point/named.js';
import { type Point, type PointGroup, pointLabel } from '../../../src/domain/point/point.js';
import { parsePointRef, pointName } from '../../../src/domain/point/point-ref.js';
import { makePoint } from '../../helpers/bytes/points.js';

const idOf = (text: string) => Buffer.from(text).toString('hex').padEnd(32, '0');
const groupOf = (sequence: number, more: Partial<PointGroup> = {}): PointGroup => ({
  ...{ id: idOf(`group${sequence}`), name: 'db', sequence, memberCount: 2 },
  ...more,
});
const made = (device: string, sequence: number, group?: PointGroup, agent = 'local'): Point =>
  makePoint({
    ...{ agent, device, sequence, id: idOf(`${agent[0]}${device}${sequence}`) },
    ...(group === undefined ? {} : { group }),
  });

const POINTS = [
  ...[made('data', 1, groupOf(1)), made('data', 2, groupOf(2, { missing: ['etc'] })), made('data', 3)],
  ...[made('wal', 4, groupOf(1)), made('wal', 5, groupOf(2, { missing: ['etc'] }))],
];
const resolve = (text: string, points: readonly Point[] = POINTS, own: string | null = null) => {
  const found = resolveNamed(parsePointRef(text), points, own);
  return found.kind === 'point'
    ? pointLabel(found.point)
    : `${found.group.name}@${found.group.sequence}: ${found.group.points.map(pointLabel).join(' ')}`;
};
const refusal = (t: import('ava').ExecutionContext, text: string, points: readonly Point[] = POINTS) =>
  t.throws(() => resolve(text, points), { instanceOf: StillpointError });

test('a group point is whole if all its points are there', (t) => {
  t.deepEqual(
    groupPoints(POINTS).map(({ sequence, missing, points }) => [
      sequence,
      missing,
      ...points.map(pointLabel),
    ]),
    [
      [1, [], 'data@1', 'wal@4'],
      [2, ['etc'], 'data@2', 'wal@5'],
    ],
  );
  t.deepEqual(brokenGroupPoints(POINTS), []);
  const lost = POINTS.filter((point) => pointLabel(point) !== 'wal@4');
  t.deepEqual(
    groupPoints(lost).map(({ sequence }) => sequence),
    [2],
  );
  t.deepEqual(
    brokenGroupPoints(lost).map(({ name, sequence, memberCount, points }) => [
      ...[`${name}@${sequence}`, memberCount],
      ...points.map(pointLabel),
    ]),
    [['db@1', 2, 'data@1']],
  );
});

test('a name means a device first, then a group; an id may be of either', (t) => {
  t.is(resolve('data@latest'), 'data@3');
  t.is(resolve('db@latest'), 'db@2: data@2 wal@5');
  t.is(resolve('db@1'), 'db@1: data@1 wal@4');
  t.is(resolve('db@2026-01-01'), 'db@1: data@1 wal@4');
  t.is(resolve(idOf('group1').slice(0, 12)), 'db@1: data@1 wal@4');
  t.is(resolve(idOf('lwal5')), 'wal@5');
  t.is(resolve('db@1', [...POINTS, made('db', 1)]), 'db@1', 'a device of that name counts');
});

test('in a directory of several agents, the agent says whose group is meant', (t) => {
  const others = [made('data', 1, groupOf(7), 'web1'), made('log', 1, groupOf(7), 'web1')];
  const all = [...POINTS, ...others, made('db', 9, undefined, 'web2')];
  t.is(resolve('web1/db@latest', all, 'local'), 'db@7: data@1 log@1');
  t.is(resolve('local/db@latest', all, 'local'), 'db@2: data@2 wal@5');
  t.is(resolve('db@latest', all, 'local'), 'db@9', 'of all devices of that name');
  t.is(resolve('db@latest', [...POINTS, ...others], 'local'), 'db@2: data@2 wal@5');
});

test('what is not there is refused with what is', (t) => {
  t.regex(refusal(t, 'nothing@latest')?.message ?? '', /Devices with points: data, wal\. Groups: db\./);
  t.regex(refusal(t, 'nothing@latest', [made('data', 1)])?.message ?? '', /points: data\.$/);
  t.like(refusal(t, 'db@9'), { code: 'point-unknown' });
  const lost = POINTS.filter((point) => pointLabel(point) !== 'wal@4');
  const broken = refusal(t, 'db@1', lost);
  t.is(broken?.code, 'point-unknown');
  t.is(
    broken?.message,
    'group point db@1: it is not whole any more: 1 of its 2 points is left. Name one of its points: data@1.',
  );
  t.is(resolve('db@latest', lost), 'db@2: data@2 wal@5');
  t.regex(refusal(t, 'db@latest', lost.slice(0, 1))?.message ?? '', /^group point db@1: it is not whole/);
  const [whole] = groupPoints(POINTS);
  if (whole === undefined) throw new Error('it is whole');
  t.throws(() => refuseGroup(whole, null), {
    message: 'group point db@1: it is 2 points, and one is needed. Name one of its points: data@1, wal@4.',
  });
});

const of = (ownCount: number): PointGroup => groupOf(1, { memberCount: 3, ownCount, missing: ['c/etc'] });
const SHARED = [
  ...[made('data', 1, of(2), 'db1'), made('wal', 4, of(2), 'db1')],
  ...[made('data', 7, of(1), 'db2'), made('data', 8, undefined, 'db2')],
];

test('a group of the receiver is whole with all agents, and an agent has its part of it', (t) => {
  const seen = (points: readonly Point[]) =>
    groupPoints(points).map((group) => [
      ...[group.agent, isPart(group), group.memberCount],
      ...group.points.map((point) => pointName(point, null)),
    ]);
  const own = SHARED.filter(({ agent }) => agent === 'db1');
  t.deepEqual(seen(SHARED), [['local', false, 3, 'data@1', 'wal@4', 'data@7']]);
  t.deepEqual(seen(own), [['local', true, 3, 'data@1', 'wal@4']]);
  t.is(resolve('db@latest', own), 'db@1: data@1 wal@4');
  t.is(resolve('db@latest', SHARED, 'local'), 'db@1: data@1 wal@4 data@7');
  t.is(resolve('db2/data@7', SHARED, 'local'), 'data@7');
  const [group] = groupPoints(own);
  t.is(group === undefined ? '' : partText(group), '2 of 3 points, the others are of other agents');
  const lost = own.slice(1);
  t.deepEqual(groupPoints(lost), []);
  t.is(brokenGroupPoints(lost)[0]?.points.length, 1);
  t.is(brokenGroupPoints(SHARED.slice(1))[0]?.agent, 'local');
});

test('a group of the receiver is its own, also if one agent has all points of it', (t) => {
  const alone = groupOf(2, { memberCount: 2, ownCount: 2, missing: ['db2/data'] });
  const points = [...SHARED, made('data', 2, alone, 'db1'), made('wal', 5, alone, 'db1')];
  t.is(resolve('db@latest', points, 'local'), 'db@2: data@2 wal@5');
  t.deepEqual(
    groupPoints(points).map(({ agent, sequence }) => [agent, sequence]),
    [
      ['local', 1],
      ['local', 2],
    ],
  );
  const [last] = groupPoints(points.slice(-2), 'db1');
  t.is(last?.agent, 'db1', 'as the agent sees it');
});

test('an agent is not told which members of other agents are missing', (t) => {
  const [point] = SHARED;
  if (point?.group === undefined) return t.fail();
  t.false('missing' in (seenByItsAgent(point).group ?? {}));
  const own = { ...point, group: { ...point.group, missing: ['db1/log', 'c/etc'] } };
  t.deepEqual(seenByItsAgent(own).group?.missing, ['db1/log']);
  const [, local] = POINTS;
  if (local !== undefined) t.is(seenByItsAgent(local), local, 'a group of its own');
});
