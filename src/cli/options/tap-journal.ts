/** The options that say whether a tap has a journal. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { StillpointError } from '../../domain/base/errors.js';
import { parseSize } from '../../domain/base/quantities.js';
import type { TapSettings } from '../../tap/registry/settings.js';
import type { TapSource } from '../../tap/source/source.js';

export interface JournalOptions {
  readonly journal?: boolean;
  readonly journalDir?: string;
  readonly journalMax?: number;
}

/** What the journal is for. */
export interface JournaledTap {
  readonly source: TapSource;
  readonly readOnly: boolean;
  /** Beside the map. */
  readonly spoolDirectory: string;
  /** `/dev/nbdN`; null: none. */
  readonly attached: string | null;
  /** What it has now. */
  readonly before: TapSettings['journal'];
}

export function addJournalOptions(command: Command): Command {
  return command
    .option('--journal', 'write down every write, so that any second can be restored')
    .option('--journal-dir <dir>', 'where that goes until the receiver has it (default: beside the map)')
    .option(
      '--journal-max <size>',
      'most space for it, from 16M (default: 4G, at most half of the free space)',
      (text) => parseSize('size of the journal', text),
    );
}

/** @throws StillpointError `usage`, `config` */
export async function journalSettings(
  options: JournalOptions,
  { source, readOnly, spoolDirectory, attached, before }: JournaledTap,
): Promise<TapSettings['journal']> {
  const { journal = false, journalDir, journalMax } = options;
  if (!journal) {
    const alone =
      journalDir !== undefined ? '--journal-dir' : journalMax !== undefined ? '--journal-max' : '';
    if (alone === '') return null;
    throw usage(alone, 'it says nothing without --journal');
  }
  if (readOnly) throw usage('--journal', 'a tap that refuses all writes has none to write down');
  const { checkJournalDirectory, defaultJournalMax, JOURNAL_BYTES_MIN } = await import(
    '../../tap/source/preserve.js'
  );
  if (journalMax !== undefined && journalMax < JOURNAL_BYTES_MIN) {
    throw usage('--journal-max', `it must be at least ${JOURNAL_BYTES_MIN} bytes`);
  }
  const directory = journalDir === undefined ? (before?.directory ?? spoolDirectory) : resolve(journalDir);
  await checkJournalDirectory(directory, source, attached);
  const maxBytes = journalMax ?? before?.maxBytes ?? (await defaultJournalMax(directory));
  return { directory, maxBytes };
}

function usage(thing: string, reason: string): StillpointError {
  return new StillpointError('usage', { thing, reason });
}
