/**
 * Ships one journal to one receiver: does what src/domain/journal/shipping.ts says, whose table has the
 * states. Memory: one message, of the receiver's few places for them.
 */
import type { Logger } from 'pino';
import { isStillpointError } from '../../domain/base/errors.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import { systemError } from '../../domain/base/system-errors.js';
import { stampMs } from '../../domain/journal/journal.js';
import { JournalShipping, type ShippingStep } from '../../domain/journal/shipping.js';
import type { Counters } from '../../monitor/metrics/table.js';
import { native, type TapJournalHead } from '../../native/index.js';
import type { Closable, ReceiverPort } from '../../protocol/port/receiver.js';
import type { Slots } from '../common/slots.js';
import { Bell } from './bell.js';
import { RecordsLost, type SpoolReader } from './spool-reader.js';

export type JournalReceiver = Pick<ReceiverPort, 'beginJournal' | 'appendJournal' | 'endJournal'> & Closable;

/** A receiver of a device's journals. */
export interface JournalTarget {
  /** As the receiver knows it. */
  readonly device: string;
  /** Its address, for people. */
  readonly receiver: string;
  readonly receiverId: string;
  /** Another one: shipping begins anew, with what is in force then. */
  readonly key: string;
  /** Over a link that is held to the device's rate. */
  open(): Promise<JournalReceiver>;
  /** Messages with records that may be in memory at once, of all journals for the receiver. */
  readonly slots: Slots;
}

export interface ShipperOptions {
  readonly journalId: string;
  readonly clockId: string;
  readonly target: JournalTarget;
  readonly reader: Pick<SpoolReader, 'read'>;
  readonly head: TapJournalHead;
  /** As it is now; null: it is gone. */
  readonly readHead: () => Promise<TapJournalHead | null>;
  /** Its tap runs: what it does not say was not written. */
  readonly isServed: () => boolean;
  readonly log: Logger;
  readonly counters: Counters;
  /** Monotonic, ms. */
  readonly now: () => number;
  /** The wall clock. */
  readonly wallMs: () => number;
  readonly random: () => number;
}

/** A connection is made anew now and then: the agent's certificate may have been renewed. */
const CONNECTION_MS = 6 * 60 * 60_000;

export class JournalShipper {
  readonly shipping: JournalShipping;
  readonly target: JournalTarget;
  readonly #options: ShipperOptions;
  readonly #bell = new Bell();
  readonly #startedMs: number;
  #head: TapJournalHead;
  #receiver: { readonly port: JournalReceiver; readonly sinceMs: number } | null = null;
  #isKnown = false;
  #toldCode: string | null = null;
  #caughtUpMs: number | null = null;
  #durableSegment: number | null = null;

  constructor(options: ShipperOptions) {
    this.#options = options;
    this.target = options.target;
    this.shipping = new JournalShipping(options.random);
    this.#startedMs = options.wallMs();
    this.#head = options.head;
  }

  /** As it was read just now. */
  set head(head: TapJournalHead) {
    this.#head = head;
    this.#noteCaughtUp();
    this.#bell.ring();
  }

  /** That the last durable record lies in; null: it is not known. */
  get durableSegment(): number | null {
    return this.shipping.durableOrdinal >= this.#head.ordinal ? this.#head.segment : this.#durableSegment;
  }

