/**
 * The receiver's HTTP side (docs/protocol.md), made from the table of messages. It does only framing: a
 * request is authorized before its body is read, its body is admitted and bounded, and its content is checked
 * as its message's row says before it goes to the agent's port.
 */
import { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ErrorCode } from '../domain/base/error-codes.js';
import { StillpointError } from '../domain/base/errors.js';
import { KiB, PIPELINED_REQUESTS_MAX } from '../domain/base/limits.js';
import { native } from '../native/index.js';
import { contentBytes } from './messages/body-bytes.js';
import { ENROL_MESSAGE, RENEW_MESSAGE } from './messages/enrol-message.js';
import { encodeError, toStillpointError } from './messages/error-body.js';
import { answerIn } from './messages/former.js';
import type { Call } from './messages/message.js';
import { encodeLines, NDJSON_TYPE } from './messages/ndjson.js';
import type { RequestForm } from './messages/request-forms.js';
import { MESSAGE_NAMES, MESSAGES, type MessagePort, visit } from './messages/table.js';
import {
  BINARY_TYPE,
  type EnrolAnswer,
  type EnrolRequest,
  HEADER_PROTOCOL,
  HEADER_SEQUENCE,
  HEADER_SESSION,
  PROTOCOL_VERSION,
  PROTOCOL_VERSION_OLDEST,
  type RenewAnswer,
  type RenewRequest,
  ROUTE_PREFIX,
} from './schemas/messages.js';
import type { BodyMemory } from './transport/body-memory.js';
import type { ByteBudget, Release } from './transport/byte-budget.js';
import { type BodyBudgets, type BodyTimeouts, withBody } from './transport/request-body.js';

export interface Refusal {
  readonly agent: string | null;
  readonly address: string;
  readonly message: string;
  readonly error: StillpointError;
}

export interface RoutesOptions {
  /** The agent that a connection speaks for. @throws StillpointError `not-enrolled`, `unauthorized` */
  readonly authorize: (socket: TLSSocket) => string;
  /** Is handed only what its message's row has checked. */
  readonly portFor: (agent: string, address: string) => MessagePort;
  readonly enrol: (request: EnrolRequest, address: string) => Promise<EnrolAnswer>;
  readonly renew: (agent: string, socket: TLSSocket, request: RenewRequest) => Promise<RenewAnswer>;
  /**
   * Holds an agent to its rates, before its body is read, and away while it is being changed.
   * @throws StillpointError `busy`
   */
  readonly admit: (agent: string, bodyBytes: number) => Promise<void> | void;
  /** Called before the body of an enrolment is read. @throws StillpointError `busy` */
  readonly admitEnrolment: (address: string) => void;
  readonly bodies: BodyBudgets;
  /** Of answers. */
  readonly answers: ByteBudget;
  readonly memory: BodyMemory;
  readonly timeouts: BodyTimeouts;
  /** Every error that is answered, once. */
  readonly onRefusal: (refusal: Refusal) => void;
  /** Aborted when the receiver closes: long streams end. */
  readonly closing: AbortSignal;
}

export function registerRoutes(app: FastifyInstance, options: RoutesOptions): void {
  // Bodies are read by withBody alone, after admission: fastify hands the request through.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  const refuse = errorHandler(options);
  app.setErrorHandler(refuse);
  app.setNotFoundHandler((request, reply) => refuse(unknownRoute(request), request, reply));
  app.addHook('onRequest', async (request, reply) => {
    reply.header(HEADER_PROTOCOL, String(PROTOCOL_VERSION));
    reply.header(HEADER_PROTOCOL, String(checkVersion(request)));
    countRequest(request, reply);
  });

  for (const name of MESSAGE_NAMES) {
    app.post(ROUTE_PREFIX + MESSAGES[name].path, async (request, reply) => {
      const agent = options.authorize(socketOf(request));
      await options.admit(agent, Number(header(request, 'content-length')) || 0);
      return visit(options.portFor(agent, addressOf(request)), name, {
        call: (message, method) => answerCall({ agent, request, reply, options }, message, method),
        stream: async (message, method) => {
          const events = await withArgs({ agent, request, reply, options }, message.request, async (args) =>
            method(...args),
          );
          return sendLines({ agent, request, reply, options }, events);
        },
      });
    });
  }

  app.post(ROUTE_PREFIX + RENEW_MESSAGE.path, async (request, reply) => {
    const socket = socketOf(request);
    const agent = options.authorize(socket);
    await options.admit(agent, 0);
    const asked = { agent, request, reply, options };
    return answerCall(asked, RENEW_MESSAGE, (renewal) => options.renew(agent, socket, renewal));
  });

  app.post(ROUTE_PREFIX + ENROL_MESSAGE.path, async (request, reply) => {
    options.admitEnrolment(addressOf(request));
    const asked = { agent: 'enrolment', request, reply, options };
    return answerCall(asked, ENROL_MESSAGE, (wish) => options.enrol(wish, addressOf(request)));
  });
}

