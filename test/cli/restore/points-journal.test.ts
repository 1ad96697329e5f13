/** `points --journal`, as people and scripts see it. */
import test from 'ava';
import { spanLines, spanView } from '../../../src/cli/commands/points-journal.js';
import { type Span, spansOf } from '../../../src/domain/moment/spans.js';
import {
  journalIdOf,
  pointAt,
  positionAt,
  stampAt,
  storedJournal,
} from '../../helpers/journals/stored-journals.js';

process.env.TZ = 'UTC';

const POINTS = [1, 2, 3].map((sequence) => {
  const second = (sequence - 1) * 600;
  return pointAt(sequence, second, positionAt(1, sequence * 10 - 9, second));
});
const audit = (sequence: number, fault: string | null) => ({
  ...{ pointId: POINTS[sequence - 1]?.id ?? '', ordinal: sequence * 10 - 9, fault },
});

test('a journal is what was audited, and the rest, with its end', (t) => {
  const end = { reason: 'the spool is full', stamp: stampAt(1501), lastOrdinal: 30 };
  const journal = storedJournal(1, [1, 0], [30, 1500], {
    audits: [audit(2, null)],
    end,
    sizeBytes: 3_000_000,
  });
  const spans = spansOf([journal, storedJournal(2, [1, 2000], [2, 2001])], POINTS);
  t.deepEqual(spanLines(spans, null), [
    'DEVICE  FROM                  TO                    STATE            POINTS     JOURNAL  ID',
    'disk1   2026-03-01 12:00:00Z  2026-03-01 12:10:00Z  audited          @1        2.86 MiB  000000000000',
    'disk1   2026-03-01 12:10:00Z  2026-03-01 12:25:00Z  not audited yet  @2 to @3',
    'disk1: the journal after disk1@2 ended at 2026-03-01 12:25:00Z: the spool is full',
  ]);
  t.like(spanView(spans[0] as Span), {
    ...{ agent: 'local', device: 'disk1', state: 'audited', reason: null },
    ...{ from: '2026-03-01T12:00:00.000000000Z', to: '2026-03-01T12:10:00.000000000Z' },
    bases: [{ id: POINTS[0]?.id, sequence: 1 }],
    journal: { journalId: journalIdOf(1), sizeBytes: 3_000_000, isEnded: true },
  });
});

test('what is refused says why', (t) => {
  const audits = [audit(2, null), audit(3, '2 blocks differ')];
  const lines = spanLines(spansOf([storedJournal(1, [1, 0], [30, 1500], { audits })], POINTS), 'local');
  t.regex(lines[2] ?? '', /^disk1 .*12:10:00Z .*12:20:00Z {2}REFUSED +@2$/);
  t.is(
    lines[3],
    'disk1: REFUSED after disk1@2, from 2026-03-01 12:10:00Z to 2026-03-01 12:20:00Z: 2 blocks differ',
  );
  t.is(lines.length, 4);
});
