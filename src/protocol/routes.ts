/**
 * The receiver's HTTP face (docs/protocol.md): framing only. A request is authorized before its body is read, its body is
 * admitted and bounded, and its content goes as it is to the agent's port, which validates it.
 */
import { Readable } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { StillpointError } from '../domain/base/errors.js';
import {
  BATCH_BYTES_MAX,
  DIGEST_BYTES,
  HAVE_DIGESTS_MAX,
  JSON_BYTES_MAX,
  KiB,
  NODE_BYTES_MAX,
  NODES_REQUEST_MAX,
  PIECES_RAW_BYTES_MAX,
} from '../domain/base/limits.js';
import type { BlockRange } from '../domain/blocks/block-ranges.js';
import type { AwaitOrderRequest, OrderReport } from '../domain/order/order.js';
import type { BeginRequest, CommitRequest, NodeRequest } from '../domain/session/messages.js';
import { native } from '../native/index.js';
import { COMPARE_QUESTION_BYTES_MAX } from './messages/compare-codec.js';
import { encodeError, toStillpointError } from './messages/error-body.js';
import { encodeLines, NDJSON_TYPE } from './messages/ndjson.js';
import {
  BINARY_TYPE,
  type EnrolAnswer,
  type EnrolRequest,
  enrolRequestSchema,
  HEADER_PROTOCOL,
  HEADER_SEQUENCE,
  HEADER_SESSION,
  PROTOCOL_VERSION,
  parseMessage,
  ROUTE_PREFIX,
} from './messages/schemas.js';
import type { ReceiverPort } from './port/receiver.js';
import type { BodyMemory } from './transport/body-memory.js';
import type { ByteBudget, Release } from './transport/byte-budget.js';
import { type BodyTimeouts, withBody } from './transport/request-body.js';

const ENROL_BYTES_MAX = 16 * 1024;

export interface Refusal {
  readonly agent: string | null;
  readonly address: string;
  readonly message: string;
  readonly error: StillpointError;
}

export interface RoutesOptions {
  /** The agent that a connection speaks for. @throws StillpointError `not-enrolled`, `unauthorized` */
  readonly authorize: (socket: TLSSocket) => string;
  readonly portFor: (agent: string) => ReceiverPort;
  readonly enrol: (request: EnrolRequest) => Promise<EnrolAnswer>;
  /** Called before the body of an enrolment is read. @throws StillpointError `busy` */
  readonly admitEnrolment: (address: string) => void;
  /** Of request bodies. */
  readonly budget: ByteBudget;
  /** Of answers. */
  readonly answers: ByteBudget;
  readonly memory: BodyMemory;
  readonly timeouts: BodyTimeouts;
  /** Every error that is answered, once. */
  readonly onRefusal: (refusal: Refusal) => void;
  /** Aborted when the receiver closes: long streams end. */
  readonly closing: AbortSignal;
}

type Handler<T> = (port: ReceiverPort, request: FastifyRequest, body: Buffer) => Promise<T>;

interface Route {
  readonly path: string;
  readonly bytesMax: number;
  /** Of an answer that is large; such answers share a budget from before they are made until they are taken. */
  readonly answerBytesMax?: number;
  /** A Buffer is answered as it is, anything else as JSON. */
  readonly handle: Handler<object>;
}

const HAVE_BYTES_MAX = HAVE_DIGESTS_MAX * DIGEST_BYTES;
const POINT_REQUEST_BYTES_MAX = 256 * 1024;
const ORDER_BYTES_MAX = 64 * 1024;
const NODES_ANSWER_BYTES_MAX = NODES_REQUEST_MAX * (4 + NODE_BYTES_MAX);

