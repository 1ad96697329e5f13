/** Frees what is not needed any more of the journals of a store (src/domain/journal/keeping.ts). */
import { MiB } from '../../domain/base/limits.js';
import { compareStamps, type Stamp, type StoredJournal, sameDevice } from '../../domain/journal/journal.js';
import { type KeepingFacts, type Needless, needlessOf } from '../../domain/journal/keeping.js';
import type { ClockJudgement } from '../../domain/retention/clock.js';
import { journalKeepMs } from '../../domain/retention/settings.js';
import { native } from '../../native/index.js';
import type { Store } from '../../store/port/store.js';
import type { FreedJournals } from './messages.js';
import type { PlanScope } from './planning.js';

/** The stamp of the first of these records. */
export type FirstStamp = (records: Uint8Array) => Promise<Stamp | null>;

export interface JournalKeeping {
  /** Its agent told something of it a moment ago. Default: none did. */
  readonly isHeard?: ((journal: StoredJournal) => boolean) | undefined;
  readonly firstStamp?: FirstStamp | undefined;
  readonly onRemoved?: (journal: StoredJournal, bytes: number) => void;
}

/** Stamps are looked for as closely as this: what goes are whole files. */
const SEARCH_GRAIN_BYTES = 64 * MiB;
const LAST_STAMP: Stamp = String(2n ** 64n - 1n);

/** What would be freed: at most. */
export async function needlessJournals(
  store: Store,
  scope: PlanScope,
  clock: ClockJudgement,
  options: JournalKeeping,
): Promise<FreedJournals> {
  const found = await findNeedless(store, scope, clock, options);
  const bytes = found.reduce((sum, { journal, needless }) => sum + bytesAtMost(journal, needless), 0);
  return { journalCount: found.length, bytes };
}

/** One that can't be freed keeps no other from it. @throws the first error, when all others are done */
export async function freeJournals(
  store: Store,
  scope: PlanScope,
  clock: ClockJudgement,
  signal: AbortSignal,
  options: JournalKeeping,
): Promise<FreedJournals> {
  const failures: unknown[] = [];
  let [journalCount, bytes] = [0, 0];
  for (const { journal, needless } of await findNeedless(store, scope, clock, options)) {
    if (signal.aborted) break;
    try {
      const freed = await free(store, journal, needless, options.firstStamp ?? firstStampOf);
      if (needless.what === 'all') options.onRemoved?.(journal, freed);
      if (needless.what === 'all' || freed > 0) journalCount += 1;
      bytes += freed;
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return { journalCount, bytes };
}

interface Found {
  readonly journal: StoredJournal;
  readonly needless: Needless;
}

async function findNeedless(
  store: Store,
  { agent, device }: PlanScope,
  clock: ClockJudgement,
  { isHeard = () => false }: JournalKeeping,
): Promise<Found[]> {
  const key = { ...(agent === null ? {} : { agent }), ...(device === null ? {} : { device }) };
  const journals = await store.journals.list(key);
  if (journals.length === 0 || !clock.isBelieved) return [];
  const { settings } = store.retention;
  const facts: KeepingFacts = {
    ...{ nowMs: clock.nowMs, isHeard, points: await store.points(key) },
    keepMs: (of) => journalKeepMs(settings, of),
    isOpen: (of) => store.captures().some(({ description }) => sameDevice(description, of)),
  };
  return journals.flatMap((journal) => {
    const needless = needlessOf(journal, facts);
    return needless === null ? [] : [{ journal, needless }];
  });
}

async function free(
  store: Store,
  journal: StoredJournal,
  needless: Needless,
  firstStamp: FirstStamp,
): Promise<number> {
  const { agent, journalId } = journal;
  if (needless.what === 'all') return store.journals.remove(agent, journalId);
  const ordinal =
    needless.what === 'records'
      ? needless.throughOrdinal
      : await ordinalBefore(store, journal, needless.throughStamp, firstStamp);
  return store.journals.trim(agent, journalId, ordinal);
}

/** Of a record with this stamp or an earlier one, and not far before the last of them; 0: there is none. */
async function ordinalBefore(
  store: Store,
  journal: StoredJournal,
  throughStamp: Stamp,
  firstStamp: FirstStamp,
): Promise<number> {
  const { agent, journalId, first, last, sizeBytes } = journal;
  if (first === null || last === null || compareStamps(first.stamp, throughStamp) > 0) return 0;
  const bytesEach = sizeBytes / (last.ordinal - first.ordinal + 1);
  let [before, after] = [first.ordinal, last.ordinal];
  while (after - before > 1 && (after - before) * bytesEach > SEARCH_GRAIN_BYTES) {
    const middle = Math.floor((before + after) / 2);
    const read = { afterOrdinal: middle - 1, throughStamp: LAST_STAMP, bytesMax: 1 };
    const stamp = await firstStamp(await store.journals.records(agent, journalId, read));
    if (stamp !== null && compareStamps(stamp, throughStamp) <= 0) before = middle;
    else after = middle;
  }
  return before;
}

function bytesAtMost({ sizeBytes, first, last }: StoredJournal, needless: Needless): number {
  if (needless.what !== 'records' || first === null || last === null) return sizeBytes;
  const count = Math.min(needless.throughOrdinal, last.ordinal) - first.ordinal + 1;
  return Math.round((sizeBytes * count) / (last.ordinal - first.ordinal + 1));
}

async function firstStampOf(records: Uint8Array): Promise<Stamp | null> {
  return (await native.scanJournal(records, { afterOrdinal: null })).first?.stamp ?? null;
}
