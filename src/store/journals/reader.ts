/**
 * The journals of a store that is only read, beside its owner or alone: it sees what is whole, and writes
 * nothing.
 *
 * State: how far the last files of journals were proven.
 */
import { StillpointError } from '../../domain/base/errors.js';
import type { StoredJournal } from '../../domain/journal/journal.js';
import { asStoreStep } from '../disk/errors.js';
import { atOnce, type Paced } from '../disk/paced.js';
import type { JournalRead, Journals } from '../port/journals.js';
import type { PointsKey } from '../port/keys.js';
import { checkJournal, type JournalFinding } from './check.js';
import {
  findPlaces,
  isOf,
  isUnreadable,
  JOURNAL_DEFAULTS,
  type JournalContext,
  type JournalOptions,
  type JournalPlace,
  journalUnknown,
  onlyOne,
} from './context.js';
import { compareStored, type LoadedJournal, loadJournal, storedOf, type Tail } from './load.js';
import { RecordsOut } from './read.js';

export class ReaderJournals implements Journals {
  readonly #context: JournalContext;
  readonly #out: RecordsOut;
  readonly #tails = new Map<string, Tail>();

  constructor(options: JournalOptions) {
    this.#context = { ...JOURNAL_DEFAULTS, ...options };
    this.#out = new RecordsOut(this.#context);
  }

  #load(place: JournalPlace): Promise<LoadedJournal | null> {
    return loadJournal(this.#context, place, this.#tails);
  }

  list(key: PointsKey): Promise<StoredJournal[]> {
    return this.#step(async () => {
      const listed: StoredJournal[] = [];
      for (const place of (await findPlaces(this.#context)).places) {
        if (!isOf(key, place)) continue;
        const loaded = await this.#load(place).catch((error) => {
          // Verify names it.
          if (isUnreadable(error)) return null;
          throw error;
        });
        if (loaded !== null) listed.push(storedOf(place, loaded));
      }
      return listed.sort(compareStored);
    });
  }

  find(agent: string | null, journalId: string): Promise<StoredJournal | null> {
    return this.#step(async () => {
      const found = await this.#find(agent, journalId);
      return found === null ? null : storedOf(found.place, found.loaded);
    });
  }

  async #find(
    agent: string | null,
    journalId: string,
  ): Promise<{ readonly place: JournalPlace; readonly loaded: LoadedJournal } | null> {
    const { places } = await findPlaces(this.#context);
    const place = onlyOne(
      places.filter((other) => other.journalId === journalId && (agent === null || other.agent === agent)),
      journalId,
    );
    const loaded = place === undefined ? null : await this.#load(place);
    return place === undefined || loaded === null ? null : { place, loaded };
  }

  records(agent: string | null, journalId: string, read: JournalRead): Promise<Buffer> {
    return this.#step(async () => {
      const found = await this.#find(agent, journalId);
      if (found === null) throw journalUnknown(journalId);
      return this.#out.read(found.place, found.loaded, read);
    });
  }

  async check(paced: Paced = atOnce): Promise<JournalFinding[]> {
    const findings: JournalFinding[] = [];
    for (const place of (await findPlaces(this.#context)).places)
      findings.push(...(await checkJournal(this.#context, place, () => this.#load(place), paced)));
    return findings;
  }

  begin = (): Promise<never> => this.#readsOnly();
  append = (): Promise<never> => this.#readsOnly();
  end = (): Promise<never> => this.#readsOnly();
  noteAudit = (): Promise<never> => this.#readsOnly();
  trim = (): Promise<never> => this.#readsOnly();
  remove = (): Promise<never> => this.#readsOnly();

  #step<T>(step: () => Promise<T>): Promise<T> {
    return asStoreStep(`store ${this.#context.dir}`, step);
  }

  async #readsOnly(): Promise<never> {
    throw new StillpointError('internal', {
      thing: `store ${this.#context.dir}`,
      reason: 'it was opened for reading only, and something else was asked of it',
    });
  }
}
