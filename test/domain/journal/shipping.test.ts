import test, { type ExecutionContext } from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { JOURNAL_APPEND_BYTES_MAX } from '../../../src/domain/base/limits.js';
import type { StoredJournal } from '../../../src/domain/journal/journal.js';
import { JournalShipping, releasable, type ShippingHead } from '../../../src/domain/journal/shipping.js';
import {
  ModelJournal,
  ModelReceiver,
  ModelShipper,
  refusal,
  tellTap,
} from '../../helpers/journals/shipping.js';
import { LONG, type Random, seededRandom } from '../../helpers/seed.js';

const OPEN: ShippingHead = { state: 'open', ordinal: 5, lastOrdinal: 6, brokenStamp: '0', reason: '' };
const BROKEN: ShippingHead = {
  state: 'broken',
  ordinal: 5,
  lastOrdinal: 5,
  brokenStamp: '60',
  reason: 'full',
};
const mark = (ordinal: number) => ({ ordinal, stamp: String(10 * ordinal) });
const stored = (last: number, more: Partial<StoredJournal> = {}): StoredJournal => ({
  ...{ agent: 'a', device: 'd', journalId: 'j', clockId: 'c', sizeBytes: 0, end: null, audits: [] },
  ...{ first: last === 0 ? null : mark(1), last: last === 0 ? null : mark(last) },
  ...more,
});
const cost = (tookMs: number, bytes = 1) => ({ bytes, tookMs });

function begun(last = 0, head = OPEN): JournalShipping {
  const shipping = new JournalShipping(() => 0.5);
  shipping.began(stored(last), head);
  return shipping;
}

test('it asks first, ships what the head has beyond, and ends a broken journal', (t) => {
  const shipping = new JournalShipping(() => 0.5);
  t.deepEqual(shipping.next(OPEN, 0), { kind: 'begin' });
  shipping.began(stored(2), OPEN);
  t.like(shipping.next(OPEN, 0), { kind: 'append', after: mark(2) });
  shipping.appended(mark(5), { last: mark(5) }, cost(2000));
  t.deepEqual(shipping.next(OPEN, 0), { kind: 'wait', untilMs: null });
  t.deepEqual(shipping.next({ ...BROKEN, lastOrdinal: 6 }, 0).kind, 'wait', 'the tap still stores its last');
  const end = { reason: 'full', stamp: '60', lastOrdinal: 5 };
  t.deepEqual(shipping.next(BROKEN, 0), { kind: 'end', end });
  t.false(shipping.isDone);
  shipping.ended();
  t.true(shipping.isDone);
  t.is(shipping.breakReason, null);
  t.is(shipping.next(BROKEN, 0).kind, 'wait');
});

test('a failure has it wait, longer each time, and ask again what the receiver has', (t) => {
  const shipping = begun(2);
  const pauses: number[] = [];
  for (let nowMs = 0; pauses.length < 8; ) {
    shipping.failed(refusal('store-full'), nowMs);
    const step = shipping.next(OPEN, nowMs);
    if (step.kind !== 'wait' || step.untilMs === null) return t.fail(step.kind);
    pauses.push(step.untilMs - nowMs);
    nowMs = step.untilMs;
    t.is(shipping.next(OPEN, nowMs).kind, 'begin');
    shipping.began(stored(2), OPEN);
    t.is(shipping.failure?.code, 'store-full', 'that it answers is not that it takes records');
  }
  t.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
  shipping.appended(mark(5), { last: mark(5) }, cost(1));
  t.is(shipping.failure, null);
  shipping.failed(refusal('timeout'), 0);
  t.deepEqual(shipping.next(OPEN, 0), { kind: 'wait', untilMs: 1000 });
});

test('a gap is asked about once; the second at the same place is for good', (t) => {
  const shipping = begun(3);
  shipping.failed(refusal('journal-gap'), 0);
  t.is(shipping.next(OPEN, 0).kind, 'begin', 'at once');
  shipping.began(stored(1), OPEN);
  t.like(shipping.next(OPEN, 0), { kind: 'append', after: mark(1) });
  shipping.failed(refusal('journal-gap'), 0);
  t.is(shipping.breakReason, null, 'at another place');
  shipping.began(stored(1), OPEN);
  shipping.failed(refusal('journal-gap'), 0);
  t.regex(shipping.breakReason ?? '', /journal-gap/);
  t.true(shipping.isDone);
});

