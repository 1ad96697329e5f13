/** The journals of a receiver's agents: what they ship, and read again for a restore. */
import { JOURNAL_READ_BYTES_MAX } from '../../domain/base/limits.js';
import type { JournalAppended, JournalEnd, Stamp, StoredJournal } from '../../domain/journal/journal.js';
import type { DeviceKey, PointsKey, Store } from '../../store/port/store.js';

export class ReceiverJournals {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  list(key: PointsKey): Promise<StoredJournal[]> {
    return this.#store.journals.list(key);
  }

  begin(key: DeviceKey, journalId: string, clockId: string): Promise<StoredJournal> {
    return this.#store.journals.begin(key, journalId, clockId);
  }

  append(agent: string, journalId: string, records: Uint8Array): Promise<JournalAppended> {
    return this.#store.journals.append(agent, journalId, records);
  }

  end(agent: string, journalId: string, end: JournalEnd): Promise<void> {
    return this.#store.journals.end(agent, journalId, end);
  }

  /** @param agent null: any */
  records(
    agent: string | null,
    journalId: string,
    afterOrdinal: number,
    throughStamp: Stamp,
  ): Promise<Buffer> {
    const read = { afterOrdinal, throughStamp, bytesMax: JOURNAL_READ_BYTES_MAX };
    return this.#store.journals.records(agent, journalId, read);
  }
}
