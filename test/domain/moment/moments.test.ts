/** What DEVICE@TIME means where there are journals: rule by rule. */
import test from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { JournalAudit, StoredJournal } from '../../../src/domain/journal/journal.js';
import { type AtTime, resolveTime } from '../../../src/domain/moment/moments.js';
import type { Point } from '../../../src/domain/point/point.js';
import { parsePointRef } from '../../../src/domain/point/point-ref.js';
import {
  isoAt,
  pointAt,
  positionAt,
  stampAt,
  storedJournal,
} from '../../helpers/journals/stored-journals.js';

function at(text: string, points: readonly Point[], journals: readonly StoredJournal[]): AtTime {
  const ref = parsePointRef(`disk1@${text}`);
  if (ref.by !== 'time') throw new Error(`${text} is not a time`);
  return resolveTime(ref, points, journals, null);
}

/** A point as `@3`, a moment as `@3 +5..70`: behind which ordinal, up to which second. */
function said(found: AtTime): string {
  if (found.kind === 'point') return `@${found.point.sequence}`;
  const { base, afterOrdinal, reachStamp } = found.moment;
  const second = Number(BigInt(reachStamp) - BigInt(stampAt(0))) / 1e9;
  return `@${base.sequence} +${afterOrdinal}..${Number(second.toFixed(3))}`;
}

const good = (ordinal: number, sequence: number): JournalAudit => ({
  ...{ ordinal, fault: null },
  pointId: pointAt(sequence, 0).id,
});

const bad = (ordinal: number, sequence: number): JournalAudit => ({
  ...good(ordinal, sequence),
  fault: '2 blocks differ',
});

/** Points at 0, 60 and 120 s: records 1, 11 and 21 of a journal that goes up to record 30, at 180 s. */
const POINTS = [1, 2, 3].map((sequence) => {
  const second = (sequence - 1) * 60;
  return pointAt(sequence, second, positionAt(1, sequence * 10 - 9, second));
});
const JOURNAL = storedJournal(1, [1, 0], [30, 180]);
const without = (sequence: number) => POINTS.filter((point) => point.sequence !== sequence);

test('a time is the last base before its end, and all records up to its end', (t) => {
  t.is(said(at(isoAt(90).replace('.000', ''), POINTS, [JOURNAL])), '@2 +11..91');
  t.is(said(at('2026-03-01T12:01Z', POINTS, [JOURNAL])), '@2 +11..120');
  t.is(said(at('2026-03-01T12:01:30.25Z', POINTS, [JOURNAL])), '@2 +11..90.26');
  const found = at('2026-03-01T12:01:30Z', POINTS, [JOURNAL]);
  t.is(found.kind === 'moment' && found.moment.throughStamp, String(BigInt(stampAt(91)) - 1n));
});

test('a point within the second that is named is that point, and records of that second are left', (t) => {
  t.is(said(at('2026-03-01T12:01:00Z', POINTS, [JOURNAL])), '@2');
  t.is(said(at('2026-03-01T12:01:00.000Z', POINTS, [JOURNAL])), '@2');
  t.is(said(at('2026-03-01T12:01:00.5Z', POINTS, [JOURNAL])), '@2 +11..60.6');
  const twins = [...POINTS, pointAt(4, 60.5)];
  t.throws(() => at('2026-03-01T12:01:00Z', twins, [JOURNAL]), { message: /2 points were taken within/ });
});

test('behind the last record it is the last record, if no point is later', (t) => {
  t.is(said(at('2026-03-01T12:10Z', POINTS, [JOURNAL])), '@3 +21..180');
  const found = at('2026-03-01T12:10Z', POINTS, [JOURNAL]);
  t.deepEqual(found.kind === 'moment' && found.moment.lastOrdinal, 30);
  const within = at('2026-03-01T12:02:30Z', POINTS, [JOURNAL]);
  t.deepEqual(within.kind === 'moment' && within.moment.lastOrdinal, null);
  t.is(said(at('2026-03-01T12:10Z', [...POINTS, pointAt(4, 200)], [JOURNAL])), '@4');
  t.is(said(at('2026-03-01T12:03:10Z', [...POINTS, pointAt(4, 200)], [JOURNAL])), '@3 +21..180');
});

