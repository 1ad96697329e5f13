/** The journals of a store, in files (docs/journal.md). */
import { StillpointError } from '../../domain/base/errors.js';
import type { JournalAppended, StoredJournal } from '../../domain/journal/journal.js';
import type { Journals } from '../port/journals.js';

/** A draft: it has none. */
export class StoreJournals implements Journals {
  async list(): Promise<StoredJournal[]> {
    return [];
  }

  async find(): Promise<StoredJournal | null> {
    return null;
  }

  async begin(): Promise<StoredJournal> {
    throw notYet();
  }

  async append(): Promise<JournalAppended> {
    throw notYet();
  }

  async end(): Promise<void> {
    throw notYet();
  }

  async records(): Promise<Buffer> {
    throw notYet();
  }

  async noteAudit(): Promise<void> {
    throw notYet();
  }

  async trim(): Promise<number> {
    return 0;
  }

  async remove(): Promise<number> {
    return 0;
  }
}

function notYet(): StillpointError {
  return new StillpointError('journal-unknown', { thing: 'journal', reason: 'this store keeps none yet' });
}
