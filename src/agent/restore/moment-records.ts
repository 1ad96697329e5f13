/**
 * The second half of a restore to a moment: what a journal has behind the base is written over the base, in
 * order, each record proven before it is written. It is asked for a page at a time; while one is written, the
 * next is on its way.
 *
 * State: new; checked, when the first page is there (nothing is written yet); applied, or failed.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { type BlockRange, mergeRanges, rangeBytes, withoutRanges } from '../../domain/blocks/block-ranges.js';
import { isoOfStamp, type JournalMark } from '../../domain/journal/journal.js';
import { type JournalRecord, journalRecords } from '../../domain/journal/records.js';
import type { Moment } from '../../domain/moment/moments.js';
import { excludedBlocks } from '../../domain/point/excluded.js';
import { pointLabel } from '../../domain/point/point.js';
import { type Device, type NativeError, native } from '../../native/index.js';
import type { JournalPort } from '../../protocol/port/journal.js';
import { throwIfCancelled, unlessAborted } from '../common/cancel.js';

export type RecordSource = Pick<JournalPort, 'journalRecords'>;

/** [start, end) in bytes, ascending, apart. */
type ByteRanges = readonly (readonly [number, number])[];

export interface ApplyTo {
  readonly device: Device;
  /** The beginning of the device as it is to become: what is written there goes here. Empty: nothing does. */
  readonly head: Buffer;
  /** So many bytes of records were written since the last call. */
  readonly onDone: (byteLength: number) => void;
}

/** The state that the target has, beside its base. */
export interface RestoredMoment {
  readonly journalId: string;
  /** Of the last record that it has, or of the base's instant. */
  readonly stamp: string;
  /** The same, ISO 8601, to the nanosecond. */
  readonly time: string;
  /** Behind the base. */
  readonly writes: number;
  readonly writtenBytes: number;
  /** A later point proved all of them. */
  readonly isAudited: boolean;
}

interface Page {
  readonly bytes: Buffer;
  readonly records: readonly JournalRecord[];
}

/** What a native proof of records calls what it does not accept. */
const PROOF_CODE = /^(bad-[a-z]+|truncated)$/;

export class MomentRecords {
  readonly #source: RecordSource;
  readonly #moment: Moment;
  readonly #signal: AbortSignal;
  /** What the point leaves out, whatever a restore does there. */
  readonly #excluded: ByteRanges;
  #first: Page | null = null;
  #last: JournalMark;
  #writes = 0;
  #writtenBytes = 0;

  constructor(source: RecordSource, moment: Moment, signal: AbortSignal) {
    this.#source = source;
    this.#moment = moment;
    this.#signal = signal;
    this.#excluded = excludedBytesOf(moment);
    const { ordinal, stamp } = moment.base.journal ?? { ordinal: moment.afterOrdinal, stamp: '0' };
    this.#last = { ordinal, stamp };
  }

  /**
   * Nothing is written yet.
   * @throws StillpointError `journal-gap`, `journal-unknown`: the records are not there
   */
  async check(): Promise<void> {
    this.#first = await this.#fetch(this.#last);
  }

