/**
 * The journal of a tap for its process: what the native tap is told, and what is said when it breaks. Users'
 * I/O comes first: whatever is wrong with it, the tap serves.
 */
import type { Logger } from 'pino';
import { makeDirectories } from '../native/files.js';
import type { Tap, TapJournalOptions, TapStatus } from '../native/index.js';
import { attachedDevice } from './attach.js';
import type { RegisteredTap } from './registry/registry.js';
import { checkJournalDirectory } from './source/preserve.js';
import type { TapSource } from './source/source.js';

export interface JournalStart {
  /** Null: it has none. */
  readonly options: TapJournalOptions | null;
  /** Why it has none although it should; else null. */
  readonly problem: string | null;
}

export async function startJournal(tap: RegisteredTap, source: TapSource): Promise<JournalStart> {
  const { settings, clock, headDirectory, spoolDirectory } = tap;
  if (settings.journal === null) return { options: null, problem: null };
  const { directory, maxBytes } = settings.journal;
  try {
    await checkJournalDirectory(directory, source, await attachedDevice(tap));
    // Any other one that is missing may be on a disk that is not there.
    if (directory === spoolDirectory) await makeDirectories(directory);
    return { options: { directory, headDirectory, maxBytes, clock }, problem: null };
  } catch (error) {
    return { options: null, problem: (error as Error).message };
  }
}

/** @param problem as in JournalStart */
export function statusOf(native: Tap, problem: string | null): TapStatus {
  const status = native.status();
  return problem === null ? status : { ...status, journal: { heads: [], failure: problem, aheadMs: 0 } };
}

/** @returns what looks whether the journal has become another or broken since the last look, and logs it. */
export function journalWatch(native: Tap, problem: string | null, log: Logger): () => void {
  let said = '';
  return () => {
    const { journal } = statusOf(native, problem);
    const head = journal?.heads.at(-1);
    const [id, state] = [head?.journalId, head?.state];
    const reason = head?.state === 'broken' ? head.reason : (journal?.failure ?? '');
    const now = [id, state, reason].join(' ');
    if (now === said || journal === undefined) return;
    said = now;
    if (reason !== '') log.warn({ journal: id, reason }, 'no journal is written until the next backup');
    else if (id !== undefined) log.info({ journal: id }, 'a journal is written');
  };
}