  /** All that was written before it is at the receiver. Null: that is not known. */
  get shippedThroughMs(): number | null {
    const { durable } = this.shipping;
    const nowMs = this.#options.wallMs();
    if (!this.#isKnown) return null;
    if (this.#isUpToDate) return nowMs;
    const durableMs = durable === null ? 0 : stampMs(durable.stamp);
    // Stamps that are ahead of the time say nothing of it.
    const throughMs = Math.max(durableMs > nowMs ? 0 : durableMs, this.#caughtUpMs ?? 0);
    return throughMs === 0 ? null : throughMs;
  }

  /** For how long something has been waiting to be shipped, at the most. */
  get lagMs(): number {
    if (this.#isCaughtUp) return 0;
    return Math.max(0, this.#options.wallMs() - (this.shippedThroughMs ?? this.#startedMs));
  }

  /** Until nothing is left to do, or the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { now } = this.#options;
    try {
      while (!signal.aborted && !this.shipping.isDone) {
        const step = this.shipping.next(this.#head, now());
        if (step.kind === 'wait')
          await this.#bell.wait(step.untilMs === null ? null : Math.max(1, step.untilMs - now()), signal);
        else await this.#take(step, signal);
        this.#tell();
      }
    } catch (error) {
      if (!isStillpointError(error, 'cancelled')) throw error;
    } finally {
      await this.#disconnect();
    }
  }

  async #take(step: Exclude<ShippingStep, { kind: 'wait' }>, signal: AbortSignal): Promise<void> {
    const { journalId, clockId, target, readHead } = this.#options;
    if (step.kind === 'append') return this.#append(step, signal);
    await this.#ask(async (receiver) => {
      if (step.kind === 'end') {
        await receiver.endJournal(journalId, step.end);
        return this.shipping.ended();
      }
      const stored = await receiver.beginJournal(target.device, journalId, clockId);
      // It may have all that was written up to now.
      this.#head = (await readHead()) ?? this.#head;
      this.shipping.began(stored, this.#head);
      if (!this.#isKnown && !this.shipping.isDone)
        this.#options.log.info({ event: 'journal-shipping' satisfies LogEvent }, 'the journal is shipped');
      this.#isKnown = true;
      this.#noteCaughtUp();
    });
  }

  async #append({ after, bytesMax }: ShippingStep & { kind: 'append' }, signal: AbortSignal): Promise<void> {
    const { journalId, target, reader, counters, now } = this.#options;
    const head = this.#head;
    const release = await target.slots.take(signal);
    try {
      const read = await reader.read(head, after, bytesMax).catch((error: Error) => this.#notRead(error));
      if (read === undefined) return;
      if (read === null) return this.shipping.lost(`its spool ends before its record ${head.ordinal}`);
      const { memory, records, last, segment } = read;
      const bytes = records.length;
      await this.#ask(async (receiver) => {
        const startMs = now();
        const answer = await receiver.appendJournal(journalId, records);
        // After a failure the connection may still read it.
        native.freeBuffer(memory);
        this.shipping.appended(last, answer, { bytes, tookMs: now() - startMs });
        if (this.shipping.durableOrdinal === last.ordinal) this.#durableSegment = segment;
        counters.add('stillpoint_agent_journal_shipped_bytes_total', { device: target.device }, bytes);
        this.#noteCaughtUp();
      });
    } finally {
      release();
    }
  }

  #notRead(error: Error): undefined {
    if (error instanceof RecordsLost) this.shipping.lost(error.message);
    else {
      const reason = systemError(error, { thing: 'spool', place: 'file' })?.reason ?? error.message;
      this.shipping.stalled(`its spool could not be read: ${reason}`, this.#options.now());
    }
  }

  async #ask(work: (receiver: JournalReceiver) => Promise<void>): Promise<void> {
    const { target, now } = this.#options;
    try {
      if (this.#receiver !== null && now() - this.#receiver.sinceMs > CONNECTION_MS) await this.#disconnect();
      this.#receiver ??= { port: await target.open(), sinceMs: now() };
      await work(this.#receiver.port);
    } catch (error) {
      this.shipping.failed(error, now());
      await this.#disconnect();
    }
  }

  async #disconnect(): Promise<void> {
    const receiver = this.#receiver;
    this.#receiver = null;
    await receiver?.port.close().catch(() => undefined);
  }

  get #isCaughtUp(): boolean {
    return this.#isKnown && this.shipping.durableOrdinal >= this.#head.ordinal;
  }

  get #isUpToDate(): boolean {
    return this.#isCaughtUp && this.#options.isServed() && this.#head.state === 'open';
  }

  #noteCaughtUp(): void {
    if (this.#isUpToDate) this.#caughtUpMs = this.#options.wallMs();
  }

  /** What has changed. */
  #tell(): void {
    const { log } = this.#options;
    const { failure, isGivenUp } = this.shipping;
    const code = failure?.code ?? null;
    if (code === this.#toldCode) return;
    this.#toldCode = code;
    if (failure === null)
      log.info({ event: 'journal-shipped-again' satisfies LogEvent }, 'the journal is shipped again');
    else
      log.warn(
        { event: 'journal-not-shipped' satisfies LogEvent, ...failure },
        isGivenUp
          ? 'the journal is not shipped any more'
          : 'the journal is not shipped now; it is tried again',
      );
  }
}