/** Every message of an enrolled agent is a POST; `bytesMax` bounds its body. */
const ROUTES: readonly Route[] = [
  { path: '/info', bytesMax: 0, handle: (port) => port.info() },
  {
    path: '/session/begin',
    bytesMax: JSON_BYTES_MAX,
    handle: (port, _request, body) => port.begin(json(body) as BeginRequest),
  },
  {
    path: '/session/have',
    bytesMax: HAVE_BYTES_MAX,
    handle: async (port, request, body) => toBuffer(await port.have(sessionOf(request), body)),
  },
  {
    path: '/session/pieces',
    bytesMax: POINT_REQUEST_BYTES_MAX,
    // The answer is small; what it is made of is not.
    answerBytesMax: PIECES_RAW_BYTES_MAX,
    handle: async (port, request, body) => {
      const { blockIndexes } = json(body) as { blockIndexes: number[] };
      return toBuffer(await port.pieces(sessionOf(request), blockIndexes));
    },
  },
  {
    path: '/session/batch',
    bytesMax: BATCH_BYTES_MAX,
    handle: (port, request, body) => port.batch(sessionOf(request), sequenceOf(request), body),
  },
  {
    path: '/session/status',
    bytesMax: 0,
    handle: (port, request) => port.status(sessionOf(request)),
  },
  {
    path: '/session/commit',
    bytesMax: JSON_BYTES_MAX,
    handle: (port, request, body) => port.commit(sessionOf(request), json(body) as CommitRequest),
  },
  {
    path: '/session/abort',
    bytesMax: 0,
    handle: async (port, request) => {
      await port.abort(sessionOf(request));
      return {};
    },
  },
  {
    path: '/point/nodes',
    bytesMax: POINT_REQUEST_BYTES_MAX,
    answerBytesMax: NODES_ANSWER_BYTES_MAX,
    handle: async (port, _request, body) => {
      const { pointId, requests } = json(body) as { pointId: string; requests: NodeRequest[] };
      return toBuffer(await port.nodes(pointId, requests));
    },
  },
  {
    path: '/point/compare',
    bytesMax: COMPARE_QUESTION_BYTES_MAX,
    handle: async (port, _request, body) => toBuffer(await port.compareNodes(body)),
  },
  {
    path: '/point/blocks',
    bytesMax: POINT_REQUEST_BYTES_MAX,
    answerBytesMax: BATCH_BYTES_MAX,
    handle: async (port, _request, body) => {
      const { pointId, blockIndexes } = json(body) as { pointId: string; blockIndexes: number[] };
      return toBuffer(await port.blocks(pointId, blockIndexes));
    },
  },
  {
    path: '/order/report',
    bytesMax: JSON_BYTES_MAX,
    handle: async (port, _request, body) => {
      const { orderId, report } = json(body) as { orderId: string; report: OrderReport };
      return { standing: await port.reportOrder(orderId, report) };
    },
  },
];

export function registerRoutes(app: FastifyInstance, options: RoutesOptions): void {
  // Bodies are read by withBody alone, after admission: fastify hands the request through.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  const refuse = errorHandler(options);
  app.setErrorHandler(refuse);
  app.setNotFoundHandler((request, reply) => refuse(unknownRoute(request), request, reply));
  app.addHook('onRequest', async (request, reply) => {
    reply.header(HEADER_PROTOCOL, String(PROTOCOL_VERSION));
    checkVersion(request);
  });

  const onPort = <T>(request: FastifyRequest, bytesMax: number, handle: Handler<T>): Promise<T> => {
    const agent = options.authorize(socketOf(request));
    return withBody(request.raw, { ...options, owner: agent, bytesMax }, (body) =>
      handle(options.portFor(agent), request, body),
    );
  };
  for (const { path, bytesMax, answerBytesMax, handle } of ROUTES) {
    app.post(ROUTE_PREFIX + path, async (request, reply) => {
      if (answerBytesMax === undefined) return send(reply, await onPort(request, bytesMax, handle));
      const release = await admitAnswer(request, reply, answerBytesMax, options);
      const answer = await onPort(request, bytesMax, handle);
      release(Buffer.isBuffer(answer) ? answer.length : 0);
      // An agent that takes nothing for so long is gone; one that is only slow goes on.
      reply.raw.setTimeout(options.timeouts.idleMs, () => reply.raw.destroy());
      return send(reply, answer);
    });
  }

  const lines = (request: FastifyRequest, values: AsyncIterable<unknown> | Iterable<unknown>): Readable =>
    Readable.from(
      encodeLines(untilClosing(values, options.closing), (error) => {
        const known = toStillpointError(error);
        options.onRefusal({ ...describe(request, options), error: known });
        return known;
      }),
    );
  app.post(`${ROUTE_PREFIX}/points`, async (request, reply) => {
    const answer = await onPort(request, POINT_REQUEST_BYTES_MAX, async (port, _request, body) => {
      const { device, ...options } = json(body) as { device?: string; last?: boolean };
      return lines(request, await port.points(device, options));
    });
    return reply.type(NDJSON_TYPE).send(answer);
  });
  app.post(`${ROUTE_PREFIX}/partial`, async (request, reply) => {
    const answer = await onPort(request, POINT_REQUEST_BYTES_MAX, async (port, _request, body) => {
      const { device } = json(body) as { device?: string };
      return lines(request, await port.partialSets(device));
    });
    return reply.type(NDJSON_TYPE).send(answer);
  });
  app.post(`${ROUTE_PREFIX}/point/verify`, async (request, reply) => {
    const answer = await onPort(request, POINT_REQUEST_BYTES_MAX, async (port, _request, body) => {
      const { pointId } = json(body) as { pointId?: string };
      return lines(request, port.verify(pointId));
    });
    return reply.type(NDJSON_TYPE).send(answer);
  });
  app.post(`${ROUTE_PREFIX}/point/check`, async (request, reply) => {
    const answer = await onPort(request, POINT_REQUEST_BYTES_MAX, async (port, _request, body) => {
      const { pointId, ranges } = json(body) as { pointId: string; ranges?: BlockRange[] };
      return lines(request, port.check(pointId, ranges));
    });
    return reply.type(NDJSON_TYPE).send(answer);
  });
  app.post(`${ROUTE_PREFIX}/point/diff`, async (request, reply) => {
    const answer = await onPort(request, POINT_REQUEST_BYTES_MAX, async (port, _request, body) => {
      const { from, to } = json(body) as { from: string; to: string };
      return lines(request, port.diff(from, to));
    });
    return reply.type(NDJSON_TYPE).send(answer);
  });

  app.post(`${ROUTE_PREFIX}/order/await`, async (request, reply) => {
    // It waits for long: not with a share of the memory of bodies.
    const question = await onPort(request, ORDER_BYTES_MAX, async (_port, _request, body) => json(body));
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    const port = options.portFor(options.authorize(socketOf(request)));
    return { order: await port.awaitOrder(question as AwaitOrderRequest, gone.signal) };
  });

  app.post(`${ROUTE_PREFIX}/enroll`, async (request) => {
    options.admitEnrolment(addressOf(request));
    return withBody(request.raw, { ...options, owner: 'enrolment', bytesMax: ENROL_BYTES_MAX }, (body) =>
      options.enrol(parseMessage('enrolment', enrolRequestSchema, json(body))),
    );
  });
}

