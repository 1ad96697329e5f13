/** What is told and when, under a clock that the test sets. */
import test from 'ava';
import fc from 'fast-check';
import {
  BOOK_ENTRIES_MAX,
  type Book,
  look,
  type Message,
  messages,
  told,
  withChannels,
} from '../../../src/domain/notice/book.js';
import type { Condition } from '../../../src/domain/notice/events.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const SETTINGS = { repeatAfterMs: DAY, channels: ['mail'] };
const stale = (subject: string, more: Partial<Condition> = {}): Condition => ({
  ...{ event: 'device-stale', subject, text: 'it is old' },
  ...more,
});

/** A process that sends what is due at once. */
class Teller {
  book: Book = [];
  nowMs = 0;
  /** Channels that take nothing. */
  readonly deaf = new Set<string>();
  settings = SETTINGS;

  at(nowMs: number, ...conditions: Condition[]): string[] {
    this.nowMs = nowMs;
    this.book = look(this.book, conditions, nowMs, this.settings);
    const due = messages(this.book, nowMs);
    const taken = new Set<Message>(due.filter(({ channel }) => !this.deaf.has(channel)));
    this.book = told(this.book, due, taken, nowMs);
    return [...taken].map(({ channel, state, entries }) => {
      const names = entries.map(({ subject }) => subject).join(',');
      return channel === 'mail' ? `${state} ${names}` : `${channel} ${state} ${names}`;
    });
  }
}

test('it is told once, again after a time, and when it is over', (t) => {
  const teller = new Teller();
  t.deepEqual(teller.at(0), []);
  t.deepEqual(teller.at(MINUTE, stale('a')), ['begun a']);
  t.deepEqual(teller.at(2 * MINUTE, stale('a')), []);
  t.deepEqual(teller.at(DAY, stale('a')), []);
  t.deepEqual(teller.at(DAY + MINUTE, stale('a')), ['lasting a']);
  t.deepEqual(teller.at(DAY + 2 * MINUTE, stale('a')), []);
  t.deepEqual(teller.at(DAY + HOUR), ['over a']);
  t.deepEqual(teller.book, []);
  t.deepEqual(teller.at(DAY + 2 * HOUR, stale('a')), ['begun a']);
});

test('what begins together is one message', (t) => {
  const teller = new Teller();
  t.deepEqual(teller.at(0, stale('a')), ['begun a']);
  t.deepEqual(teller.at(MINUTE, stale('a'), stale('b'), stale('c')), ['begun b,c']);
  t.deepEqual(teller.at(2 * MINUTE, stale('b')), ['over a,c']);
});

test('what must last is told only if it does', (t) => {
  const teller = new Teller();
  const down = stale('a', { afterMs: 15 * MINUTE });
  t.deepEqual(teller.at(0, down), []);
  t.deepEqual(teller.at(10 * MINUTE, down), []);
  t.deepEqual(teller.at(11 * MINUTE), [], 'it was not told, so nothing is over');
  t.deepEqual(teller.at(12 * MINUTE, down), []);
  t.deepEqual(teller.at(26 * MINUTE, down), [], 'counted anew');
  t.deepEqual(teller.at(27 * MINUTE, down), ['begun a']);
});

test('while it is not known whether it is over, nothing is told', (t) => {
  const teller = new Teller();
  const open = stale('a', { isOpen: true });
  t.deepEqual(teller.at(0, open), []);
  t.deepEqual(teller.at(1, stale('a')), ['begun a']);
  t.deepEqual(teller.at(2, open), []);
  t.deepEqual(teller.at(2 * DAY, open), []);
  t.deepEqual(teller.at(2 * DAY + 1, stale('a')), ['lasting a']);
});

