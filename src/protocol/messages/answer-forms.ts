/**
 * How the answer of a message is written (the receiver) and read and checked, where it enters (the agent).
 */
import type { z } from 'zod';
import { JSON_BYTES_MAX } from '../../domain/base/limits.js';
import { parseMessage } from '../schemas/messages.js';
import { decodeLines } from './ndjson.js';

/** An answer before it is sent. */
export type AnswerContent =
  | { readonly json: object }
  | { readonly bytes: Buffer }
  | { readonly lines: readonly object[] };

/** An answer that comes: one of the two is asked for, once. */
export interface ComingAnswer {
  /** All of it. */
  bytes(bytesMax: number): Promise<Buffer>;
  /** As it comes. */
  chunks(): AsyncIterable<Buffer>;
}

export interface AnswerForm<Args extends unknown[], Answer> {
  /**
   * What making it and holding it takes, where that is much: such answers share a budget from before they are
   * made until they are taken.
   */
  readonly memoryBytesMax?: number;
  write(answer: Answer): AnswerContent;
  /** @param what names it in an error. @throws StillpointError `bad-message`, `too-large` */
  read(coming: ComingAnswer, what: string, args: Args): Promise<Answer>;
}

export function jsonAnswer<Answer extends object>(schema: z.ZodType<Answer>): AnswerForm<unknown[], Answer> {
  return {
    write: (answer) => ({ json: answer }),
    read: (coming, what) => readJson(coming, what, schema),
  };
}

/** An object with one field, which is the answer. */
export function jsonField<Key extends string, Answer>(
  key: Key,
  schema: z.ZodType<Readonly<Record<Key, Answer>>>,
): AnswerForm<unknown[], Answer> {
  return {
    write: (answer) => ({ json: { [key]: answer } }),
    read: async (coming, what) => (await readJson(coming, what, schema))[key],
  };
}

/** That it was done. */
export const done: AnswerForm<unknown[], void> = {
  write: () => ({ json: {} }),
  read: async (coming) => void (await coming.bytes(JSON_BYTES_MAX)),
};

/** Bytes whose content is the caller's to check. */
export function bytesAnswer<Args extends unknown[]>(
  bytesMax: number | ((...args: Args) => number),
  memory: Pick<AnswerForm<Args, Uint8Array>, 'memoryBytesMax'> = {},
): AnswerForm<Args, Uint8Array> {
  return {
    ...memory,
    write: (answer) => ({ bytes: Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength) }),
    read: (coming, _what, args) => coming.bytes(typeof bytesMax === 'number' ? bytesMax : bytesMax(...args)),
  };
}

/** A list that may be too long for one JSON value: one item to a line. */
export function listAnswer<Item extends object>(
  what: string,
  schema: z.ZodType<Item>,
): AnswerForm<unknown[], Item[]> {
  return {
    write: (items) => ({ lines: items }),
    read: async (coming) => {
      const items: Item[] = [];
      for await (const item of decodeLines(coming.chunks(), what, schema)) items.push(item);
      return items;
    },
  };
}

async function readJson<T>(coming: ComingAnswer, what: string, schema: z.ZodType<T>): Promise<T> {
  return parseMessage(what, schema, parseJson(await coming.bytes(JSON_BYTES_MAX)));
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
