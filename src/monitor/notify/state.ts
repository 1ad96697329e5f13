/** The book of notices on disk, so that a start tells nothing twice. If it is damaged, it begins anew. */
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { isStillpointError } from '../../domain/base/errors.js';
import { BOOK_ENTRIES_MAX, type Book } from '../../domain/notice/book.js';
import { eventsOf, type NoticeEvent } from '../../domain/notice/events.js';

const text = z.string().max(2048);
const time = z.number().min(-8.64e15).max(8.64e15);
const events = [...new Set([...eventsOf('agent'), ...eventsOf('receiver')])] as [
  NoticeEvent,
  ...NoticeEvent[],
];

const bookFormat: StateFormat<Book> = {
  format: 'stillpoint-notices',
  version: 1,
  schema: z
    .array(
      z.strictObject({
        ...{ event: z.enum(events), subject: text, text, sinceMs: time, toldMs: time.nullable() },
        due: z
          .strictObject({
            state: z.enum(['begun', 'lasting', 'over']),
            channels: z.array(z.enum(['command', 'webhook', 'mail'])),
            tries: z.int().min(0),
            atMs: time,
          })
          .nullable(),
      }),
    )
    .max(BOOK_ENTRIES_MAX),
};

/** @throws StillpointError `version` if a newer program wrote it */
export async function readBook(path: string, onDamage: (reason: string) => void): Promise<Book> {
  try {
    return (await readStateFile(path, bookFormat)) ?? [];
  } catch (error) {
    if (!isStillpointError(error, 'config')) throw error;
    onDamage(error.message);
    return [];
  }
}

export function writeBook(path: string, book: Book): Promise<void> {
  return writeStateFile(path, bookFormat, book);
}
