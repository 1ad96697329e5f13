/**
 * The journals of a store, by its owner (docs/journal.md, "At the receiver").
 *
 * State: which there are, from their folders' names; each knows its own (owned.ts), from its first use on.
 *
 * |                        | append, end, ... of one journal  | begin, remove, rename |
 * |------------------------|----------------------------------|-----------------------|
 * | of the same journal    | one after the other              | waits                 |
 * | of another journal     | beside                           | beside                |
 * | begin, remove, rename  | beside                           | one after the other   |
 * | records, list, check   | beside: they see what is durable | beside                |
 */
import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { JOURNALS_PER_DEVICE_MAX, MiB } from '../../domain/base/limits.js';
import { checkName, isHexId } from '../../domain/base/names.js';
import type {
  JournalAppended,
  JournalAudit,
  JournalEnd,
  StoredJournal,
} from '../../domain/journal/journal.js';
import { makeDirs, temporaryFor } from '../disk/disk.js';
import { asStoreStep } from '../disk/errors.js';
import { JOURNALS_PREFIX } from '../disk/layout.js';
import { Mutex } from '../disk/mutex.js';
import { atOnce, type Paced } from '../disk/paced.js';
import { leaveReserve } from '../disk/room.js';
import { checkNameClash } from '../objects/name-clash.js';
import type { JournalRead, Journals } from '../port/journals.js';
import type { DeviceKey, PointsKey } from '../port/keys.js';
import { checkJournal, type JournalFinding } from './check.js';
import {
  findPlaces,
  isOf,
  isUnreadable,
  JOURNAL_DEFAULTS,
  type JournalContext,
  type JournalOptions,
  type JournalPlace,
  journalPlace,
  journalThing,
  journalUnknown,
  onlyOne,
} from './context.js';
import { compareStored, storedOf } from './load.js';
import { OwnedJournal } from './owned.js';
import { RecordsOut } from './read.js';

const SMALL_BYTES = MiB;

export class StoreJournals implements Journals {
  readonly #context: JournalContext;
  readonly #out: RecordsOut;
  readonly #mutex = new Mutex();
  readonly #all = new Map<string, OwnedJournal>();
  readonly #inFlight = new Set<Promise<unknown>>();
  #isClosed = false;

  private constructor(context: JournalContext) {
    this.#context = context;
    this.#out = new RecordsOut(context);
  }

  /** Looks at names only, and removes what a removal left. */
  static async open(options: JournalOptions): Promise<StoreJournals> {
    const journals = new StoreJournals({ ...JOURNAL_DEFAULTS, ...options });
    const { places, others } = await findPlaces(options);
    for (const place of places) journals.#add(place);
    for (const path of others) {
      if (!isHexId(temporaryFor(path.slice(path.lastIndexOf('/') + 1)) ?? '')) continue;
      await options.disk.removeDir(path).catch((error) => options.log(`${path} stays: ${String(error)}`));
    }
    return journals;
  }

  #add(place: JournalPlace): OwnedJournal {
    const journal = new OwnedJournal(this.#context, place);
    this.#all.set(`${place.agent}/${place.journalId}`, journal);
    return journal;
  }

