/**
 * How the arguments of a message are placed in its request: in the control header, in a JSON object, or as
 * bytes. A form writes them (the agent), reads them (the receiver), and checks them where they enter the
 * receiver, whether they came over HTTP or from the same process.
 */
import { z } from 'zod';
import { StillpointError } from '../../domain/base/errors.js';
import { hexIdSchema, parseMessage, sequenceSchema } from '../schemas/messages.js';

/** A request before it is sent. */
export interface RequestContent {
  readonly sessionId?: string;
  readonly sequence?: number;
  readonly json?: object;
  readonly bytes?: Uint8Array;
  /** Aborted: nobody waits for the answer any more. */
  readonly signal?: AbortSignal | undefined;
}

/** A request as it came: nothing of it is checked but the length of its body. */
export interface ReceivedRequest {
  readonly sessionId: string;
  readonly sequence: number;
  readonly body: Buffer;
  /** Aborted when the agent waits no more. */
  readonly gone: () => AbortSignal;
}

export interface RequestForm<Args extends unknown[]> {
  /** Of the body. */
  readonly bytesMax: number;
  encode(...args: Args): RequestContent;
  /** @throws StillpointError `bad-message` for a body that can't be read at all */
  decode(request: ReceivedRequest): unknown[];
  /** @throws StillpointError `bad-message` */
  check(args: readonly unknown[]): Args;
}

/** The bytes of a request's body. */
export function requestBody({ json, bytes }: RequestContent): Buffer | null {
  if (json !== undefined) return Buffer.from(JSON.stringify(json));
  return bytes === undefined ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export const nothing: RequestForm<[]> = {
  bytesMax: 0,
  encode: () => ({}),
  decode: () => [],
  check: () => [],
};

/** Bytes whose content is the handler's to check; here only that they are bytes. */
export function bytes(what: string, bytesMax: number): RequestForm<[body: Uint8Array]> {
  const schema = z.instanceof(Uint8Array);
  return {
    bytesMax,
    encode: (body) => ({ bytes: body }),
    decode: ({ body }) => [body],
    check: ([body]) => [parseMessage(what, schema, body)],
  };
}

export interface Field<T> {
  /** Null: the value is an object, and its fields lie beside the others. */
  readonly key: string | null;
  /** Names it in an error. */
  readonly what: string;
  readonly schema: z.ZodType<T>;
}

/** An argument that is one field of the JSON object. */
export function field<T>(key: string, what: string, schema: z.ZodType<T>): Field<T> {
  return { key, what, schema };
}

/** An argument whose own fields are those of the JSON object that no other argument has. */
export function rest<T extends object | undefined>(what: string, schema: z.ZodType<T>): Field<T> {
  return { key: null, what, schema };
}

/** A JSON object. At most one of the arguments is a `rest`. */
export function json<Args extends unknown[]>(
  bytesMax: number,
  ...fields: { readonly [I in keyof Args]-?: Field<Args[I]> }
): RequestForm<Args> {
  // The type of a tuple's elements is lost on the way through a list.
  const list: readonly Field<unknown>[] = fields;
  const named = new Set(list.map(({ key }) => key));
  return {
    bytesMax,
    encode: (...args) => ({
      json: Object.assign({}, ...list.map(({ key }, at) => (key === null ? args[at] : { [key]: args[at] }))),
    }),
    decode: ({ body }) => {
      const values = new Map(Object.entries(parseObject(body)));
      const others = () => Object.fromEntries([...values].filter(([key]) => !named.has(key)));
      return list.map(({ key }) => (key === null ? others() : values.get(key)));
    },
    check: (args) => list.map(({ what, schema }, at) => parseMessage(what, schema, args[at])) as Args,
  };
}

/** A message of a session, whose id is in the control header. */
export function inSession<Others extends unknown[]>(
  others: RequestForm<Others>,
): RequestForm<[sessionId: string, ...Others]> {
  return withId('session id', others);
}

/** A message of a journal, whose id is where that of a session is. */
export function inJournal<Others extends unknown[]>(
  others: RequestForm<Others>,
): RequestForm<[journalId: string, ...Others]> {
  return withId('journal id', others);
}

function withId<Others extends unknown[]>(
  what: string,
  others: RequestForm<Others>,
): RequestForm<[id: string, ...Others]> {
  return {
    bytesMax: others.bytesMax,
    encode: (id, ...args) => ({ ...others.encode(...args), sessionId: id }),
    decode: (request) => [request.sessionId, ...others.decode(request)],
    check: ([id, ...args]) => [parseMessage(what, hexIdSchema, id), ...others.check(args)],
  };
}

/** A numbered message, whose number is in the control header. */
export function numbered<Others extends unknown[]>(
  what: string,
  others: RequestForm<Others>,
): RequestForm<[sequence: number, ...Others]> {
  return {
    bytesMax: others.bytesMax,
    encode: (sequence, ...args) => ({ ...others.encode(...args), sequence }),
    decode: (request) => [request.sequence, ...others.decode(request)],
    check: ([sequence, ...args]) => [parseMessage(what, sequenceSchema, sequence), ...others.check(args)],
  };
}

/** What the body says once more in the control header. Nobody reads it there. */
export function labelled<Args extends unknown[]>(
  form: RequestForm<Args>,
  label: (...args: Args) => Pick<RequestContent, 'sessionId' | 'sequence'>,
): RequestForm<Args> {
  return { ...form, encode: (...args) => ({ ...form.encode(...args), ...label(...args) }) };
}

/** A message whose answer may be waited for until a signal. */
export function abortable<Request>(
  form: RequestForm<[Request]>,
): RequestForm<[request: Request, signal?: AbortSignal]> {
  const schema = z.instanceof(AbortSignal).optional();
  return {
    bytesMax: form.bytesMax,
    encode: (request, signal) => ({ ...form.encode(request), signal }),
    decode: (request) => [...form.decode(request), request.gone()],
    check: ([request, signal]) => {
      const [checked] = form.check([request]);
      const until = parseMessage('signal', schema, signal);
      return until === undefined ? [checked] : [checked, until];
    },
  };
}

function parseObject(body: Buffer): object {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null) return value;
  throw new StillpointError('bad-message', { thing: 'request body', reason: 'it is no JSON object' });
}