/** Requests of a connection that have no answer yet. */
const unanswered = new WeakMap<object, number>();

/**
 * Agents never send a request before the answer to the one before it. Node would take any number, each with
 * its memory.
 */
function countRequest(request: FastifyRequest, reply: FastifyReply): void {
  const { socket } = request.raw;
  const count = (unanswered.get(socket) ?? 0) + 1;
  unanswered.set(socket, count);
  reply.raw.once('close', () => unanswered.set(socket, (unanswered.get(socket) ?? 1) - 1));
  if (count > PIPELINED_REQUESTS_MAX) socket.destroy();
}

/** A request and its sender. */
interface Asked {
  readonly agent: string;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly options: RoutesOptions;
}

async function answerCall<Args extends unknown[], Answer>(
  asked: Asked,
  message: Call<Args, Answer>,
  method: (...args: Args) => Promise<Answer>,
): Promise<FastifyReply> {
  const { reply, options } = asked;
  const { memoryBytesMax } = message.answer;
  const release = memoryBytesMax === undefined ? null : await admitAnswer(asked, memoryBytesMax);
  const answer =
    message.waits === true
      ? await method(...(await withArgs(asked, message.request, async (args) => args)))
      : await withArgs(asked, message.request, (args) => method(...args));
  const content = message.answer.write(answer);
  if (release !== null) {
    release(contentBytes(content));
    // An agent that takes nothing for so long is gone; one that is only slow goes on.
    reply.raw.setTimeout(options.timeouts.idleMs, () => reply.raw.destroy());
    const { socket } = asked.request.raw;
    const before = socket.bytesWritten;
    const isOver = options.answers.laggards.add({
      bytes: contentBytes(content),
      doneBytes: () => socket.bytesWritten - before,
      breakOff: () => reply.raw.destroy(),
    });
    reply.raw.once('close', isOver);
  }
  if ('bytes' in content) return sendBytes(reply, content.bytes);
  const version = Number(reply.getHeader(HEADER_PROTOCOL));
  if ('json' in content) return reply.send(answerIn(version, content.json));
  return sendLines(
    asked,
    content.lines.map((line) => answerIn(version, line)),
  );
}

/**
 * Reads the body, and hands on what the message says, checked. Its memory is counted until `use` has ended.
 */
function withArgs<Args extends unknown[], Result>(
  { agent, request, reply, options }: Asked,
  form: RequestForm<Args>,
  use: (args: Args) => Promise<Result>,
): Promise<Result> {
  const gone = () => {
    const abort = new AbortController();
    reply.raw.once('close', () => abort.abort());
    return abort.signal;
  };
  return withBody(request.raw, { ...options, owner: agent, bytesMax: form.bytesMax }, async (body) => {
    const received = { sessionId: sessionOf(request), sequence: sequenceOf(request), body, gone };
    return use(form.check(form.decode(received)));
  });
}

/** One value to a line, as they come. */
function sendLines(asked: Asked, values: AsyncIterable<unknown> | Iterable<unknown>): FastifyReply {
  const { request, reply, options } = asked;
  const lines = encodeLines(untilClosing(values, options.closing), (error) => {
    const known = toStillpointError(error);
    options.onRefusal({ ...describe(request, options), error: known });
    return known;
  });
  return reply.type(NDJSON_TYPE).send(Readable.from(lines));
}