  #drop({ place }: OwnedJournal): void {
    this.#all.delete(`${place.agent}/${place.journalId}`);
    this.#out.forget(place);
  }

  #find(agent: string | null, journalId: string): OwnedJournal | undefined {
    if (agent !== null) return this.#all.get(`${agent}/${journalId}`);
    const found = [...this.#all.values()].filter(({ place }) => place.journalId === journalId);
    return onlyOne(found, journalId);
  }

  /** A call that closing waits for. */
  async #run<T>(journalId: string | null, step: () => Promise<T>): Promise<T> {
    const store = `store ${this.#context.dir}`;
    if (this.#isClosed)
      throw new StillpointError('cancelled', { thing: store, reason: 'it is closed', permanent: false });
    const work = asStoreStep(journalId === null ? store : `journal ${journalId}`, step);
    this.#inFlight.add(work);
    try {
      return await work;
    } finally {
      this.#inFlight.delete(work);
    }
  }

  #on<T>(agent: string | null, journalId: string, step: (journal: OwnedJournal) => Promise<T>): Promise<T> {
    return this.#run(journalId, async () => {
      const journal = this.#find(agent, journalId);
      if (journal === undefined) throw journalUnknown(journalId);
      return step(journal);
    });
  }

  list(key: PointsKey): Promise<StoredJournal[]> {
    return this.#run(null, async () => {
      const listed: StoredJournal[] = [];
      for (const journal of [...this.#all.values()].filter(({ place }) => isOf(key, place))) {
        const loaded = await journal.state().catch((error) => this.#passOver(error));
        if (loaded !== null) listed.push(storedOf(journal.place, loaded));
      }
      return listed.sort(compareStored);
    });
  }

  /** One that is damaged must not hide the others: verify names it. */
  #passOver(error: unknown): null {
    if (isUnreadable(error)) return null;
    throw error;
  }

  find(agent: string | null, journalId: string): Promise<StoredJournal | null> {
    return this.#run(journalId, async () => {
      const journal = this.#find(agent, journalId);
      const loaded = (await journal?.state()) ?? null;
      return journal === undefined || loaded === null ? null : storedOf(journal.place, loaded);
    });
  }

  begin(key: DeviceKey, journalId: string, clockId: string): Promise<StoredJournal> {
    const { agent, device } = key;
    const refuse = (code: 'bad-message' | 'busy', reason: string) =>
      new StillpointError(code, { thing: journalThing({ agent, device, journalId }), reason });
    return this.#run(journalId, () =>
      this.#mutex.run(async () => {
        checkName('agent', agent);
        checkName('device', device);
        if (![journalId, clockId].every(isHexId))
          throw refuse('bad-message', 'ids of journals and clocks have 32 hex digits');
        let journal = this.#find(agent, journalId);
        if (journal !== undefined && journal.place.device !== device)
          throw refuse('bad-message', `it is a journal of ${journal.place.device}`);
        if (journal === undefined) {
          const ofDevice = [...this.#all.values()].filter(({ place }) => isOf({ agent, device }, place));
          if (ofDevice.length >= JOURNALS_PER_DEVICE_MAX)
            throw refuse(
              'busy',
              `the device has ${ofDevice.length} journals, which is as many as it may have`,
            );
          journal = this.#add(await this.#makePlace(key, journalId));
        }
        const loaded = await journal.begin(clockId);
        if (loaded.clockId !== clockId) throw refuse('bad-message', 'it is of another clock');
        return storedOf(journal.place, loaded);
      }),
    );
  }

  async #makePlace(key: DeviceKey, journalId: string): Promise<JournalPlace> {
    const { disk, dir } = this.#context;
    await leaveReserve(disk, join(dir, JOURNALS_PREFIX), SMALL_BYTES);
    await checkNameClash(disk, dir, key, [], JOURNALS_PREFIX);
    const place = journalPlace(dir, key, journalId);
    await makeDirs(disk, dir, place.path.slice(dir.length + 1));
    return place;
  }

  append(agent: string, journalId: string, records: Uint8Array): Promise<JournalAppended> {
    return this.#on(agent, journalId, (journal) => journal.append(records));
  }

  end(agent: string, journalId: string, end: JournalEnd): Promise<void> {
    return this.#on(agent, journalId, (journal) => journal.end(end));
  }

  records(agent: string | null, journalId: string, read: JournalRead): Promise<Buffer> {
    return this.#on(agent, journalId, async (journal) => {
      const loaded = await journal.state();
      if (loaded === null) throw journalUnknown(journalId);
      return this.#out.read(journal.place, loaded, read);
    });
  }

  noteAudit(agent: string, journalId: string, audit: JournalAudit): Promise<void> {
    return this.#on(agent, journalId, (journal) => journal.noteAudit(audit));
  }

  trim(agent: string, journalId: string, ordinal: number): Promise<number> {
    return this.#on(agent, journalId, (journal) => journal.trim(ordinal));
  }

  remove(agent: string, journalId: string): Promise<number> {
    return this.#run(journalId, () =>
      this.#mutex.run(async () => {
        const journal = this.#find(agent, journalId);
        return journal === undefined ? 0 : this.#remove(journal);
      }),
    );
  }

  async #remove(journal: OwnedJournal): Promise<number> {
    const freedBytes = await journal.remove();
    this.#drop(journal);
    return freedBytes;
  }

  /** All of a device. */
  removeDevice(key: DeviceKey): Promise<void> {
    return this.#run(null, () =>
      this.#mutex.run(async () => {
        for (const journal of [...this.#all.values()])
          if (isOf(key, journal.place)) await this.#remove(journal);
      }),
    );
  }

  /** @throws StillpointError `bad-name`: both have a journal of one id */
  checkRename(from: string, to: string): void {
    for (const { place } of this.#all.values()) {
      if (place.agent !== from || this.#find(to, place.journalId) === undefined) continue;
      throw new StillpointError('bad-name', {
        thing: `agent ${to}`,
        reason: `it has a journal ${place.journalId}, as ${from} has`,
        remedy: 'Choose another name.',
      });
    }
  }

  /**
   * All journals of an agent are another's from now on. May be done again after it died or failed anywhere.
   */
  renameAgent(from: string, to: string): Promise<void> {
    return this.#run(null, () =>
      this.#mutex.run(async () => {
        this.checkRename(from, to);
        const { disk, dir } = this.#context;
        for (const journal of [...this.#all.values()].filter(({ place }) => place.agent === from)) {
          const { device, journalId } = journal.place;
          const place = journalPlace(dir, { agent: to, device }, journalId);
          await makeDirs(disk, dir, join(JOURNALS_PREFIX, to, device));
          await journal.rename(place);
          this.#drop(journal);
          this.#add(place);
        }
      }),
    );
  }

  /** Reads all back. What is wrong: file and place, and why. */
  async check(paced: Paced = atOnce): Promise<JournalFinding[]> {
    const findings: JournalFinding[] = [];
    for (const { place } of [...this.#all.values()]) {
      const journal = () => this.#find(place.agent, place.journalId);
      const state = async () => (await journal()?.state()) ?? null;
      findings.push(
        ...(await this.#run(place.journalId, () => checkJournal(this.#context, place, state, paced))),
      );
    }
    return findings;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled([...this.#inFlight]);
  }
}
