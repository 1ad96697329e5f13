/**
 * Answers of many JSON values: one to a line, sent as they come. An error in the middle is the last line, `{"error": …}`.
 * That an answer is whole is HTTP's business: a broken connection never looks like the end.
 */
import { z } from 'zod';
import type { StillpointError } from '../domain/errors.js';
import { JSON_BYTES_MAX } from '../domain/limits.js';
import { decodeError, encodeError, errorBodySchema } from './error-body.js';
import { parseMessage } from './messages.js';

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
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      yield decodeLine(Buffer.concat([...rest, chunk.subarray(start, end)]), what, schema);
      rest = [];
      restBytes = 0;
      start = end + 1;
    }
    rest.push(chunk.subarray(start));
    restBytes += chunk.length - start;
    if (restBytes > JSON_BYTES_MAX) parseMessage(what, z.never('a line is too long'), null);
  }
  if (restBytes > 0) parseMessage(what, z.never('its last line is cut off'), null);
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
