/** Which audit is due, from points and journals. */
import test from 'ava';
import { dueAudits, type JournalPoint } from '../../../src/domain/journal/audits.js';
import type { StoredJournal } from '../../../src/domain/journal/journal.js';

const [J, K, CLOCK] = ['1'.repeat(32), '2'.repeat(32), 'c'.repeat(32)];
const GEOMETRY = { sizeBytes: 1 << 20, blockSize: 4096 };

const mark = (ordinal: number) => ({ ordinal, stamp: String(ordinal * 1000) });

function journal(first: number, last: number, changes: Partial<StoredJournal> = {}): StoredJournal {
  return {
    ...{ agent: 'web', device: 'data', journalId: J, clockId: CLOCK, first: mark(first), last: mark(last) },
    ...{ sizeBytes: 1000, end: null, audits: [], ...changes },
  };
}

function point(id: string, ordinal: number, changes: Partial<JournalPoint> = {}): JournalPoint {
  const position = { journalId: J, clockId: CLOCK, ...mark(ordinal) };
  return { id, agent: 'web', device: 'data', geometry: GEOMETRY, journal: position, ...changes };
}

const due = (journals: StoredJournal[], points: JournalPoint[]) =>
  dueAudits(journals, points).map(({ base, point }) => `${base.id}-${point.id}`);
const right = (pointId: string, ordinal: number) => ({ pointId, ordinal, fault: null });

test('each point is audited from the one before it, when all records up to it are there', (t) => {
  const points = [point('c', 30), point('a', 1), point('b', 10)];
  t.deepEqual(due([journal(1, 29)], points), ['a-b']);
  t.deepEqual(due([journal(1, 30)], points), ['a-b'], 'all up to the last good audit counts as proven');
  t.deepEqual(due([journal(1, 30, { audits: [right('b', 10)] })], points), ['b-c']);
  t.deepEqual(due([journal(1, 9)], points), []);
  t.deepEqual(due([], points), []);
});

test('what was removed of a journal, or never came, is not waited for', (t) => {
  const points = [point('a', 1), point('b', 10), point('c', 30)];
  t.deepEqual(due([journal(2, 40)], points), ['a-b'], 'the record of the base itself is not needed');
  t.deepEqual(due([journal(3, 40)], points), ['b-c']);
  t.deepEqual(due([journal(12, 40)], points), []);
  t.deepEqual(due([journal(1, 1, { first: null, last: null })], points), []);
});

test('a point that was removed leaves the one before it as base', (t) => {
  t.deepEqual(due([journal(1, 40, { audits: [right('b', 10)] })], [point('a', 1), point('c', 30)]), ['a-c']);
});

test('nothing follows a fault', (t) => {
  const fault = { ...right('b', 10), fault: 'block 3 differs' };
  const points = [point('a', 1), point('b', 10), point('c', 30)];
  t.deepEqual(due([journal(1, 40, { audits: [fault] })], points), []);
});

test('points of other journals, clocks, devices and agents are no bases', (t) => {
  const position = { journalId: J, clockId: CLOCK, ...mark(1) };
  for (const other of [
    { journal: { ...position, journalId: K } },
    { journal: { ...position, clockId: K } },
    { device: 'logs' },
    { agent: 'db' },
  ])
    t.deepEqual(due([journal(1, 40)], [point('a', 1, other), point('b', 10)]), [], JSON.stringify(other));
  const { journal: _, ...bare } = point('a', 1);
  t.deepEqual(due([journal(1, 40)], [bare, point('b', 10)]), []);
});

test('a device of another size says nothing of its journal, and holds nothing up', (t) => {
  const larger = { geometry: { ...GEOMETRY, sizeBytes: 2 << 20 } };
  const coarser = { geometry: { ...GEOMETRY, blockSize: 8192 } };
  for (const changed of [larger, coarser])
    t.deepEqual(due([journal(1, 40)], [point('a', 1), point('b', 10, changed), point('c', 30, changed)]), [
      'b-c',
    ]);
  t.deepEqual(due([journal(1, 40)], [point('a', 10), point('b', 10)]), [], 'one instant twice');
});
