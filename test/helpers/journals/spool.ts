/** A tap's journals on disk, written by hand as docs/journal.md says ("The spool"), without a tap. */
import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { TapJournalHead } from '../../../src/native/index.js';
import type { TapControl } from '../../../src/tap/control/client.js';
import { type JournalRecord, journalRecord } from '../bytes/journal-records.js';

const CLOCK_ID = 'c'.repeat(32);

export class HandMadeSpool {
  readonly directory: string;
  readonly headDirectory: string;
  readonly controlPath = '/nowhere/control.sock';
  readonly name = 'tap1';
  /** The current one last. */
  readonly journals: HandMadeJournal[] = [];
  /** It serves: its control socket answers. */
  runs = true;
  readonly told: string[] = [];
  nowNs = BigInt(Date.now() - 600_000) * 1_000_000n;

  constructor(directory: string) {
    this.directory = directory;
    this.headDirectory = join(directory, 'heads');
  }

  /** The instant of a hold; a new journal where there is none that goes on. */
  async hold(segmentBytes = 4096): Promise<HandMadeJournal> {
    const current = this.journals.at(-1);
    if (current?.head.state === 'open') return current;
    const journal = new HandMadeJournal(this, String(this.journals.length + 1).repeat(32), segmentBytes);
    this.journals.push(journal);
    await mkdir(journal.directory, { recursive: true });
    await journal.write({ kind: 'instant', sessionId: 'e'.repeat(32) });
    return journal;
  }

  /** As `native.readJournalHead`. */
  readonly readHead = async (path: string): Promise<TapJournalHead | null> => {
    const found = this.journals.find(({ id, isPublished }) => isPublished && basename(path) === `${id}.head`);
    return found === undefined ? null : { ...found.head };
  };

  readonly connect = async (): Promise<Pick<TapControl, 'releaseJournal' | 'breakJournal' | 'close'>> => {
    if (!this.runs) throw new StillpointError('unreachable', { thing: 'tap', reason: 'it does not run' });
    return {
      releaseJournal: async (id, ordinal) => {
        this.told.push(`release ${id.slice(0, 1)} ${ordinal}`);
        await this.journals.find((journal) => journal.id === id)?.release(ordinal);
      },
      breakJournal: async (id, reason) => {
        this.told.push(`break ${reason}`);
        this.journals.find((journal) => journal.id === id)?.break(reason);
      },
      close: () => undefined,
    };
  };
}

type Written = JournalRecord extends infer R
  ? R extends JournalRecord
    ? Omit<R, 'ordinal' | 'stamp'>
    : never
  : never;

export class HandMadeJournal {
  readonly id: string;
  head: TapJournalHead;
  isPublished = true;
  /** All that was ever written. */
  readonly bytes: Buffer[] = [];
  readonly #spool: HandMadeSpool;
  readonly #segmentBytes: number;
  #isReopened = false;
  /** The first ordinal of each segment that there is. */
  readonly #segments = new Map<number, number>();

  constructor(spool: HandMadeSpool, id: string, segmentBytes: number) {
    this.#spool = spool;
    this.id = id;
    this.#segmentBytes = segmentBytes;
    this.head = {
      ...{ journalId: id, clockId: CLOCK_ID, state: 'open', ordinal: 0, stamp: '0', segment: 1 },
      ...{ recordOffset: 0, endOffset: 0, oldestSegment: 1, lastOrdinal: 0, brokenStamp: '0', reason: '' },
    };
  }

  get directory(): string {
    return join(this.#spool.directory, this.id);
  }

  segmentPath(number: number): string {
    return join(this.directory, `${String(number).padStart(10, '0')}.segment`);
  }

  /** A record, stored and published. */
  async write(written: Written): Promise<void> {
    const { head } = this;
    this.#spool.nowNs += 1_000_000n;
    const [ordinal, stamp] = [head.ordinal + 1, String(this.#spool.nowNs)];
    const record = journalRecord({ ...written, ordinal, stamp });
    const isFull = head.endOffset >= this.#segmentBytes || this.#isReopened;
    this.#isReopened = false;
    const segment = isFull ? head.segment + 1 : head.segment;
    const recordOffset = isFull ? 0 : head.endOffset;
    if (!this.#segments.has(segment)) this.#segments.set(segment, ordinal);
    await appendFile(this.segmentPath(segment), record);
    this.bytes.push(record);
    const endOffset = recordOffset + record.length;
    this.head = { ...head, ordinal, stamp, segment, recordOffset, endOffset, lastOrdinal: ordinal };
  }

  async writeMany(count: number, payloadBytes = 500): Promise<void> {
    for (let i = 0; i < count; i += 1)
      await this.write({ kind: 'write', byteOffset: 4096 * i, payload: Buffer.alloc(payloadBytes, `${i} `) });
  }

  /** The tap has drawn a record and not stored it: the head stays. */
  async scribble(bytes: Buffer): Promise<void> {
    await appendFile(this.segmentPath(this.head.segment), bytes);
  }

  break(reason: string): void {
    if (this.head.state !== 'open') return;
    this.#spool.nowNs += 1_000_000n;
    this.head = { ...this.head, state: 'broken', brokenStamp: String(this.#spool.nowNs), reason };
  }

  /** The tap ends in order. */
  close(): void {
    this.head = { ...this.head, state: 'closed' };
  }

  /** It goes on with the same id, in a new segment. */
  reopen(): void {
    this.head = { ...this.head, state: 'open' };
    this.#isReopened = true;
  }

  async release(ordinal: number): Promise<void> {
    const { head } = this;
    if (head.state === 'broken' && ordinal >= head.lastOrdinal) return this.drop();
    for (const [segment] of this.#segments) {
      const next = this.#segments.get(segment + 1);
      if (next === undefined || next - 1 > ordinal) break;
      await rm(this.segmentPath(segment));
      this.#segments.delete(segment);
      this.head = { ...this.head, oldestSegment: segment + 1 };
    }
  }

  async drop(): Promise<void> {
    this.isPublished = false;
    await rm(this.directory, { recursive: true, force: true });
  }

  async damage(segment: number, content: Buffer): Promise<void> {
    await writeFile(this.segmentPath(segment), content);
  }
}