test('before the first point there is nothing; where there are no journals, points mean what they did', (t) => {
  const error = t.throws(() => at('2026-03-01T11:59Z', POINTS, [JOURNAL]), { instanceOf: StillpointError });
  t.is(error?.code, 'point-unknown');
  t.is(said(at('2026-03-01T12:01:30Z', POINTS, [])), '@2');
  t.is(said(at('2026-03-01T12:01:30Z', POINTS, [{ ...JOURNAL, agent: 'other' }])), '@2');
  t.is(said(at('2026-03-01T12:01:30Z', POINTS, [{ ...JOURNAL, device: 'disk2' }])), '@2');
  t.is(said(at('2026-03-01T12:01:30Z', POINTS, [{ ...JOURNAL, clockId: 'd'.repeat(32) }])), '@2');
});

test('a base whose records were removed is a point and nothing else; the next one is a base', (t) => {
  const trimmed = storedJournal(1, [12, 61], [30, 180]);
  t.is(said(at('2026-03-01T12:00:30Z', POINTS, [trimmed])), '@1');
  t.is(said(at('2026-03-01T12:01:30Z', POINTS, [trimmed])), '@2 +11..91');
  const more = storedJournal(1, [13, 62], [30, 180]);
  t.is(said(at('2026-03-01T12:01:30Z', POINTS, [more])), '@2');
  t.is(said(at('2026-03-01T12:02:30Z', POINTS, [more])), '@3 +21..151');
});

test('a base whose records have not arrived is a point; up to the last one before it, they are there', (t) => {
  const late = storedJournal(1, [1, 0], [15, 85]);
  t.is(said(at('2026-03-01T12:01:40Z', POINTS, [late])), '@2 +11..85');
  t.is(said(at('2026-03-01T12:02:30Z', POINTS, [late])), '@3');
  t.is(said(at('2026-03-01T12:02:30Z', POINTS, [storedJournal(1, [1, 0], [21, 120])])), '@3');
  t.is(said(at('2026-03-01T12:02:30Z', POINTS, [storedJournal(1, null, null)])), '@3');
});

test('between a journal that broke and the next, it is the last record of the former', (t) => {
  const broken = storedJournal(1, [1, 0], [18, 90], {
    end: { reason: 'the spool is full', stamp: stampAt(91), lastOrdinal: 18 },
  });
  const points = [...POINTS.slice(0, 2), pointAt(3, 120, positionAt(2, 1, 120))];
  const next = storedJournal(2, [1, 120], [9, 170]);
  const between = at('2026-03-01T12:01:45Z', points, [next, broken]);
  t.is(said(between), '@2 +11..90');
  t.is(between.kind === 'moment' && between.moment.endReason, 'the spool is full');
  t.is(said(at('2026-03-01T12:02:05Z', points, [next, broken])), '@3 +1..126');
  const before = at('2026-03-01T12:01:20Z', points, [next, broken]);
  t.is(before.kind === 'moment' && before.moment.endReason, null);
});

test('of two journals that have a time, since their clocks differ, the later one counts', (t) => {
  const points = [pointAt(1, 0, positionAt(1, 1, 0)), pointAt(2, 30, positionAt(2, 1, 30))];
  const journals = [storedJournal(1, [1, 0], [9, 300]), storedJournal(2, [1, 30], [9, 200])];
  t.is(said(at('2026-03-01T12:01:00Z', points, journals)), '@2 +1..61');
  t.is(said(at('2026-03-01T12:00:10Z', points, journals)), '@1 +1..11');
});

test('where the clock was set back, stamps tell the time; a listed second still names its point', (t) => {
  // At 100 s the clock was set back by 60 s; the stamps went on.
  const points = [pointAt(1, 0, positionAt(1, 1, 0)), pointAt(2, 45, positionAt(1, 11, 100.001))];
  const journal = storedJournal(1, [1, 0], [30, 180]);
  t.is(said(at('2026-03-01T12:00:45Z', points, [journal])), '@2');
  t.is(said(at('2026-03-01T12:00:50Z', points, [journal])), '@1 +1..51');
  t.is(said(at('2026-03-01T12:01:50Z', points, [journal])), '@2 +11..111');
});