/** Memory for an answer, until the agent has taken it or is gone. */
async function admitAnswer(
  request: FastifyRequest,
  reply: FastifyReply,
  bytes: number,
  { authorize, answers, timeouts }: RoutesOptions,
): Promise<Release> {
  const agent = authorize(socketOf(request));
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

function send(reply: FastifyReply, answer: object): FastifyReply {
  if (!Buffer.isBuffer(answer)) return reply.send(answer);
  // All of it is encrypted by then. If it broke off, a part may still be waiting to be.
  reply.raw.once('finish', () => native.freeBuffer(answer));
  const body = answer.length > PIECE_BYTES ? Readable.from(piecesOf(answer)) : answer;
  return reply.type(BINARY_TYPE).header('content-length', answer.length).send(body);
}

/** What is encrypted and written at once: in one piece, a large answer would be copied once more before it. */
const PIECE_BYTES = 256 * KiB;

function* piecesOf(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
}

function errorHandler(options: RoutesOptions) {
  return (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const known = toStillpointError(error);
    options.onRefusal({ ...describe(request, options), error: known });
    const { status, body } = encodeError(known);
    // What is left of a body that was not read would be taken for the next request; and strangers don't keep connections.
    if (!request.raw.complete || known.code === 'not-enrolled' || known.code === 'unauthorized')
      reply.header('connection', 'close');
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

function checkVersion(request: FastifyRequest): void {
  const version = header(request, HEADER_PROTOCOL);
  if (version === String(PROTOCOL_VERSION)) return;
  throw new StillpointError('version', {
    thing: 'protocol',
    reason: `the request is of version ${JSON.stringify(version.slice(0, 20))}, and this receiver speaks ${PROTOCOL_VERSION}`,
    remedy: 'Update the older of agent and receiver.',
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

/** An object of unknown content: the port that it goes to validates it. */
function json(body: Buffer): object {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null) return value;
  throw new StillpointError('bad-message', { thing: 'request body', reason: 'it is not a JSON object' });
}

function socketOf(request: FastifyRequest): TLSSocket {
  return request.raw.socket as TLSSocket;
}

function addressOf(request: FastifyRequest): string {
  return request.raw.socket.remoteAddress ?? 'unknown';
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
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
