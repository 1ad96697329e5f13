/**
 * Tells of conditions: keeps the book, and sends what is due. Nobody waits for it: one round of messages at a
 * time, each with a bounded time, and no more than MESSAGES_MAX in an hour; the rest waits in the book.
 */

import { hostname } from 'node:os';
import type { Logger } from 'pino';
import type { LogEvent } from '../../domain/base/log-events.js';
import { type Book, look, type Message, messages, told, withChannels } from '../../domain/notice/book.js';
import type { Condition, NoticeEvent } from '../../domain/notice/events.js';
import { type Notification, notificationOf } from '../../domain/notice/text.js';
import type { Send } from './channels.js';
import { readBook, writeBook } from './state.js';

export interface NotifierSettings {
  readonly channels: ReadonlyMap<string, Send>;
  /** Null: all. */
  readonly events: readonly NoticeEvent[] | null;
  readonly repeatAfterMs: number;
}

export interface NotifierOptions {
  readonly role: 'agent' | 'receiver';
  /** Of the book. */
  readonly path: string;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly host?: string;
}

const HOUR_MS = 60 * 60_000;
export const MESSAGES_MAX = 60;

export class Notifier {
  readonly #options: NotifierOptions;
  #book: Book;
  /** When messages were sent within the last hour. */
  #sentMs: number[] = [];

  private constructor(options: NotifierOptions, book: Book) {
    this.#options = options;
    this.#book = book;
  }

  /** @throws StillpointError `version` */
  static async open(options: NotifierOptions): Promise<Notifier> {
    const book = await readBook(options.path, (reason) =>
      options.log.error({ reason }, 'what was told is damaged: it may be told again'),
    );
    return new Notifier(options, book);
  }

  /** Does not reject. */
  async tick(conditions: readonly Condition[], settings: NotifierSettings): Promise<void> {
    const { nowMs } = this.#options;
    const channels = [...settings.channels.keys()];
    if (channels.length === 0) return;
    const wanted = conditions.filter(({ event }) => settings.events?.includes(event) ?? true);
    const known = withChannels(this.#book, channels);
    const { repeatAfterMs } = settings;
    await this.#keep(look(known, wanted, nowMs(), { repeatAfterMs, channels }));
    const due = this.#admitted(messages(this.#book, nowMs()));
    if (due.length === 0) return;
    const taken = new Set<Message>();
    await Promise.all(
      channels.map(async (channel) => {
        for (const message of due.filter((each) => each.channel === channel))
          if (await this.#send(message, settings.channels)) taken.add(message);
      }),
    );
    await this.#keep(told(this.#book, due, taken, nowMs()));
  }

  #admitted(due: readonly Message[]): readonly Message[] {
    const nowMs = this.#options.nowMs();
    this.#sentMs = this.#sentMs.filter((atMs) => atMs <= nowMs && nowMs - atMs < HOUR_MS);
    const admitted = due.slice(0, Math.max(0, MESSAGES_MAX - this.#sentMs.length));
    this.#sentMs.push(...admitted.map(() => nowMs));
    if (admitted.length < due.length)
      this.#options.log.warn(
        { waiting: due.length - admitted.length },
        'notifications wait: too many in an hour',
      );
    return admitted;
  }

  async #send(message: Message, channels: ReadonlyMap<string, Send>): Promise<boolean> {
    const { role, host = hostname(), log, nowMs } = this.#options;
    const { channel, event, state } = message;
    const notification: Notification = notificationOf(message, { role, host, nowMs: nowMs() });
    try {
      await channels.get(channel)?.(notification);
      log.info(
        {
          event: 'notification-sent' satisfies LogEvent,
          channel,
          about: event,
          state,
          count: message.entries.length,
        },
        'notification sent',
      );
      return true;
    } catch (error) {
      const reason = (error as Error).message;
      log.warn(
        { event: 'notification-failed' satisfies LogEvent, channel, about: event, state, reason },
        'a notification was not taken; it is tried again',
      );
      return false;
    }
  }

  /** What can't be written is told again after a start. */
  async #keep(book: Book): Promise<void> {
    const isSame = JSON.stringify(book) === JSON.stringify(this.#book);
    this.#book = book;
    if (isSame) return;
    const { path, log } = this.#options;
    await writeBook(path, book).catch((error: Error) =>
      log.error({ reason: error.message }, 'what was told could not be written'),
    );
  }
}