test('what a later point showed to be wrong is refused, with what there is beside it', (t) => {
  const journal = storedJournal(1, [1, 0], [30, 180], { audits: [good(11, 2), bad(21, 3)] });
  t.is(said(at('2026-03-01T12:00:30Z', POINTS, [journal])), '@1 +1..31');
  for (const text of ['2026-03-01T12:01:01Z', '2026-03-01T12:01:59Z', '2026-03-01T12:01:00.9Z']) {
    const error = t.throws(() => at(text, POINTS, [journal]), { instanceOf: StillpointError });
    t.is(error?.code, 'journal-faulty');
    t.regex(error?.message ?? '', /2 blocks differ, as the later point disk1@3 showed/);
    t.regex(
      error?.message ?? '',
      /Restore disk1@2 \(.*\) or disk1@3 \(.*, or a time up to 2026-03-01T12:01:00/,
    );
  }
  t.is(said(at('2026-03-01T12:01:00Z', POINTS, [journal])), '@2');
  // The journal has ended at the point that showed it: what came behind was never proven, and is not used.
  t.is(said(at('2026-03-01T12:02:30Z', POINTS, [journal])), '@3');
  t.is(said(at('2026-03-01T12:02:00Z', POINTS, [journal])), '@3');
});

test('where points of audits were removed, more is refused, and never less', (t) => {
  const journal = storedJournal(1, [1, 0], [30, 180], { audits: [good(11, 2), bad(21, 3)] });
  const refuses = (text: string, points: readonly Point[]) =>
    t.is(
      t.throws(() => at(text, points, [journal]), { instanceOf: StillpointError })?.code,
      'journal-faulty',
    );
  refuses('2026-03-01T12:00:30Z', without(2));
  refuses('2026-03-01T12:01:30Z', without(2));
  refuses('2026-03-01T12:01:30Z', without(3));
  refuses('2026-03-01T12:02:30Z', without(3));
  t.is(said(at('2026-03-01T12:00:30Z', without(3), [journal])), '@1 +1..31');
  t.is(said(at('2026-03-01T12:10Z', [...without(3), pointAt(4, 200)], [journal])), '@4');
  const first = storedJournal(1, [1, 0], [30, 180], { audits: [bad(11, 2)] });
  t.throws(() => at('2026-03-01T12:00:01Z', POINTS, [first]), {
    message: /as the later point disk1@2 showed/,
  });
});

test('a moment knows up to where it was audited', (t) => {
  const journal = storedJournal(1, [1, 0], [30, 180], { audits: [good(11, 2), good(21, 3)] });
  const found = at('2026-03-01T12:02:30Z', without(2), [journal]);
  t.is(found.kind === 'moment' && found.moment.auditedOrdinal, 21);
});

test.serial('a local time that clocks show twice is refused where it means two states', (t) => {
  process.env.TZ = 'Europe/Vienna';
  t.teardown(() => {
    delete process.env.TZ;
  });
  const ms = (text: string) => (Date.parse(text) - Date.parse('2026-03-01T12:00:00Z')) / 1000;
  const [begin, end] = [ms('2026-10-24T12:00:00Z'), ms('2026-10-25T12:00:00Z')];
  const points = [pointAt(1, begin, positionAt(1, 1, begin))];
  const journal = storedJournal(1, [1, begin], [30, end]);
  const message = t.throws(() => at('2026-10-25 02:30:00', points, [journal]))?.message ?? '';
  t.regex(message, /something different each time/);
  t.regex(message, /disk1@2026-10-25T00:30:00\.999Z, disk1@2026-10-25T01:30:00\.999Z/);
  const [, named = ''] = /disk1@(\S+?),/.exec(message) ?? [];
  const one = at(named, points, [journal]);
  const other = at('2026-10-25T00:30:00Z', points, [journal]);
  t.deepEqual(one, other, 'what the message names is one of them');
  // Both mean the end of a journal that ended before.
  t.is(at('2026-10-25 02:30:00', points, [storedJournal(1, [1, begin], [30, begin + 60])]).kind, 'moment');
});
