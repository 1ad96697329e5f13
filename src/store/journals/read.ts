/**
 * Gives out records of a journal.
 *
 * State: where reads ended, so that one that goes on from there need not look for its place.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { JOURNAL_APPEND_BYTES_MAX } from '../../domain/base/limits.js';
import { compareStamps } from '../../domain/journal/journal.js';
import { type DiskFile, errnoOf } from '../disk/disk.js';
import type { JournalRead } from '../port/journals.js';
import {
  damaged,
  type JournalContext,
  type JournalPlace,
  journalThing,
  ordinalOf,
  type RecordsFile,
  recordsPath,
} from './context.js';
import type { LoadedJournal } from './load.js';
import { offsetAfter, scanBefore } from './scan-file.js';

const PLACES_MAX = 64;
const SEEK_BYTES = 2 * JOURNAL_APPEND_BYTES_MAX;

export class RecordsOut {
  readonly #context: JournalContext;
  /** By file, and the ordinal that a read ended with: where. */
  readonly #ends = new Map<string, number>();

  constructor(context: JournalContext) {
    this.#context = context;
  }

  /** @throws StillpointError as `Journals.records` */
  async read(place: JournalPlace, loaded: LoadedJournal, read: JournalRead): Promise<Buffer> {
    const { files, first, last } = loaded;
    if (last === null || read.afterOrdinal >= last.ordinal) return Buffer.alloc(0);
    const at = files.findLast(
      ({ firstOrdinal, sizeBytes }) => sizeBytes > 0 && firstOrdinal <= read.afterOrdinal + 1,
    );
    if (at === undefined || read.afterOrdinal + 1 < ordinalOf(first)) throw gone(place);
    const path = recordsPath(place, at);
    const file = await this.#context.disk.open(path, 'read').catch((error) => {
      throw errnoOf(error) === 'ENOENT' ? gone(place) : error;
    });
    try {
      return await this.#readFile(path, file, at, read);
    } finally {
      await file.close();
    }
  }

  async #readFile(path: string, file: DiskFile, at: RecordsFile, read: JournalRead): Promise<Buffer> {
    const { afterOrdinal, throughStamp, bytesMax } = read;
    const byteOffset = await this.#seek(path, file, at, afterOrdinal);
    if (byteOffset === at.sizeBytes) throw damaged(path, `record ${afterOrdinal + 1} is not in it`);
    // The first one is given out whatever its length.
    for (const windowBytes of [bytesMax, SEEK_BYTES]) {
      const bytes = await file.read(byteOffset, Math.min(windowBytes, at.sizeBytes - byteOffset));
      const { run, fault } = await scanBefore(this.#context.scan, bytes, {
        ...{ afterOrdinal, throughStamp, bytesMax },
      });
      if (run.last !== null) {
        this.#remember(`${path} ${run.last.ordinal}`, byteOffset + run.byteLength);
        return bytes.subarray(0, run.byteLength);
      }
      if (fault !== null) throw damaged(`${path} at byte ${byteOffset}`, fault);
      const next = await this.#context.scan(bytes, { afterOrdinal, bytesMax: 1 });
      if (next.first !== null && compareStamps(next.first.stamp, throughStamp) > 0) return Buffer.alloc(0);
    }
    throw damaged(`${path} at byte ${byteOffset}`, 'journal record: its length is wrong');
  }

  /** Where the record after the ordinal begins. All before it in the file is proven on the way. */
  async #seek(path: string, file: DiskFile, at: RecordsFile, afterOrdinal: number): Promise<number> {
    const known = this.#ends.get(`${path} ${afterOrdinal}`);
    if (known !== undefined && known <= at.sizeBytes) return known;
    let [byteOffset, before] = [0, at.firstOrdinal - 1];
    while (before < afterOrdinal && byteOffset < at.sizeBytes) {
      const bytes = await file.read(byteOffset, Math.min(SEEK_BYTES, at.sizeBytes - byteOffset));
      const { run, fault } = await scanBefore(this.#context.scan, bytes, { afterOrdinal: before });
      const end = ordinalOf(run.last);
      if (end > afterOrdinal)
        return byteOffset + offsetAfter(bytes.subarray(0, run.byteLength), afterOrdinal);
      byteOffset += run.byteLength;
      if (end === afterOrdinal) break;
      if (fault !== null || run.last === null)
        throw damaged(`${path} at byte ${byteOffset}`, fault ?? 'journal record: its length is wrong');
      before = end;
    }
    return byteOffset;
  }

  #remember(key: string, byteOffset: number): void {
    this.#ends.delete(key);
    this.#ends.set(key, byteOffset);
    for (const oldest of this.#ends.keys()) {
      if (this.#ends.size <= PLACES_MAX) return;
      this.#ends.delete(oldest);
    }
  }

  /** A journal that is removed may begin again. */
  forget(place: JournalPlace): void {
    for (const key of [...this.#ends.keys()]) if (key.startsWith(place.path)) this.#ends.delete(key);
  }
}

function gone(place: JournalPlace): StillpointError {
  return new StillpointError('journal-gap', {
    thing: journalThing(place),
    reason: 'these records were removed',
  });
}
