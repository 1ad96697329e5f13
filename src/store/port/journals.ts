/**
 * The journals of a store: what receivers keep of taps' writes between points (docs/journal.md). A journal is
 * known by its id and its agent; another agent's is as unknown as none. Records are proven where they enter
 * and where they leave.
 */
import type {
  JournalAppended,
  JournalAudit,
  JournalEnd,
  Stamp,
  StoredJournal,
} from '../../domain/journal/journal.js';
import type { DeviceKey, PointsKey } from './keys.js';

export interface JournalRead {
  /** Records after this ordinal; 0: from the first. */
  readonly afterOrdinal: number;
  /** None with a later stamp. */
  readonly throughStamp: Stamp;
  /** Whole records, no more than fit; but one at least, if there is one. */
  readonly bytesMax: number;
}

export interface Journals {
  /** By agent, device, and time of the first record. */
  list(key: PointsKey): Promise<StoredJournal[]>;
  /**
   * Null: there is none.
   * @param agent null: any; refused with `journal-unknown` if several have it, as a machine and its clone do
   */
  find(agent: string | null, journalId: string): Promise<StoredJournal | null>;
  /**
   * Makes it durable that there is one; one that is there already is the answer.
   * @throws StillpointError `busy`: the device has too many; `bad-message`: it is another device's
   */
  begin(key: DeviceKey, journalId: string, clockId: string): Promise<StoredJournal>;
  /**
   * Whole records in their order; durable when it resolves. Those that are there already are not stored
   * twice, also when it has ended.
   * @returns the last record that is there
   * @throws StillpointError `bad-message`: they are no such records; `journal-unknown`; `journal-gap`:
   * records are missing before them; `journal-closed`: it has ended, or its files are damaged; `store-full`
   */
  append(agent: string, journalId: string, records: Uint8Array): Promise<JournalAppended>;
  /**
   * Nothing more is appended; durable when it resolves. The first end that is told counts.
   * @throws StillpointError `journal-unknown`
   */
  end(agent: string, journalId: string, end: JournalEnd): Promise<void>;
  /**
   * Empty: there are none.
   * @throws StillpointError `journal-unknown`; `journal-gap`: records after `afterOrdinal` were removed;
   * `store-damaged` names the place
   */
  records(agent: string | null, journalId: string, read: JournalRead): Promise<Buffer>;
  /**
   * Durable when it resolves. With a fault the journal has ended. The first of a point counts.
   * @throws StillpointError `journal-unknown`
   */
  noteAudit(agent: string, journalId: string, audit: JournalAudit): Promise<void>;
  /**
   * Records up to the ordinal are not needed any more: what can be freed without writing anything anew is.
   * The last record stays. @returns how many bytes were freed
   */
  trim(agent: string, journalId: string, ordinal: number): Promise<number>;
  /** All of it. @returns how many bytes were freed; one that is not there has none */
  remove(agent: string, journalId: string): Promise<number>;
}
