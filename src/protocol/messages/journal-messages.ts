/**
 * The messages about journals: an agent ships the writes of a tap, and reads them for a restore
 * (docs/journal.md). Each may be repeated as it is.
 */
import { JOURNAL_APPEND_BYTES_MAX, JOURNAL_READ_BYTES_MAX } from '../../domain/base/limits.js';
import type { JournalEnd, Stamp } from '../../domain/journal/journal.js';
import {
  journalAppendedSchema,
  journalEndSchema,
  ordinalSchema,
  stampSchema,
  storedJournalSchema,
} from '../schemas/journals.js';
import { deviceSchema, hexIdSchema, REQUEST_BYTES_MAX } from '../schemas/messages.js';
import { bytesAnswer, done, jsonAnswer, listAnswer } from './answer-forms.js';
import { call } from './message.js';
import { bytes, field, inJournal, json, rest } from './request-forms.js';

const journalId = field('journalId', 'journal id', hexIdSchema);

export const JOURNAL_MESSAGES = {
  /** The receiver is to keep this journal of a device; the answer says what it has of it. */
  beginJournal: call({
    path: '/journal/begin',
    request: json<[device: string, journalId: string, clockId: string]>(
      REQUEST_BYTES_MAX,
      field('device', 'device name', deviceSchema),
      journalId,
      field('clockId', 'clock id', hexIdSchema),
    ),
    answer: jsonAnswer(storedJournalSchema),
  }),

  /**
   * Whole records in their order. Answered with the last record that is durable; those that are there already
   * are not stored twice.
   */
  appendJournal: call({
    path: '/journal/append',
    request: inJournal(bytes('records of a journal', JOURNAL_APPEND_BYTES_MAX)),
    answer: jsonAnswer(journalAppendedSchema),
    bulk: 'request',
  }),

  /** Nothing follows. */
  endJournal: call({
    path: '/journal/end',
    request: json<[journalId: string, end: JournalEnd]>(
      REQUEST_BYTES_MAX,
      journalId,
      rest('end of a journal', journalEndSchema),
    ),
    answer: done,
  }),

  /** Journals of one device, or of all of the agent's devices; by device, then by time. */
  journals: call({
    path: '/journals',
    request: json<[device?: string]>(
      REQUEST_BYTES_MAX,
      field('device', 'device name', deviceSchema.optional()),
    ),
    answer: listAnswer('list of journals', storedJournalSchema),
  }),

  /**
   * Whole records after the ordinal, none with a later stamp; as many as one answer may have, one at least.
   * Empty: there are no more.
   */
  journalRecords: call({
    path: '/journal/records',
    request: json<[journalId: string, afterOrdinal: number, throughStamp: Stamp]>(
      REQUEST_BYTES_MAX,
      journalId,
      field('afterOrdinal', 'ordinal', ordinalSchema),
      field('throughStamp', 'stamp', stampSchema),
    ),
    answer: bytesAnswer(JOURNAL_READ_BYTES_MAX, { memoryBytesMax: JOURNAL_READ_BYTES_MAX }),
    bulk: 'answer',
  }),
};