  /** After `check`: whether the base alone is not the state. Asks for pages until one has a write. */
  async hasWrites(): Promise<boolean> {
    for (let page = this.#first; page !== null; page = await this.#fetch(lastOf(page))) {
      if (page.records.some((record) => partsOf(record, this.#excluded).length > 0)) return true;
      this.#first = null;
      this.#last = lastOf(page);
    }
    return false;
  }

  /** It does not flush. */
  async apply({ device, head, onDone }: ApplyTo): Promise<void> {
    const own: ByteRanges = [[0, head.length]];
    const except = merged([...(head.length === 0 ? [] : own), ...this.#excluded]);
    let next: Promise<Page | null> = Promise.resolve(this.#first);
    this.#first = null;
    for (let page = await next; page !== null; page = await unlessAborted(this.#signal, next)) {
      throwIfCancelled(this.#signal);
      next = this.#fetch(lastOf(page));
      next.catch(() => undefined); // It is awaited in its turn; until then nobody listens.
      await native.applyJournal(device, page.bytes, except).catch(notProven);
      for (const record of page.records) {
        if (record.byteOffset < head.length) copyInto(head, record, this.#excluded);
        this.#count(record);
      }
      onDone(page.bytes.length);
    }
    this.#requireAll();
  }

  get restored(): RestoredMoment {
    const { journalId, auditedOrdinal } = this.#moment;
    const { ordinal, stamp } = this.#last;
    return {
      ...{ journalId, stamp, time: isoOfStamp(stamp) },
      ...{ writes: this.#writes, writtenBytes: this.#writtenBytes },
      isAudited: this.#writes === 0 || ordinal <= auditedOrdinal,
    };
  }

  #count(record: JournalRecord): void {
    const { ordinal, stamp } = record;
    this.#last = { ordinal, stamp };
    const parts = partsOf(record, this.#excluded);
    if (parts.length > 0) this.#writes += 1;
    for (const [from, to] of parts) this.#writtenBytes += to - from;
  }

  /** Null: there are none. */
  async #fetch(after: JournalMark): Promise<Page | null> {
    const { journalId, throughStamp, base } = this.#moment;
    const { sizeBytes } = base.geometry;
    const answer = this.#source.journalRecords(journalId, after.ordinal, throughStamp);
    const body = await unlessAborted(this.#signal, answer).catch((error: unknown) => {
      throw this.#notThere(error);
    });
    if (body.length === 0) return null;
    const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    return { bytes, records: [...journalRecords(bytes, { after, throughStamp, sizeBytes })] };
  }

  /** The journal was removed, or a part of it, since it was listed. */
  #notThere(error: unknown): unknown {
    if (!isStillpointError(error, 'journal-unknown') && !isStillpointError(error, 'journal-gap'))
      return error;
    const { base } = this.#moment;
    return new StillpointError(error.code, {
      thing: `journal behind point ${pointLabel(base)}`,
      reason: `the receiver does not have all of it any more: ${error.reason}`,
      remedy: `Look with "stillpoint points --journal" what can be restored. The point alone is ${pointLabel(base)}.`,
      cause: error,
    });
  }

  #requireAll(): void {
    const { lastOrdinal, base } = this.#moment;
    if (lastOrdinal === null || this.#last.ordinal >= lastOrdinal) return;
    throw new StillpointError('journal-gap', {
      thing: `journal behind point ${pointLabel(base)}`,
      reason: `the receiver gave its records up to ${this.#last.ordinal} only, of ${lastOrdinal}`,
      remedy: 'Check the store with "stillpoint verify".',
    });
  }
}

function lastOf({ records }: Page): JournalMark {
  const last = records.at(-1);
  if (last === undefined) throw new Error('a page without records');
  return last;
}

function excludedBytesOf({ base }: Moment): ByteRanges {
  const { blockSize } = base.geometry;
  return excludedBlocks(base).map(([start, end]) => [
    start * blockSize,
    start * blockSize + rangeBytes(base.geometry, start, end),
  ]);
}

/** [start, end) in bytes that it changes, without what is left alone. */
function partsOf({ byteOffset, byteLength }: JournalRecord, except: ByteRanges): readonly BlockRange[] {
  return byteLength === 0 ? [] : withoutRanges([[byteOffset, byteOffset + byteLength]], except);
}

function copyInto(head: Buffer, record: JournalRecord, except: ByteRanges): void {
  const { kind, byteOffset, payload } = record;
  for (const [from, to] of partsOf(record, except)) {
    const end = Math.min(to, head.length);
    if (from >= end) break;
    if (kind === 'zero') head.fill(0, from, end);
    else payload.copy(head, from, from - byteOffset, end - byteOffset);
  }
}

function merged(ranges: ByteRanges): ByteRanges {
  return mergeRanges(
    [...ranges].sort((a, b) => a[0] - b[0]),
    [],
  );
}

function notProven(error: unknown): never {
  const { code, message } = error as NativeError;
  if (error instanceof StillpointError || !PROOF_CODE.test(code)) throw error;
  throw new StillpointError('bad-batch', {
    thing: 'journal',
    reason: `the receiver sent something other than its records: ${message}`,
    remedy: 'Check the store with "stillpoint verify".',
    cause: error,
  });
}