test('a refusal for good breaks it; records that are not to be had do, too, and its end is told', (t) => {
  for (const code of ['journal-closed', 'bad-message'] as const) {
    const shipping = begun();
    shipping.failed(new StillpointError(code, { thing: 'journal', reason: 'no' }), 0);
    t.is(shipping.breakReason, 'journal: no');
    t.is(shipping.next(BROKEN, 0).kind, 'wait', 'nothing is left to tell');
  }
  const shipping = begun(2);
  shipping.lost('it was released');
  t.is(shipping.breakReason, 'it was released');
  t.is(shipping.next(OPEN, 0).kind, 'wait');
  t.is(shipping.next(BROKEN, 0).kind, 'end');
  shipping.failed(refusal('timeout'), 0);
  t.is(shipping.next(BROKEN, 999).kind, 'wait');
  t.is(shipping.next(BROKEN, 1000).kind, 'end');
  shipping.failed(refusal('journal-unknown'), 1000);
  t.true(shipping.isDone);
});

test('a journal that the receiver has ended is done if it is broken here, too, and else it is to be broken', (t) => {
  const end = { reason: 'an audit', stamp: '40', lastOrdinal: 3 };
  const faulty = { pointId: 'p', ordinal: 3, fault: 'block 7 differs' };
  for (const more of [{ end }, { audits: [faulty] }]) {
    const broken = new JournalShipping(() => 0.5);
    broken.began(stored(3, more), BROKEN);
    t.true(broken.isDone);
    t.is(broken.breakReason, null);
    const open = new JournalShipping(() => 0.5);
    open.began(stored(3, more), OPEN);
    t.regex(open.breakReason ?? '', /an audit|block 7 differs/);
  }
  const fine = new JournalShipping(() => 0.5);
  fine.began(stored(3, { audits: [{ ...faulty, fault: null }] }), OPEN);
  t.is(fine.breakReason, null);
});

test('records that are not the same at the receiver are never followed by others', (t) => {
  const ahead = new JournalShipping(() => 0.5);
  ahead.began(stored(6), OPEN);
  t.regex(ahead.breakReason ?? '', /earlier state/);
  const differing = begun(2);
  differing.appended(mark(4), { last: { ordinal: 4, stamp: '41' } }, cost(1));
  t.regex(differing.breakReason ?? '', /earlier state/);
  const late = begun(2);
  late.appended(mark(4), { last: mark(5) }, cost(1));
  t.is(late.breakReason, null, 'an earlier message has come late');
  t.is(late.next(OPEN, 0).kind, 'begin');
});

test('a message is as large as the link carries in a few seconds', (t) => {
  const shipping = begun();
  const head = { ...OPEN, ordinal: 1000 };
  const bytesNext = () => {
    const step = shipping.next(head, 0);
    return step.kind === 'append' ? step.bytesMax : 0;
  };
  const append = (ordinal: number, tookMs: number, bytes: number) =>
    shipping.appended(mark(ordinal), { last: mark(ordinal) }, cost(tookMs, bytes));
  const first = bytesNext();
  append(1, 10, 100);
  t.is(bytesNext(), first, 'a small one that is fast says nothing');
  for (let ordinal = 2; ordinal < 10; ordinal += 1) append(ordinal, 500, bytesNext());
  t.is(bytesNext(), JOURNAL_APPEND_BYTES_MAX);
  append(10, 2000, bytesNext());
  t.is(bytesNext(), JOURNAL_APPEND_BYTES_MAX);
  append(11, 5000, bytesNext());
  t.is(bytesNext(), JOURNAL_APPEND_BYTES_MAX / 2);
  for (let ordinal = 12; ordinal < 40; ordinal += 1) append(ordinal, 5000, bytesNext());
  t.is(bytesNext(), 65_536);
});

test('a tap may forget what all receivers have, and a broken journal when all are done with it', (t) => {
  t.is(releasable([], BROKEN), null);
  t.is(releasable([begun(2), begun(4)], OPEN), 2);
  t.is(releasable([begun(0), begun(4)], OPEN), null);
  const refused = begun(1);
  refused.failed(refusal('journal-closed'), 0);
  t.is(releasable([refused, begun(4)], OPEN), 4);
  t.is(releasable([refused], OPEN), null, 'it is broken first');
  t.is(releasable([refused], BROKEN), 5);
  const lost = begun(1);
  lost.lost('x');
  t.is(releasable([lost], BROKEN), null, 'its end is told first');
  const last = begun(5, BROKEN);
  t.is(releasable([refused, last], BROKEN), 4, 'with its last record it would be forgotten');
  last.ended();
  t.is(releasable([refused, last], BROKEN), 5);
});

