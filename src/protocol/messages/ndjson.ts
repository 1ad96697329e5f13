/**
 * Answers of many JSON values: one to a line, sent as they come. An error in the middle is the last line,
 * `{"error": …}`. HTTP ensures that an answer is complete: a broken connection never looks like the end.
 */
import { z } from 'zod';
import type { StillpointError } from '../../domain/base/errors.js';
import { JSON_BYTES_MAX } from '../../domain/base/limits.js';
import { splitLines } from '../../domain/base/lines.js';
import { parseMessage } from '../schemas/messages.js';
import { decodeError, encodeError, errorBodySchema } from './error-body.js';

export const NDJSON_TYPE = 'application/x-ndjson';

const errorLine = z.strictObject({ error: errorBodySchema });

/** @param toError also the place to log it. */
export async function* encodeLines(
  values: AsyncIterable<unknown> | Iterable<unknown>,
  toError: (error: unknown) => StillpointError,
): AsyncGenerator<string> {
  try {
    for await (const value of values) yield `${JSON.stringify(value)}\n`;
  } catch (error) {
    yield `${JSON.stringify({ error: encodeError(toError(error)).body })}\n`;
  }
}

/** @throws the error that the other side sent, or StillpointError `bad-message` */
export async function* decodeLines<T>(
  chunks: AsyncIterable<Buffer>,
  what: string,
  schema: z.ZodType<T>,
): AsyncGenerator<T> {
  const refuse = (reason: string) => parseMessage(what, z.never(reason), null);
  for await (const line of splitLines(chunks, JSON_BYTES_MAX, refuse)) yield decodeLine(line, what, schema);
}

function decodeLine<T>(line: Buffer, what: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(line.toString('utf8'));
  } catch {
    value = undefined;
  }
  const failure = errorLine.safeParse(value);
  if (failure.success) throw decodeError(failure.data.error);
  return parseMessage(what, schema, value);
}
