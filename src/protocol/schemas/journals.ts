/** The shapes of the messages about journals (src/domain/journal/journal.ts). */
import { z } from 'zod';
import type {
  JournalAppended,
  JournalAudit,
  JournalEnd,
  JournalMark,
  JournalPosition,
  Stamp,
  StoredJournal,
} from '../../domain/journal/journal.js';

const TEXT_CHARS_MAX = 4096;
const AUDITS_MAX = 100_000;

const hexId = z.string().regex(/^[0-9a-f]{32}$/, '32 lower-case hex digits');
const count = z.int().min(0);
const text = z.string().max(TEXT_CHARS_MAX);

export const stampSchema: z.ZodType<Stamp> = z
  .string()
  .regex(/^(0|[1-9][0-9]{0,19})$/, 'a stamp: nanoseconds');
export const ordinalSchema: z.ZodType<number> = count;

const mark = { ordinal: z.int().min(1), stamp: stampSchema };
const journalMarkSchema: z.ZodType<JournalMark> = z.strictObject(mark);

export const journalAppendedSchema: z.ZodType<JournalAppended> = z.strictObject({
  last: journalMarkSchema.nullable(),
});

export const journalPositionSchema: z.ZodType<JournalPosition> = z.strictObject({
  journalId: hexId,
  clockId: hexId,
  ...mark,
});

export const journalEndSchema: z.ZodType<JournalEnd> = z.strictObject({
  reason: text,
  stamp: stampSchema,
  lastOrdinal: count,
});

const audit: z.ZodType<JournalAudit> = z.strictObject({
  pointId: hexId,
  ordinal: z.int().min(1),
  fault: text.nullable(),
});

export const storedJournalSchema: z.ZodType<StoredJournal> = z.strictObject({
  agent: text,
  device: text,
  journalId: hexId,
  clockId: hexId,
  first: journalMarkSchema.nullable(),
  last: journalMarkSchema.nullable(),
  sizeBytes: count,
  end: journalEndSchema.nullable(),
  audits: z.array(audit).max(AUDITS_MAX),
});
