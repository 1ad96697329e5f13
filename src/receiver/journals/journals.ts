/**
 * The journals of a receiver's agents: what they ship, and read again for a restore. An agent that is being
 * renamed or removed is refused, and what it had begun before is waited for (`settled`).
 */
import { JOURNAL_READ_BYTES_MAX } from '../../domain/base/limits.js';
import type {
  JournalAppended,
  JournalAudit,
  JournalEnd,
  Stamp,
  StoredJournal,
} from '../../domain/journal/journal.js';
import type { DeviceKey, PointsKey, Store } from '../../store/port/store.js';

export interface ReceiverJournalsOptions {
  readonly store: Store;
  /** @throws StillpointError `busy` while the agent is being renamed or removed */
  readonly checkOpen: (agent: string) => void;
  /** Before a journal that is not there yet. @throws StillpointError `quota`, `bad-name` */
  readonly admitDevice: (key: DeviceKey) => Promise<void>;
  /** Before so many bytes are appended. @throws StillpointError `quota` */
  readonly admitBytes: (agent: string, bytes: number) => Promise<void>;
  readonly nowMs?: () => number;
}

/** An agent that still has the journal says something of it within this time: it begins it at each start. */
const HEARD_MS = 60 * 60_000;

export class ReceiverJournals {
  readonly #options: ReceiverJournalsOptions;
  readonly #nowMs: () => number;
  readonly #startMs: number;
  /** By agent. */
  readonly #running = new Map<string, Set<Promise<unknown>>>();
  /** By journal: monotonic. */
  readonly #heardMs = new Map<string, number>();

  constructor(options: ReceiverJournalsOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#startMs = this.#nowMs();
  }

  list(key: PointsKey): Promise<StoredJournal[]> {
    return this.#options.store.journals.list(key);
  }

  begin(
    key: DeviceKey,
    journalId: string,
    clockId: string,
  ): Promise<{ readonly journal: StoredJournal; readonly isNew: boolean }> {
    const { store, admitDevice } = this.#options;
    return this.#run(key.agent, async () => {
      const isNew = (await store.journals.find(key.agent, journalId)) === null;
      if (isNew) await admitDevice(key);
      const journal = await store.journals.begin(key, journalId, clockId);
      this.#heard(journal);
      return { journal, isNew };
    });
  }

  append(agent: string, journalId: string, records: Uint8Array): Promise<JournalAppended> {
    const { store, admitBytes } = this.#options;
    return this.#run(agent, async () => {
      await admitBytes(agent, records.length);
      const appended = await store.journals.append(agent, journalId, records);
      this.#heard({ agent, journalId });
      return appended;
    });
  }

  /** @returns null: it had ended before */
  end(agent: string, journalId: string, end: JournalEnd): Promise<StoredJournal | null> {
    const { journals } = this.#options.store;
    return this.#run(agent, async () => {
      const before = await journals.find(agent, journalId);
      await journals.end(agent, journalId, end);
      return before?.end === null ? before : null;
    });
  }

  /** @param agent null: any */
  records(
    agent: string | null,
    journalId: string,
    afterOrdinal: number,
    throughStamp: Stamp,
  ): Promise<Buffer> {
    const read = { afterOrdinal, throughStamp, bytesMax: JOURNAL_READ_BYTES_MAX };
    return this.#options.store.journals.records(agent, journalId, read);
  }

  noteAudit(agent: string, journalId: string, audit: JournalAudit): Promise<void> {
    return this.#run(agent, () => this.#options.store.journals.noteAudit(agent, journalId, audit));
  }

  /** Within a time in which its agent says something of each journal that it has. */
  isHeard({ agent, journalId }: Pick<StoredJournal, 'agent' | 'journalId'>): boolean {
    const lastMs = this.#heardMs.get(`${agent}/${journalId}`) ?? this.#startMs;
    return this.#nowMs() - lastMs < HEARD_MS;
  }

  /** What these agents had begun has ended, well or not. */
  async settled(agents: readonly string[]): Promise<void> {
    const running = agents.flatMap((agent) => [...(this.#running.get(agent) ?? [])]);
    await Promise.allSettled(running);
  }

  #heard({ agent, journalId }: Pick<StoredJournal, 'agent' | 'journalId'>): void {
    // Those that were not heard of for so long are as if they never had been.
    for (const [key, lastMs] of this.#heardMs) {
      if (this.#nowMs() - lastMs < HEARD_MS) break;
      this.#heardMs.delete(key);
    }
    const key = `${agent}/${journalId}`;
    this.#heardMs.delete(key);
    this.#heardMs.set(key, this.#nowMs());
  }

  async #run<T>(agent: string, work: () => Promise<T>): Promise<T> {
    this.#options.checkOpen(agent);
    const running = this.#running.get(agent) ?? new Set();
    this.#running.set(agent, running);
    const result = work();
    running.add(result);
    try {
      return await result;
    } finally {
      running.delete(result);
      if (running.size === 0) this.#running.delete(agent);
    }
  }
}