test('whatever is lost, repeated, refused or restarted: no gap, nothing released too early, all is shipped', (t) => {
  const random = seededRandom(t);
  for (let run = 0; run < (LONG ? 3000 : 100); run += 1) runWorld(t, random);
});

function runWorld(t: ExecutionContext, random: Random): void {
  const receivers = Array.from({ length: 1 + random.below(2) }, () => new ModelReceiver());
  const journals: ModelJournal[] = [];
  let shippers: ModelShipper[] = [];
  // A receiver that has lost records may never get them again: then the journal ends short.
  const short = new Set<string>();
  let nowMs = 0;
  const hold = () => {
    journals.at(-1)?.break();
    const journal = new ModelJournal(`j${journals.length}`, 1000 * (journals.length + 1) ** 3);
    journals.push(journal);
    journal.write(1, random);
    shippers.push(...receivers.map((receiver) => new ModelShipper(journal, receiver, random)));
  };
  hold();
  const of = (journal: ModelJournal) => shippers.filter((shipper) => shipper.journal === journal);
  const act = (isFaulty: boolean) => {
    const living = shippers.filter(({ journal }) => !journal.isGone);
    if (living.length > 0) random.pick(living).step(nowMs, isFaulty);
    nowMs += random.below(3000);
    const journal = random.pick(journals);
    if (journal.isGone) return;
    journal.publish(random);
    tellTap(journal, of(journal));
    check(t, journal, of(journal), short);
  };
  for (let i = 0; i < 150; i += 1) {
    const newest = journals.at(-1) as ModelJournal;
    const kind = random.below(20);
    if (kind < 6) newest.write(1 + random.below(6), random);
    else if (kind === 6) newest.break();
    else if (kind === 7 && newest.state === 'broken') hold();
    else if (kind === 8) for (const shipper of shippers) if (!shipper.journal.isGone) shipper.restart();
    if (kind === 9) random.pick(receivers).isFull = random.below(2) === 0;
    if (kind === 10) random.pick(receivers).hearAgain(random);
    if (kind === 11 && random.below(4) === 0) loseNewest(random.pick(receivers), random, short);
    act(true);
  }
  for (const receiver of receivers) receiver.isFull = false;
  journals.at(-1)?.break();
  for (let i = 0; i < 5000 && journals.some(({ isGone }) => !isGone); i += 1) {
    for (const journal of journals) journal.ordinal = journal.marks.length;
    act(false);
  }
  for (const journal of journals) {
    t.true(journal.isGone, 'the tap has forgotten it');
    for (const [at, receiver] of receivers.entries()) {
      const kept = receiver.journals.get(journal.id);
      if (short.has(`${journal.id}`)) continue;
      t.deepEqual(kept?.marks, journal.marks, `receiver ${at} has all`);
      t.like(kept?.end, { stamp: journal.brokenStamp, lastOrdinal: journal.marks.length });
    }
  }
  shippers = [];
}

/** An older copy of its store was put back. */
function loseNewest(receiver: ModelReceiver, random: Random, short: Set<string>): void {
  for (const [id, stored] of receiver.journals) {
    if (random.below(2) === 0) continue;
    stored.marks = stored.marks.slice(0, random.below(stored.marks.length + 1));
    short.add(id);
  }
}

function check(
  t: ExecutionContext,
  journal: ModelJournal,
  shippers: readonly ModelShipper[],
  short: ReadonlySet<string>,
): void {
  for (const { receiver } of shippers) {
    const kept = receiver.journals.get(journal.id);
    const marks = kept?.marks ?? [];
    const first = marks[0]?.ordinal ?? 1;
    t.deepEqual(
      marks,
      journal.marks.slice(first - 1, first - 1 + marks.length),
      'what the tap wrote, no gap',
    );
    if (short.has(journal.id)) continue;
    t.true(journal.released <= marks.length, 'nothing is released that is not there');
    if (kept != null && kept.end !== null) t.is(marks.length, kept.end.lastOrdinal, 'the end comes last');
    if (journal.isGone) t.is(marks.length, journal.marks.length);
  }
}
