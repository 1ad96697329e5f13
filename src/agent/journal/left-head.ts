/**
 * The head that a clean end of a tap has left beside its journal's segments (docs/journal.md, "The spool"):
 * after a restart of the machine it is the only one, until the tap is started.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { native, type TapJournalHead } from '../../native/index.js';

const HEAD_BYTES = 512;
const SUM_BYTES = 32;
const MAGIC = 'SPJCLOSE';
const VERSION = 1;
const WORDS_AT = 16;
const REASON_AT = WORDS_AT + 14 * 8;
const REASON_BYTES_MAX = 160;
const STATES = ['open', 'broken', 'closed'] as const;

/** @param directory of the journal. @returns null: there is none that counts */
export async function readLeftHead(directory: string): Promise<TapJournalHead | null> {
  const bytes = await readFile(join(directory, 'closed')).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  return bytes === null ? null : decodeLeftHead(bytes);
}

/** Null: it is damaged, or of another version. */
export function decodeLeftHead(bytes: Buffer): TapJournalHead | null {
  if (bytes.length !== HEAD_BYTES || bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) return null;
  if (bytes.readUInt32LE(8) !== VERSION) return null;
  const sumAt = HEAD_BYTES - SUM_BYTES;
  if (!native.checksum(bytes.subarray(0, sumAt)).equals(bytes.subarray(sumAt))) return null;
  const word = (index: number) => bytes.readBigUInt64LE(WORDS_AT + 8 * index);
  const number = (index: number) => Number(word(index));
  const hexId = (index: number) => bytes.toString('hex', WORDS_AT + 8 * index, WORDS_AT + 8 * index + 16);
  const state = STATES[number(4) - 1];
  const reasonBytes = number(13);
  if (state === undefined || state === 'open' || reasonBytes > REASON_BYTES_MAX) return null;
  return {
    ...{ journalId: hexId(0), clockId: hexId(2), state },
    ...{ ordinal: number(5), stamp: String(word(6)), segment: number(7) },
    ...{ recordOffset: number(8), endOffset: number(9), oldestSegment: number(10) },
    ...{ lastOrdinal: number(11), brokenStamp: String(word(12)) },
    reason: bytes.toString('utf8', REASON_AT, REASON_AT + reasonBytes),
  };
}
