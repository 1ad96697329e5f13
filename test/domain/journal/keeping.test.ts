/** Which records of journals go: nothing that a state within the time is made of. */
import test from 'ava';
import type { StoredJournal } from '../../../src/domain/journal/journal.js';
import { type KeepingFacts, type KeptPoint, needlessOf } from '../../../src/domain/journal/keeping.js';

const [J, K, CLOCK] = ['1'.repeat(32), '2'.repeat(32), 'c'.repeat(32)];
const HOUR = 3_600_000;
const NOW = Date.parse('2026-03-10T12:00:00.000Z');
const ms = (hoursAgo: number) => NOW - hoursAgo * HOUR;
const stamp = (hoursAgo: number) => String(BigInt(ms(hoursAgo)) * 1_000_000n);
/** One record an hour, the first 1000 hours ago. */
const mark = (hoursAgo: number) => ({ ordinal: 1001 - hoursAgo, stamp: stamp(hoursAgo) });

function journal(first: number, last: number, changes: Partial<StoredJournal> = {}): StoredJournal {
  return {
    ...{ agent: 'web', device: 'data', journalId: J, clockId: CLOCK, first: mark(first), last: mark(last) },
    ...{ sizeBytes: 1000, end: null, audits: [], ...changes },
  };
}

/** Committed an hour after its instant. */
function point(hoursAgo: number, journalId: string | null = J, changes: Partial<KeptPoint> = {}): KeptPoint {
  const position = journalId === null ? {} : { journal: { journalId, clockId: CLOCK, ...mark(hoursAgo) } };
  return {
    ...{ id: `p${hoursAgo}`, agent: 'web', device: 'data', sequence: 1001 - hoursAgo },
    geometry: { sizeBytes: 1 << 20, blockSize: 4096 },
    instant: new Date(ms(hoursAgo)).toISOString(),
    committedAt: new Date(ms(hoursAgo - 1)).toISOString(),
    ...{ ...position, ...changes },
  };
}

function needless(of: StoredJournal, points: readonly KeptPoint[], changes: Partial<KeepingFacts> = {}) {
  return needlessOf(of, {
    ...{ nowMs: NOW, points, keepMs: () => 24 * HOUR, isOpen: () => false, isHeard: () => true },
    ...changes,
  });
}

const through = (hoursAgo: number) => ({ what: 'records', throughOrdinal: 1001 - hoursAgo }) as const;
const ended = (hoursAgo: number) => ({
  end: { reason: 'the spool is full', stamp: stamp(hoursAgo), lastOrdinal: 1001 - hoursAgo },
});

test('records before the newest base at the begin of the time go, and no others', (t) => {
  t.deepEqual(needless(journal(60, 0), [point(60), point(40), point(30), point(10)]), through(30));
  t.deepEqual(needless(journal(60, 0), [point(60), point(10)]), through(60));
  t.is(needless(journal(29, 0), [point(30), point(10)]), null, 'they went already');
  t.is(needless(journal(20, 0), [point(20), point(10)]), null);
  t.deepEqual(needless(journal(60, 0), [point(60), point(10)], { keepMs: () => 5 * HOUR }), through(10));
});

test('a base counts when it was committed before the time, too', (t) => {
  t.deepEqual(needless(journal(60, 0), [point(40), point(24.5)]), through(40));
  const slow = point(30, J, { committedAt: new Date(ms(20)).toISOString() });
  t.deepEqual(needless(journal(60, 0), [point(40), slow]), through(40));
  t.is(needless(journal(30, 0), [slow]), null, 'it is the only base: nothing of it goes');
});

test('without a base what is older than the time goes', (t) => {
  const older = { what: 'older', throughStamp: String((BigInt(ms(24)) + 1n) * 1_000_000n - 1n) } as const;
  t.deepEqual(needless(journal(60, 0), []), older);
  t.deepEqual(needless(journal(60, 0), [point(10)]), older);
  t.is(needless(journal(20, 0), []), null);
  t.deepEqual(needless(journal(60, 30), []), through(30), 'all of it; but its agent goes on with it');
  t.deepEqual(needless(journal(60, 30), [], { isHeard: () => false }), { what: 'all' });
});

test('while a session is open its instant may be anywhere: only what a base made needless goes', (t) => {
  const open = { isOpen: () => true, isHeard: () => false };
  t.is(needless(journal(60, 0), [], open), null);
  t.is(needless(journal(60, 30), [], open), null);
  t.is(needless(journal(60, 30, ended(30)), [], open), null);
  t.deepEqual(needless(journal(60, 0), [point(40)], open), through(40));
});

test('the last state of a device stays until a newer point takes its place', (t) => {
  const silent = { isHeard: () => false };
  for (const over of [{}, ended(100)]) {
    const dead = journal(200, 100, over);
    t.deepEqual(needless(dead, [point(200)], silent), through(200), 'it never goes as a whole');
    t.is(needless(journal(199, 100, over), [point(200)], silent), null);
    for (const newer of [point(90, null), point(90, K), point(100, K)])
      t.deepEqual(needless(dead, [point(200), newer], silent), { what: 'all' });
    t.deepEqual(needless(dead, [point(200), point(20, K)], silent), through(200), 'too new');
    t.deepEqual(needless(dead, [point(200), point(90, K, { device: 'logs' })], silent), through(200));
    // Its instant was before the journal's end: the journal has a later state.
    const long = point(101, K, { committedAt: new Date(ms(90)).toISOString() });
    t.deepEqual(needless(dead, [point(200), long], silent), through(200));
    // A base of the journal that is newer still: its records may follow.
    t.deepEqual(needless(dead, [point(200), point(110, K), point(100)], silent), through(100));
  }
});

test('a journal that its agent goes on with is never removed', (t) => {
  const replaced = [point(200), point(90, K)];
  t.deepEqual(needless(journal(200, 100), replaced), through(200));
  t.deepEqual(needless(journal(200, 100, ended(100)), replaced), through(200));
  const open = { isHeard: () => false, isOpen: () => true };
  t.deepEqual(needless(journal(200, 100), replaced, open), through(200));
});

test('a journal without records goes, unless it is new', (t) => {
  const empty = (changes: Partial<StoredJournal> = {}) =>
    journal(1, 1, { first: null, last: null, ...changes });
  const silent = { isHeard: () => false };
  t.is(needless(empty(), []), null);
  t.deepEqual(needless(empty(), [], silent), { what: 'all' });
  t.is(needless(empty(ended(20)), [], silent), null);
  t.deepEqual(needless(empty(ended(25)), [], silent), { what: 'all' });
});

test('the time is that of the device', (t) => {
  const keepMs = ({ device }: { readonly device: string }) => (device === 'data' ? 48 : 1) * HOUR;
  t.deepEqual(needless(journal(90, 0), [point(90), point(30)], { keepMs }), through(90));
  t.is(needless(journal(90, 0), [point(90)], { keepMs: () => Number.MAX_SAFE_INTEGER }), null);
});