/** Memory for an answer, until the agent has taken it or is gone. */
async function admitAnswer({ agent, reply, options }: Asked, bytes: number): Promise<Release> {
  const { answers, timeouts } = options;
  let isClosed = false;
  let release: Release | null = null;
  reply.raw.once('close', () => {
    isClosed = true;
    release?.();
  });
  release = await answers.acquire(agent, bytes, timeouts.admissionMs);
  if (isClosed) release();
  return release;
}

function sendBytes(reply: FastifyReply, answer: Buffer): FastifyReply {
  // All of it is encrypted by then. If it broke off, a part may still be waiting to be.
  reply.raw.once('finish', () => native.freeBuffer(answer));
  const body = answer.length > PIECE_BYTES ? Readable.from(piecesOf(answer)) : answer;
  return reply.type(BINARY_TYPE).header('content-length', answer.length).send(body);
}

/**
 * What is encrypted and written at once: in one piece, a large answer would be copied once more before it.
 */
const PIECE_BYTES = 256 * KiB;

function* piecesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

/** Errors after which a connection is of no use. */
const STRANGERS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'not-enrolled',
  'unauthorized',
  'agent-revoked',
]);

function errorHandler(options: RoutesOptions) {
  return (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const known = toStillpointError(error);
    options.onRefusal({ ...describe(request, options), error: known });
    const { status, body } = encodeError(known);
    // What is left of a body that was not read would be taken for the next request; and
    // strangers don't keep connections.
    if (!request.raw.complete || STRANGERS.has(known.code)) reply.header('connection', 'close');
    reply.code(status).type('application/json; charset=utf-8').send(body);
  };
}

function describe(request: FastifyRequest, options: RoutesOptions): Omit<Refusal, 'error'> {
  let agent: string | null = null;
  try {
    agent = options.authorize(socketOf(request));
  } catch {
    // no agent to name
  }
  return { agent, address: addressOf(request), message: request.url.slice(0, 200) };
}

/** The version that the request is of. @throws StillpointError `version` */
function checkVersion(request: FastifyRequest): number {
  const text = header(request, HEADER_PROTOCOL);
  const version = /^[1-9]\d{0,5}$/.test(text) ? Number(text) : Number.NaN;
  if (version >= PROTOCOL_VERSION_OLDEST && version <= PROTOCOL_VERSION) return version;
  const known =
    PROTOCOL_VERSION_OLDEST < PROTOCOL_VERSION
      ? `${PROTOCOL_VERSION_OLDEST} to ${PROTOCOL_VERSION}`
      : String(PROTOCOL_VERSION);
  throw new StillpointError('version', {
    thing: 'protocol',
    reason: `the request is of version ${JSON.stringify(text.slice(0, 20))}, and this receiver speaks ${known}`,
    remedy:
      version > PROTOCOL_VERSION
        ? 'Update the receiver; receivers are updated before agents.'
        : 'Update the agent.',
  });
}

function unknownRoute(request: FastifyRequest): StillpointError {
  return new StillpointError('bad-message', {
    thing: `${request.method} ${request.url.slice(0, 200)}`,
    reason: 'this receiver knows no such message',
  });
}

function sessionOf(request: FastifyRequest): string {
  return header(request, HEADER_SESSION);
}

function sequenceOf(request: FastifyRequest): number {
  const text = header(request, HEADER_SEQUENCE);
  return /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
}

function header(request: FastifyRequest, name: string): string {
  const value = request.headers[name];
  return typeof value === 'string' ? value : '';
}

function socketOf(request: FastifyRequest): TLSSocket {
  return request.raw.socket as TLSSocket;
}

function addressOf(request: FastifyRequest): string {
  return request.raw.socket.remoteAddress ?? 'unknown';
}

async function* untilClosing(
  values: AsyncIterable<unknown> | Iterable<unknown>,
  closing: AbortSignal,
): AsyncGenerator<unknown> {
  for await (const value of values) {
    if (closing.aborted) {
      throw new StillpointError('busy', {
        thing: 'receiver',
        reason: 'it is shutting down',
        remedy: 'Try again when it runs.',
        permanent: false,
      });
    }
    yield value;
  }
}
