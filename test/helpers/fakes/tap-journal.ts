/** The journals of a fake tap: their heads, without records. */
import { randomBytes } from 'node:crypto';
import type { TapJournalHead, TapJournalPosition, TapStatus } from '../../../src/native/index.js';

export class FakeTapJournal {
  #heads: TapJournalHead[] = [];
  readonly #clockId = randomBytes(16).toString('hex');
  #stamp = 1_700_000_000_000_000_000n;

  status(): NonNullable<TapStatus['journal']> {
    return { heads: this.#heads, failure: '', aheadMs: 0 };
  }

  cut(): TapJournalPosition {
    if (this.#heads.at(-1)?.state !== 'open') {
      this.#heads.push({
        ...{ journalId: randomBytes(16).toString('hex'), clockId: this.#clockId, state: 'open', ordinal: 0 },
        ...{ stamp: '0', segment: 1, recordOffset: 0, endOffset: 0, oldestSegment: 1, lastOrdinal: 0 },
        ...{ brokenStamp: '0', reason: '' },
      });
    }
    return this.#draw();
  }

  stamp(): TapJournalPosition | null {
    return this.#heads.at(-1)?.state === 'open' ? this.#draw() : null;
  }

  break(journalId: string, reason: string): void {
    const last = this.#heads.at(-1);
    if (last?.state !== 'open' || last.journalId !== journalId) return;
    this.#stamp += 1n;
    this.#replaceLast({ state: 'broken', reason, brokenStamp: String(this.#stamp) });
  }

  release(journalId: string, ordinal: number): void {
    const isDone = (head: TapJournalHead) =>
      head.journalId === journalId && head.state === 'broken' && head.ordinal <= ordinal;
    const last = this.#heads.at(-1);
    // The current one stays until another has come, as writers may be at work with it.
    this.#heads = this.#heads.filter((head) => head === last || !isDone(head));
  }

  #draw(): TapJournalPosition {
    this.#stamp += 1n;
    const { journalId, ordinal: before } = this.#last();
    const ordinal = before + 1;
    const stamp = String(this.#stamp);
    this.#replaceLast({ ordinal, stamp, lastOrdinal: ordinal, endOffset: ordinal * 80 });
    return { journalId, clockId: this.#clockId, ordinal, stamp };
  }

  #last(): TapJournalHead {
    const last = this.#heads.at(-1);
    if (last === undefined) throw new Error('there is no journal');
    return last;
  }

  #replaceLast(changes: Partial<TapJournalHead>): void {
    this.#heads = [...this.#heads.slice(0, -1), { ...this.#last(), ...changes }];
  }
}
