/**
 * Models of what shipping a journal meets: a tap with one journal after the other, receivers that lose
 * messages and answers, see some twice, refuse, and lose their newest records.
 */
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { JournalEnd, JournalMark, StoredJournal } from '../../../src/domain/journal/journal.js';
import { JournalShipping, releasable, type ShippingHead } from '../../../src/domain/journal/shipping.js';
import type { Random } from '../seed.js';

export class ModelJournal {
  readonly marks: JournalMark[] = [];
  readonly id: string;
  state: ShippingHead['state'] = 'open';
  /** Published. */
  ordinal = 0;
  brokenStamp = '0';
  /** Not to be had any more up to this one. */
  released = 0;
  /** Forgotten by the tap. */
  isGone = false;
  #stamp: number;

  constructor(id: string, stamp: number) {
    this.id = id;
    this.#stamp = stamp;
  }

  get head(): ShippingHead {
    const { state, ordinal, brokenStamp, marks } = this;
    return { state, ordinal, brokenStamp, lastOrdinal: marks.length, reason: 'a test broke it' };
  }

  write(count: number, random: Random): void {
    for (let i = 0; i < count && this.state === 'open'; i += 1) {
      this.#stamp += 1 + random.below(1000);
      this.marks.push({ ordinal: this.marks.length + 1, stamp: String(this.#stamp) });
    }
  }

  publish(random: Random): void {
    this.ordinal += random.below(this.marks.length - this.ordinal + 1);
  }

  break(): void {
    if (this.state === 'broken') return;
    this.state = 'broken';
    this.brokenStamp = String(this.#stamp + 1);
  }

  /** @returns `lost`: they were released */
  read(after: JournalMark | null, most: number): JournalMark[] | 'lost' {
    const from = after?.ordinal ?? this.released;
    if (from < this.released || (after !== null && this.marks[from - 1]?.stamp !== after.stamp))
      return 'lost';
    return this.marks.slice(from, Math.min(this.ordinal, from + most));
  }

  release(asked: number): void {
    const ordinal = Math.min(asked, this.ordinal);
    if (this.state === 'broken' && ordinal === this.marks.length) this.isGone = true;
    // The last record stays.
    this.released = Math.max(this.released, Math.min(ordinal, this.ordinal - 1));
  }
}

export interface ModelStored {
  marks: JournalMark[];
  end: JournalEnd | null;
}

export class ModelReceiver {
  readonly journals = new Map<string, ModelStored>();
  /** Messages that may be heard again. */
  readonly #heard: (() => void)[] = [];
  isFull = false;

  begin(id: string): StoredJournal {
    const { marks, end } = this.#make(id);
    return {
      ...{ agent: 'a', device: 'd', journalId: id, clockId: id, sizeBytes: 0, audits: [], end },
      first: marks[0] ?? null,
      last: marks.at(-1) ?? null,
    };
  }

  append(id: string, records: readonly JournalMark[]): { last: JournalMark | null } {
    this.#heard.push(() => void this.#append(id, records));
    return this.#append(id, records);
  }

  #append(id: string, records: readonly JournalMark[]): { last: JournalMark | null } {
    const stored = this.journals.get(id);
    if (stored === undefined) throw refusal('journal-unknown');
    if (this.isFull) throw refusal('store-full');
    const last = stored.marks.at(-1)?.ordinal ?? 0;
    if ((records[0]?.ordinal ?? 0) > last + 1) throw refusal('journal-gap');
    const added = records.filter(({ ordinal }) => ordinal > last);
    if (added.length > 0 && stored.end !== null) throw refusal('journal-closed');
    stored.marks.push(...added);
    return { last: stored.marks.at(-1) ?? null };
  }

  end(id: string, end: JournalEnd): void {
    const stored = this.journals.get(id);
    if (stored === undefined) throw refusal('journal-unknown');
    stored.end ??= end;
  }

  /** An old message comes late; what is answered to it nobody hears. */
  hearAgain(random: Random): void {
    if (this.#heard.length === 0) return;
    try {
      random.pick(this.#heard.slice(-5))();
    } catch (error) {
      if (!(error instanceof StillpointError)) throw error;
    }
  }

  #make(id: string): ModelStored {
    const stored = this.journals.get(id) ?? { marks: [], end: null };
    this.journals.set(id, stored);
    return stored;
  }
}

export function refusal(
  code: 'journal-unknown' | 'store-full' | 'journal-gap' | 'journal-closed' | 'timeout',
) {
  return new StillpointError(code, { thing: 'receiver', reason: `a test: ${code}` });
}

/** The agent: what carries out the steps of a shipping at one receiver. */
export class ModelShipper {
  shipping: JournalShipping;
  readonly journal: ModelJournal;
  readonly receiver: ModelReceiver;
  readonly #random: Random;

  constructor(journal: ModelJournal, receiver: ModelReceiver, random: Random) {
    this.journal = journal;
    this.receiver = receiver;
    this.#random = random;
    this.shipping = this.#fresh();
  }

  #fresh(): JournalShipping {
    return new JournalShipping(() => this.#random.below(1000) / 1000);
  }

  restart(): void {
    this.shipping = this.#fresh();
  }

  /** One step. @param faulty messages and answers may be lost */
  step(nowMs: number, faulty: boolean): void {
    const { journal, receiver, shipping } = this;
    const { id, head } = journal;
    const step = shipping.next(head, nowMs);
    if (step.kind === 'wait') return;
    const fate = faulty ? this.#random.below(6) : 5;
    const records = step.kind === 'append' ? journal.read(step.after, 1 + this.#random.below(5)) : [];
    if (records === 'lost') {
      shipping.lost('it was released');
      return;
    }
    try {
      if (fate === 0) throw refusal('timeout');
      const answer =
        step.kind === 'begin'
          ? receiver.begin(id)
          : step.kind === 'end'
            ? receiver.end(id, step.end)
            : receiver.append(id, records);
      if (fate === 1) throw refusal('timeout');
      if (step.kind === 'begin') shipping.began(answer as StoredJournal, journal.head);
      else if (step.kind === 'end') shipping.ended();
      else {
        const cost = { bytes: records.length, tookMs: this.#random.below(10_000) };
        shipping.appended(records.at(-1) as JournalMark, answer as { last: JournalMark | null }, cost);
      }
    } catch (error) {
      if (!(error instanceof StillpointError)) throw error;
      shipping.failed(error, nowMs);
    }
  }
}

/** What the agent tells the tap. */
export function tellTap(journal: ModelJournal, shippers: readonly ModelShipper[]): void {
  const shippings = shippers.map(({ shipping }) => shipping);
  if (shippings.some(({ breakReason }) => breakReason !== null)) journal.break();
  const ordinal = releasable(shippings, journal.head);
  if (ordinal !== null) journal.release(ordinal);
}
