/**
 * Reads one journal of a tap's spool (docs/journal.md, "The spool"), up to the head that the tap publishes.
 *
 * | place   | read()                                                | to                                  |
 * |---------|-------------------------------------------------------|-------------------------------------|
 * | unknown | looks for the record after the one it is told         | known, or the records are not there |
 * | known   | goes on there, in the next segment at the end of one; | known; unknown if anything fails    |
 * |         | elsewhere, if it is told another record               |                                     |
 *
 * The tap removes segments meanwhile, whole and the oldest first. No file stays open, so that their room is
 * free. One read at a time.
 */
import { type FileHandle, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB } from '../../domain/base/limits.js';
import { compareStamps, type JournalMark } from '../../domain/journal/journal.js';
import {
  RECORD_BYTES_MAX,
  RECORD_HEADER_BYTES,
  type RecordHeader,
  readRecordHeader,
} from '../../domain/journal/record-header.js';
import type { JournalAddon, TapJournalHead } from '../../native/index.js';

export type ScanRecords = JournalAddon['scanJournal'];
/** Up to where it may be read. */
export type ReadableHead = Pick<TapJournalHead, 'ordinal' | 'segment' | 'endOffset'>;

/** The records that are needed next can't be had, now or later. Its message is a clause. */
export class RecordsLost extends Error {}

export interface SpoolRead {
  /** All of the memory that the records are in. */
  readonly memory: Buffer;
  /** Whole ones, proven. */
  readonly records: Buffer;
  readonly last: JournalMark;
  /** That they lie in. */
  readonly segment: number;
}

interface Place {
  readonly segment: number;
  readonly offset: number;
  /** The record before it; null: it is not known. */
  readonly after: JournalMark | null;
}

const WALK_BYTES = 4 * MiB;
const SEGMENT = /^([0-9]{10,16})\.segment$/;

export class SpoolReader {
  readonly #directory: string;
  readonly #scan: ScanRecords;
  #place: Place | null = null;

  /** @param directory of the journal */
  constructor(directory: string, scan: ScanRecords) {
    this.#directory = directory;
    this.#scan = scan;
  }

  /**
   * The records after one, as many as fit, one at least. Null: the head has none.
   * @param after null: from the first that is there
   * @throws RecordsLost; errors of the system, after which it may be tried again
   */
  async read(head: ReadableHead, after: JournalMark | null, bytesMax: number): Promise<SpoolRead | null> {
    const known = this.#place;
    this.#place = null;
    let place =
      known !== null && known.after?.ordinal === after?.ordinal ? known : await this.#find(head, after);
    for (;;) {
      const file = await this.#openSegment(place.segment);
      try {
        const limit = place.segment === head.segment ? head.endOffset : (await file.stat()).size;
        if (place.offset < limit) {
          const length = Math.min(limit - place.offset, Math.max(bytesMax, RECORD_BYTES_MAX));
          return await this.#readRun(file, place, length, bytesMax);
        }
      } finally {
        await file.close();
      }
      if (place.segment >= head.segment) {
        this.#place = place;
        return null;
      }
      place = { ...place, segment: place.segment + 1, offset: 0 };
    }
  }

  async #readRun(file: FileHandle, place: Place, length: number, bytesMax: number): Promise<SpoolRead> {
    const { segment, offset, after } = place;
    const memory = Buffer.allocUnsafeSlow(length);
    await this.#fill(file, memory, segment, offset);
    const run = await this.#scan(memory, { afterOrdinal: after?.ordinal ?? null, bytesMax }).catch(
      (error: Error & { code?: string; byteOffset?: number }) => {
        if (error.code?.startsWith('bad-') !== true) throw error;
        throw this.#damaged(segment, offset + (error.byteOffset ?? 0));
      },
    );
    if (run.last === null) throw this.#damaged(segment, offset);
    this.#place = { segment, offset: offset + run.byteLength, after: run.last };
    return { memory, records: memory.subarray(0, run.byteLength), last: run.last, segment };
  }

  async #find(head: ReadableHead, after: JournalMark | null): Promise<Place> {
    const numbers = await this.#segments(head);
    const [oldest] = numbers;
    if (oldest === undefined) throw new RecordsLost('its spool has no records any more');
    if (after === null) return { segment: oldest, offset: 0, after: null };
    for (const segment of [...numbers].reverse()) {
      const file = await this.#openSegment(segment);
      try {
        const { ordinal } = await this.#headerAt(file, segment, 0);
        if (ordinal <= after.ordinal) return await this.#walk(file, head, segment, after);
        // What is before it has been released.
        if (ordinal === after.ordinal + 1 && segment === oldest) return { segment, offset: 0, after };
      } finally {
        await file.close();
      }
    }
    throw new RecordsLost(`its spool does not have what follows its record ${after.ordinal} any more`);
  }

  /** To the end of a record that lies in the segment, if the segment goes so far. */
  async #walk(file: FileHandle, head: ReadableHead, segment: number, after: JournalMark): Promise<Place> {
    const limit = segment === head.segment ? head.endOffset : (await file.stat()).size;
    for (let offset = 0; offset < limit; ) {
      const memory = Buffer.allocUnsafeSlow(Math.min(WALK_BYTES, limit - offset));
      await this.#fill(file, memory, segment, offset);
      let at = 0;
      while (at + RECORD_HEADER_BYTES <= memory.length) {
        const header = readRecordHeader(memory, at);
        if (header === null) throw this.#damaged(segment, offset + at);
        at += header.recordBytes;
        if (header.ordinal < after.ordinal) continue;
        if (header.ordinal !== after.ordinal) throw this.#damaged(segment, offset + at - header.recordBytes);
        if (compareStamps(header.stamp, after.stamp) !== 0)
          throw new RecordsLost(`its record ${after.ordinal} is not the one that the receiver has`);
        return { segment, offset: offset + at, after };
      }
      if (at === 0) throw this.#damaged(segment, offset);
      offset += at;
    }
    throw this.#damaged(segment, limit);
  }

  async #segments(head: ReadableHead): Promise<number[]> {
    const names = await readdir(this.#directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      throw new RecordsLost('its spool was given up');
    });
    return names
      .map((name) => Number(SEGMENT.exec(name)?.[1]))
      .filter((number) => number <= head.segment)
      .sort((a, b) => a - b);
  }

  #openSegment(number: number): Promise<FileHandle> {
    return open(join(this.#directory, `${String(number).padStart(10, '0')}.segment`));
  }

  async #headerAt(file: FileHandle, segment: number, offset: number): Promise<RecordHeader> {
    const bytes = Buffer.alloc(RECORD_HEADER_BYTES);
    await this.#fill(file, bytes, segment, offset);
    const header = readRecordHeader(bytes, 0);
    if (header === null) throw this.#damaged(segment, offset);
    return header;
  }

  async #fill(file: FileHandle, memory: Buffer, segment: number, offset: number): Promise<void> {
    for (let filled = 0; filled < memory.length; ) {
      const { bytesRead } = await file.read(memory, filled, memory.length - filled, offset + filled);
      if (bytesRead === 0) throw this.#damaged(segment, offset + filled);
      filled += bytesRead;
    }
  }

  #damaged(segment: number, offset: number): RecordsLost {
    return new RecordsLost(`its spool is damaged: segment ${segment}, byte ${offset}`);
  }
}