test('a channel that takes nothing is tried again, ever later, and then no more', (t) => {
  const teller = new Teller();
  teller.settings = { repeatAfterMs: 30 * DAY, channels: ['mail', 'webhook'] };
  teller.deaf.add('webhook');
  t.deepEqual(teller.at(0, stale('a')), ['begun a']);
  t.deepEqual(teller.at(30_000, stale('a')), []);
  teller.deaf.clear();
  t.deepEqual(teller.at(MINUTE, stale('a')), ['webhook begun a'], 'and the mail is not sent twice');
  teller.deaf.add('mail').add('webhook');
  teller.at(2 * MINUTE);
  let tries = 1;
  for (let nowMs = 3 * MINUTE; nowMs < 2 * DAY; nowMs += MINUTE) {
    const { book } = teller;
    teller.at(nowMs);
    if (teller.book !== book && JSON.stringify(teller.book) !== JSON.stringify(book)) tries += 1;
  }
  t.is(tries, 12);
  t.deepEqual(teller.book, []);
});

test('it comes and goes while nobody takes messages: one waits', (t) => {
  const teller = new Teller();
  teller.deaf.add('mail');
  for (let minute = 0; minute < 60; minute += 1)
    teller.at(minute * MINUTE, ...(minute % 2 === 0 ? [stale('a')] : []));
  t.is(teller.book.length, 1);
  teller.deaf.clear();
  t.deepEqual(teller.at(5 * HOUR), ['over a']);
  teller.at(6 * HOUR, stale('b'));
  teller.deaf.add('mail');
  teller.at(7 * HOUR);
  t.deepEqual(teller.at(7 * HOUR + 1, stale('b')), [], 'that it is over was never told');
  teller.deaf.clear();
  t.deepEqual(teller.at(8 * HOUR, stale('b')), []);
});

test('a channel that is removed holds nothing up', (t) => {
  const book = look([], [stale('a'), stale('b')], 0, { repeatAfterMs: DAY, channels: ['command'] });
  const left = withChannels(book, ['mail']);
  t.deepEqual(
    left.map(({ due }) => due),
    [null, null],
  );
  t.deepEqual(messages(look(left, [], MINUTE, SETTINGS), MINUTE), []);
});

test('a clock that is set back delays no reminder for longer than the time between two', (t) => {
  const teller = new Teller();
  teller.at(100 * DAY, stale('a'));
  t.deepEqual(teller.at(0, stale('a')), []);
  t.deepEqual(teller.at(DAY, stale('a')), ['lasting a']);
});

test('texts and entries are bounded', (t) => {
  const many = Array.from({ length: 10_000 }, (_, i) => stale(`d${i}`, { text: 'x'.repeat(5_000) }));
  const book = look([], many, 0, SETTINGS);
  t.is(book.length, BOOK_ENTRIES_MAX);
  t.true(book.every(({ text }) => text.length <= 300));
});

test('whatever holds and fails: begun and over alternate, and nothing is told of what never held', (t) => {
  const step = fc.record({
    holds: fc.subarray(['a', 'b', 'c']),
    isDeaf: fc.boolean(),
    restarts: fc.boolean(),
    minutes: fc.integer({ min: 0, max: 600 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const teller = new Teller();
      const believed = new Set<string>();
      const ever = new Set<string>();
      let nowMs = 0;
      for (const { holds, isDeaf, restarts, minutes } of steps) {
        nowMs += minutes * MINUTE;
        for (const name of holds) ever.add(name);
        if (restarts) teller.book = JSON.parse(JSON.stringify(teller.book));
        if (isDeaf) teller.deaf.add('mail');
        else teller.deaf.clear();
        for (const message of teller.at(nowMs, ...holds.map((name) => stale(name)))) {
          const [state, names = ''] = message.split(' ');
          for (const name of names.split(',')) {
            t.true(ever.has(name));
            if (state === 'begun') t.false(believed.has(name), `${name} begun twice`);
            if (state === 'over') believed.delete(name);
            else believed.add(name);
          }
        }
      }
      // When all is taken, what is believed is what holds.
      teller.deaf.clear();
      const holds = steps.at(-1)?.holds ?? [];
      const last = teller.at(nowMs + HOUR, ...holds.map((name) => stale(name)));
      for (const [state, names = ''] of last.map((message) => message.split(' ')))
        for (const name of names.split(','))
          if (state === 'over') believed.delete(name);
          else believed.add(name);
      t.deepEqual([...believed].sort(), [...holds].sort());
      teller.at(nowMs + 3 * DAY);
      t.deepEqual(teller.book, []);
    }),
  );
});
