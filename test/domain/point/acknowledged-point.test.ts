import test from 'ava';
import {
  type AcknowledgedPoint,
  whyPointsAreMissing,
  whyRemoved,
} from '../../../src/domain/point/acknowledged-point.js';

const point = (sequence: number, id = String(sequence)): AcknowledgedPoint => ({
  id: id.repeat(32).slice(0, 32),
  sequence,
  committedAt: `2026-01-0${sequence}T00:00:00.000Z`,
});

type Case = readonly [string, AcknowledgedPoint | null, AcknowledgedPoint | null, readonly string[]];

const THERE: readonly Case[] = [
  ['nothing is remembered', null, null, []],
  ['nothing is remembered of a device with points', null, point(3), []],
  ['the point itself', point(3), point(3), []],
  ['a later one, of another agent of the name or of a lost answer', point(3), point(4), []],
  [
    'one of the same number that the agent made, and did not write down',
    point(3),
    point(3, 'a'),
    ['a'.repeat(32)],
  ],
  ['an earlier number that the agent made over an accepted store', point(5), point(4, 'a'), ['a'.repeat(32)]],
];

const MISSING: readonly (readonly [...Case, RegExp])[] = [
  [
    'an earlier one',
    point(3),
    point(2),
    [],
    /^point d@3 \(3{12}, committed at 2026-01-03.*\) was acknowledged, and .* is d@2 /,
  ],
  ['none', point(3), null, ['3'.repeat(32)], /and the store has no point of the device now$/],
  [
    'another one of the same number',
    point(3),
    point(3, 'a'),
    ['b'.repeat(32)],
    /d@3 \(3{12}.* is d@3 \(a{12}/,
  ],
];

for (const [what, acknowledged, last, own] of THERE) {
  test(`no point is missing: ${what}`, (t) => {
    t.is(whyPointsAreMissing('d', acknowledged, last, [...own, undefined]), null);
  });
}

for (const [what, acknowledged, last, own, reason] of MISSING) {
  test(`a point is missing, the last one is ${what}`, (t) => {
    t.regex(whyPointsAreMissing('d', acknowledged, last, own) ?? '', reason);
  });
}

test('only the mark of the very point that was acknowledged says that it was removed on purpose', (t) => {
  const removed = {
    ...{ id: point(3).id, agent: 'web1', device: 'd', sequence: 3 },
    ...{ removedAt: '2026-02-01T00:00:00.000Z', why: 'the operator forgot its device' },
  };
  t.regex(
    whyRemoved(point(3), null, removed) ?? '',
    /^point d@3 was removed .* on purpose, at 2026-02-01.*begins anew$/,
  );
  t.is(whyRemoved(point(3), null, null), null);
  t.is(whyRemoved(point(3, 'a'), null, removed), null, 'a point of the same number');
  t.is(whyRemoved(point(3), point(2), removed), null, 'an older copy of the store, with earlier points');
});
