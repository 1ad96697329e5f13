/**
 * One journal, by the owner of its store.
 *
 * State: what its folder holds, read at the first use and durable since. One change after the other; batches
 * that come while one is being stored share the next write and its sync. Where a sealed text could not be
 * written it is not known which one counts: it is read again before anything else. What a failed write left
 * behind the last record is cut off before the next one; for all but that there is nothing to remember.
 */
import { dirname, join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { JOURNAL_APPEND_BYTES_MAX, JOURNAL_AUDITS_MAX, JOURNAL_RESERVES } from '../../domain/base/limits.js';
import {
  compareStamps,
  type JournalAppended,
  type JournalAudit,
  type JournalEnd,
  type JournalMark,
} from '../../domain/journal/journal.js';
import type { JournalRun } from '../../native/index.js';
import { type DiskFile, errnoOf, temporaryPath } from '../disk/disk.js';
import { Mutex } from '../disk/mutex.js';
import { leaveReserve } from '../disk/room.js';
import {
  damaged,
  isUnreadable,
  type JournalContext,
  type JournalPlace,
  journalThing,
  journalUnknown,
  ordinalOf,
  type RecordsFile,
  recordsPath,
} from './context.js';
import { bytesOf, endOf, firstOf, type LoadedJournal, loadJournal } from './load.js';
import { markIn, offsetAfter } from './scan-file.js';
import { readAudits, readEnd, writeAudits, writeEnd, writeJournalText } from './texts.js';

/** Of batches that are stored together. */
const GROUP_BYTES = 2 * JOURNAL_APPEND_BYTES_MAX;

const NO_FILE: RecordsFile = { firstOrdinal: 0, sizeBytes: 0 };

interface Waiting {
  readonly records: Uint8Array;
  readonly proof: Promise<JournalRun>;
  resolve(appended: JournalAppended): void;
  reject(error: unknown): void;
}

export class OwnedJournal {
  readonly place: JournalPlace;
  readonly #context: JournalContext;
  readonly #mutex = new Mutex();
  #loaded: LoadedJournal | null = null;
  #isRemoved = false;
  #isUnsure = false;
  #waiting: Waiting[] = [];

  constructor(context: JournalContext, place: JournalPlace) {
    this.#context = context;
    this.place = place;
  }

  /** Null: there is none yet, or any more. @throws StillpointError `store-damaged` */
  state(): Promise<LoadedJournal | null> {
    return this.#mutex.run(() => this.#state());
  }

  async #state(): Promise<LoadedJournal | null> {
    if (this.#isRemoved) return null;
    const { disk } = this.#context;
    if (this.#loaded === null) {
      const loaded = await loadJournal(this.#context, this.place);
      if (loaded !== null) await this.#settle(loaded);
      this.#loaded = loaded;
    } else if (this.#isUnsure) {
      const [told, audits] = [await readEnd(disk, this.place), await readAudits(disk, this.place)];
      await disk.syncDir(this.place.path);
      this.#loaded = { ...this.#loaded, told, audits };
    }
    this.#isUnsure = false;
    return this.#loaded;
  }

  /** What was found may have been written by a process that died before it was durable. */
  async #settle({ told, files, damage }: LoadedJournal): Promise<void> {
    const { disk, dir, log } = this.#context;
    const newest = files.at(-1);
    if (told === null && damage === null && newest !== undefined) {
      const file = await disk.open(recordsPath(this.place, newest), 'append');
      try {
        const excess = (await file.size()) - newest.sizeBytes;
        if (excess > 0) {
          await file.truncate(newest.sizeBytes);
          log(
            `${recordsPath(this.place, newest)}: ${excess} bytes of a record that never became whole are cut off`,
          );
        }
        await file.sync();
      } finally {
        await file.close();
      }
    }
    if (damage !== null) log(`${journalThing(this.place)} takes nothing more: ${damage}`);
    for (let path = this.place.path; path.length >= dir.length; path = dirname(path))
      await disk.syncDir(path);
  }

  async #known(): Promise<LoadedJournal> {
    const loaded = await this.#state();
    if (loaded === null) throw journalUnknown(this.place.journalId);
    return loaded;
  }

  /** Durable when it resolves. Its folder is there. */
  begin(clockId: string): Promise<LoadedJournal> {
    return this.#mutex.run(async () => {
      const loaded = await this.#orClosed(() => this.#state());
      if (loaded !== null) return loaded;
      await writeJournalText(this.#context.disk, this.place, clockId);
      const state = await this.#state();
      if (state === null) throw journalUnknown(this.place.journalId);
      return state;
    });
  }

  /** To who writes, a damaged one is one that takes nothing more: another one begins. */
  async #orClosed<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      throw this.#refuse('journal-closed', `it is damaged: ${error.thing}: ${error.reason}`, error);
    }
  }

  #refuse(code: 'journal-closed' | 'journal-gap' | 'bad-message', reason: string, cause?: unknown) {
    return new StillpointError(code, { thing: journalThing(this.place), reason, cause });
  }

  // ---- appending -----------------------------------------------------------------------------------------

  append(records: Uint8Array): Promise<JournalAppended> {
    const proof = this.#prove(records);
    proof.catch(() => undefined);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ records, proof, resolve, reject });
      // The first that runs takes along what waits by then; others find nothing to do.
      void this.#mutex.run(() => this.#appendWaiting());
    });
  }

  async #prove(records: Uint8Array): Promise<JournalRun> {
    if (records.length > JOURNAL_APPEND_BYTES_MAX)
      throw this.#refuse('bad-message', `${records.length} bytes are more than one message may have`);
    const run = await this.#context.scan(records, { afterOrdinal: null }).catch((error) => {
      throw this.#refuse('bad-message', error instanceof Error ? error.message : String(error), error);
    });
    if (run.byteLength === records.length) return run;
    throw this.#refuse('bad-message', `the record at byte ${run.byteLength} is cut`);
  }

  async #appendWaiting(): Promise<void> {
    let bytes = 0;
    const isTooMuch = ({ records }: Waiting, i: number) => {
      bytes += records.length;
      return i > 0 && bytes > GROUP_BYTES;
    };
    const rest = this.#waiting.findIndex(isTooMuch);
    const group = this.#waiting.splice(0, rest === -1 ? this.#waiting.length : rest);
    const taken: Waiting[] = [];
    const parts: Uint8Array[] = [];
    let last: JournalMark | null = null;
    let begin: JournalMark | null = null;
    for (const waiting of group) {
      try {
        const loaded = await this.#orClosed(() => this.#known());
        if (taken.length === 0) last = loaded.last;
        const run = await waiting.proof;
        const fresh = this.#freshOf(waiting.records, run, last, loaded);
        taken.push(waiting);
        if (fresh.length === 0) continue;
        begin ??= run.first;
        parts.push(fresh);
        last = run.last;
      } catch (error) {
        waiting.reject(error);
      }
    }
    try {
      if (parts.length > 0) await this.#store(parts, begin, last);
      for (const { resolve } of taken) resolve({ last });
    } catch (error) {
      for (const { reject } of taken) reject(error);
    }
  }

  /** What is to be stored of proven records that come after `last`. */
  #freshOf(
    records: Uint8Array,
    run: JournalRun,
    last: JournalMark | null,
    loaded: LoadedJournal,
  ): Uint8Array {
    const next = ordinalOf(last) + 1;
    if (run.first === null || run.last === null || run.last.ordinal < next) return records.subarray(0, 0);
    const end = endOf(loaded);
    if (end !== null) throw this.#refuse('journal-closed', `it has ended: ${end.reason}`);
    if (loaded.damage !== null) throw this.#refuse('journal-closed', `it is damaged: ${loaded.damage}`);
    if (run.first.ordinal > next)
      throw this.#refuse('journal-gap', `record ${next} is the next one, and ${run.first.ordinal} came`);
    const again = last === null ? null : markIn(records, last.ordinal);
    const first = run.first.ordinal === next ? run.first : null;
    const isOther = again !== null && again.stamp !== last?.stamp;
    if (isOther || (first !== null && last !== null && compareStamps(first.stamp, last.stamp) <= 0))
      throw this.#refuse('bad-message', `record ${next} does not follow the last one by its stamp`);
    return records.subarray(offsetAfter(records, next - 1));
  }

  async #store(parts: Uint8Array[], begin: JournalMark | null, last: JournalMark | null): Promise<void> {
    const loaded = await this.#known();
    const { disk, fileBytes } = this.#context;
    const byteLength = parts.reduce((sum, part) => sum + part.length, 0);
    const newest = loaded.files.at(-1);
    const isFull = newest === undefined || newest.sizeBytes >= fileBytes;
    const into = isFull ? { firstOrdinal: ordinalOf(loaded.last) + 1, sizeBytes: 0 } : newest;
    const path = recordsPath(this.place, into);
    await leaveReserve(disk, path, byteLength, JOURNAL_RESERVES);
    const file = isFull ? await this.#makeFile(path) : await disk.open(path, 'append');
    try {
      await cutTo(file, path, into.sizeBytes);
      try {
        await file.append(parts);
        await file.sync();
      } catch (error) {
        // Its room is worth more than that the next one need not do it.
        await file.truncate(into.sizeBytes).catch(() => undefined);
        throw error;
      }
    } finally {
      await file.close();
    }
    const grown: RecordsFile = { ...into, sizeBytes: into.sizeBytes + byteLength };
    const files = [...(isFull ? loaded.files : loaded.files.slice(0, -1)), grown];
    this.#loaded = { ...loaded, files, first: loaded.first ?? begin, last };
  }

  /** One that an earlier try has left is as good: nothing in it counts. Durable in its folder. */
  async #makeFile(path: string): Promise<DiskFile> {
    const { disk } = this.#context;
    const file = await disk.create(path).catch((error) => {
      if (errnoOf(error) !== 'EEXIST') throw error;
      return disk.open(path, 'append');
    });
    try {
      await disk.syncDir(this.place.path);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  // ---- what is known of it -------------------------------------------------------------------------------

  end(end: JournalEnd): Promise<void> {
    return this.#mutex.run(async () => {
      const loaded = await this.#orClosed(() => this.#known());
      if (endOf(loaded) !== null) return;
      const { reason, stamp, lastOrdinal } = end;
      const { firstOrdinal: lastFile, sizeBytes: lastFileBytes } = loaded.files.at(-1) ?? NO_FILE;
      const told = { reason, stamp, lastOrdinal, last: loaded.last, lastFile, lastFileBytes };
      await this.#write(() => writeEnd(this.#context.disk, this.place, told));
      this.#loaded = { ...loaded, told };
    });
  }

  noteAudit({ pointId, ordinal, fault }: JournalAudit): Promise<void> {
    return this.#mutex.run(async () => {
      const loaded = await this.#known();
      const isOver = loaded.audits.some((audit) => audit.pointId === pointId || audit.fault !== null);
      if (isOver) return;
      // Those of records that are gone say nothing any more; and behind a fault, none counts.
      const kept = loaded.audits.filter(
        (audit) => audit.ordinal >= ordinalOf(loaded.first) && (fault === null || audit.ordinal <= ordinal),
      );
      const audits = [...kept, { pointId, ordinal, fault }]
        .sort((a, b) => a.ordinal - b.ordinal)
        .slice(-JOURNAL_AUDITS_MAX);
      await this.#write(() => writeAudits(this.#context.disk, this.place, audits));
      this.#loaded = { ...loaded, audits };
    });
  }

  async #write(write: () => Promise<void>): Promise<void> {
    try {
      await write();
    } catch (error) {
      this.#isUnsure = true;
      throw error;
    }
  }

  // ---- removal -------------------------------------------------------------------------------------------

  /** One file after the other, the oldest first: what is left has no gap, whatever happens. */
  trim(ordinal: number): Promise<number> {
    return this.#mutex.run(async () => {
      const { disk } = this.#context;
      let freedBytes = 0;
      for (;;) {
        const loaded = await this.#known();
        const [oldest, next] = loaded.files;
        const keptFrom = Math.min(ordinal + 1, ordinalOf(loaded.last));
        if (oldest === undefined || next === undefined || next.firstOrdinal > keptFrom) return freedBytes;
        const first = await firstOf(this.#context, this.place, next);
        await disk.remove(recordsPath(this.place, oldest));
        this.#loaded = { ...loaded, files: loaded.files.slice(1), first };
        await disk.syncDir(this.place.path);
        freedBytes += oldest.sizeBytes;
      }
    });
  }

  /** All of it, at once; whatever is wrong with it. */
  remove(): Promise<number> {
    return this.#mutex.run(async () => {
      if (this.#isRemoved) return 0;
      const { disk, log } = this.#context;
      const { path } = this.place;
      const away = temporaryPath(path);
      const sizeBytes = bytesOf(this.#loaded?.files ?? (await this.#sizes()));
      await disk.removeDir(away);
      await disk.rename(path, away);
      this.#isRemoved = true;
      await disk.syncDir(dirname(path));
      try {
        await disk.removeDir(away);
      } catch (error) {
        log(`${away} stays until the store is opened again: ${String(error)}`);
      }
      return sizeBytes;
    });
  }

  async #sizes(): Promise<RecordsFile[]> {
    const { disk } = this.#context;
    const sizes: RecordsFile[] = [];
    for (const { name } of await disk.list(this.place.path)) {
      const sizeBytes = await disk.size(join(this.place.path, name));
      sizes.push({ firstOrdinal: 0, sizeBytes: sizeBytes ?? 0 });
    }
    return sizes;
  }

  /**
   * It goes on in another folder, for another agent; nothing is done with this one any more. May be done
   * again: its text is told first, and the folder says whose it is.
   */
  rename(place: JournalPlace): Promise<void> {
    return this.#mutex.run(async () => {
      const { disk } = this.#context;
      const loaded = await this.#state().catch((error) => {
        if (isUnreadable(error)) return null;
        throw error;
      });
      if (loaded !== null) await writeJournalText(disk, { ...place, path: this.place.path }, loaded.clockId);
      await disk.rename(this.place.path, place.path);
      this.#isRemoved = true;
      await disk.syncDir(dirname(place.path));
      await disk.syncDir(dirname(this.place.path));
    });
  }
}

async function cutTo(file: DiskFile, path: string, byteLength: number): Promise<void> {
  const sizeBytes = await file.size();
  if (sizeBytes < byteLength) throw damaged(path, `it has ${sizeBytes} bytes, and had ${byteLength}`);
  if (sizeBytes > byteLength) await file.truncate(byteLength);
}
