/**
 * What was told, and what is to be told: decided from the conditions that hold at one moment. Pure. The book
 * is the queue, too: of a condition one message waits at most, however often it comes and goes.
 *
 * | a condition is | it holds                        | it does not hold | its message is taken, or given up |
 * |----------------|---------------------------------|------------------|-----------------------------------|
 * | new            | after `afterMs` due: begun      | forgotten        | -                                 |
 * | begun (due)    | its text follows                | over (due)       | told                              |
 * | told           | by and by again: lasting (due)  | over (due)       | -                                 |
 * | lasting (due)  | its text follows                | over (due)       | told                              |
 * | over (due)     | as if it had not been over      | stays            | forgotten                         |
 *
 * A message goes to each channel by itself. A channel that does not take it is tried again, ever later.
 */
import type { Condition, NoticeEvent } from './events.js';

export type NoticeState = 'begun' | 'lasting' | 'over';

export interface Due {
  readonly state: NoticeState;
  /** That have not taken it yet. */
  readonly channels: readonly string[];
  readonly tries: number;
  /** Not before. */
  readonly atMs: number;
}

export interface Entry {
  readonly event: NoticeEvent;
  readonly subject: string;
  readonly text: string;
  readonly sinceMs: number;
  /** Null: never. */
  readonly toldMs: number | null;
  /** Null: nothing is to be told. */
  readonly due: Due | null;
}

export type Book = readonly Entry[];

export interface BookSettings {
  readonly repeatAfterMs: number;
  /** Their names. */
  readonly channels: readonly string[];
}

/** More conditions at once are not told one by one, nor remembered. */
export const BOOK_ENTRIES_MAX = 256;
const TEXT_CHARS_MAX = 300;
const RETRY_FIRST_MS = 60_000;
const RETRY_MAX_MS = 60 * 60_000;
/** Over some seven hours. */
const TRIES_MAX = 12;

export const keyOf = ({ event, subject }: Pick<Entry, 'event' | 'subject'>): string => `${event} ${subject}`;

/** @param nowMs a clock that may be set */
export function look(
  book: Book,
  conditions: readonly Condition[],
  nowMs: number,
  settings: BookSettings,
): Book {
  const holding = new Map(conditions.map((condition) => [keyOf(condition), condition]));
  const known = new Set(book.map(keyOf));
  const kept = book.flatMap((entry) => {
    const condition = holding.get(keyOf(entry));
    return condition === undefined ? ended(entry, nowMs, settings) : held(entry, condition, nowMs, settings);
  });
  const begun = [...holding.values()]
    .filter((condition) => condition.isOpen !== true && !known.has(keyOf(condition)))
    .map(({ event, subject, text, afterMs = 0 }): Entry => {
      const entry = { event, subject, text: cut(text), sinceMs: nowMs, toldMs: null, due: null };
      return afterMs > 0 ? entry : { ...entry, due: due('begun', nowMs, settings) };
    });
  return [...kept, ...begun].slice(0, BOOK_ENTRIES_MAX);
}

function held(entry: Entry, condition: Condition, nowMs: number, settings: BookSettings): Entry {
  const { afterMs = 0, isOpen = false } = condition;
  const sinceMs = Math.min(entry.sinceMs, nowMs);
  const toldMs = entry.toldMs === null ? null : Math.min(entry.toldMs, nowMs);
  const same: Entry = { ...entry, sinceMs, toldMs, text: isOpen ? entry.text : cut(condition.text) };
  if (entry.due?.state === 'over')
    return { ...same, due: toldMs === null ? due('begun', nowMs, settings) : null };
  if (entry.due !== null || isOpen) return same;
  if (toldMs === null)
    return nowMs - sinceMs >= afterMs ? { ...same, due: due('begun', nowMs, settings) } : same;
  return nowMs - toldMs >= settings.repeatAfterMs ? { ...same, due: due('lasting', nowMs, settings) } : same;
}

function ended(entry: Entry, nowMs: number, settings: BookSettings): Entry[] {
  if (entry.due?.state === 'over') return [entry];
  if (entry.due === null && entry.toldMs === null) return [];
  return [{ ...entry, due: due('over', nowMs, settings) }];
}

const due = (state: NoticeState, atMs: number, { channels }: BookSettings): Due => ({
  ...{ state, channels, tries: 0, atMs },
});

const cut = (text: string): string =>
  text.length <= TEXT_CHARS_MAX ? text : `${text.slice(0, TEXT_CHARS_MAX - 1)}…`;

/** Entries whose message is to go to the channel now, by event and state: each is one message. */
export interface Message {
  readonly channel: string;
  readonly event: NoticeEvent;
  readonly state: NoticeState;
  readonly entries: readonly Entry[];
}

export function messages(book: Book, nowMs: number): Message[] {
  const groups = new Map<string, Message & { readonly entries: Entry[] }>();
  for (const entry of book) {
    if (entry.due === null || (entry.due.atMs > nowMs && entry.due.atMs - nowMs <= RETRY_MAX_MS)) continue;
    const { state } = entry.due;
    for (const channel of entry.due.channels) {
      const key = `${channel} ${entry.event} ${state}`;
      const group = groups.get(key) ?? { channel, event: entry.event, state, entries: [] };
      group.entries.push(entry);
      groups.set(key, group);
    }
  }
  return [...groups.values()];
}

/** What came of messages. @param taken those that their channels took; the others are tried again */
export function told(book: Book, sent: readonly Message[], taken: ReadonlySet<Message>, nowMs: number): Book {
  return book.flatMap((entry) => {
    const own = sent.filter((message) => message.entries.includes(entry));
    if (own.length === 0 || entry.due === null) return [entry];
    const done = new Set(own.filter((message) => taken.has(message)).map(({ channel }) => channel));
    const channels = entry.due.channels.filter((channel) => !done.has(channel));
    const tries = entry.due.tries + 1;
    if (channels.length > 0 && tries < TRIES_MAX) {
      const atMs = nowMs + Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** (tries - 1));
      return [{ ...entry, due: { ...entry.due, channels, tries, atMs } }];
    }
    return entry.due.state === 'over' ? [] : [{ ...entry, toldMs: nowMs, due: null }];
  });
}

/** Channels that are not configured any more get nothing. */
export function withChannels(book: Book, channels: readonly string[]): Book {
  return book.flatMap((entry) => {
    if (entry.due === null) return [entry];
    const left = entry.due.channels.filter((channel) => channels.includes(channel));
    if (left.length > 0) return [{ ...entry, due: { ...entry.due, channels: left } }];
    return entry.due.state === 'over' ? [] : [{ ...entry, due: null }];
  });
}
