/** The receiver over HTTP. Retries are a decorator of their own (retry.ts); answers are checked here, where they enter. */
import type { z } from 'zod';
import { BATCH_BYTES_MAX, JSON_BYTES_MAX, NODE_BYTES_MAX, NODES_REQUEST_MAX } from '../domain/base/limits.js';
import type { BlockRange } from '../domain/blocks/block-ranges.js';
import { PIECES_ANSWER_BYTES_MAX } from '../domain/blocks/pieces.js';
import type { AgentOrder, AwaitOrderRequest, OrderReport, OrderStanding } from '../domain/order/order.js';
import type { Point } from '../domain/point/point.js';
import type { LinkMeter } from '../domain/session/link-meter.js';
import type {
  BeginAnswer,
  BeginRequest,
  CheckEvent,
  CommitRequest,
  DiffEvent,
  NodeRequest,
  PartialSet,
  PointsOptions,
  ReceiverInfo,
  SessionStatus,
  VerifyEvent,
} from '../domain/session/messages.js';
import { COMPARE_ANSWER_BYTES_MAX } from './messages/compare-codec.js';
import { decodeLines } from './messages/ndjson.js';
import { orderAnswerSchema, orderStandingSchema } from './messages/order-messages.js';
import {
  BINARY_TYPE,
  batchAnswerSchema,
  beginAnswerSchema,
  checkEventSchema,
  diffEventSchema,
  HEADER_AGENT_TIME,
  HEADER_SEQUENCE,
  HEADER_SESSION,
  infoSchema,
  parseMessage,
  partialSetSchema,
  pointSchema,
  ROUTE_PREFIX,
  statusSchema,
  verifyEventSchema,
} from './messages/schemas.js';
import type { ReceiverPort } from './port/receiver.js';
import type { Connect } from './transport/connect.js';
import type { Pacer } from './transport/pacer.js';
import { type ReceiverAddress, Transport, type TransportRequest } from './transport/transport.js';

/** As many as batches in flight: none waits for another's answer. */
export const CONNECTIONS_DEFAULT = 4;

/** Answers that take work: a commit recomputes the tree and writes packs. */
const COMMIT_TIMEOUT_MS = 30 * 60_000;
const ANSWER_TIMEOUT_MS = 5 * 60_000;
/** Over what was asked to be waited: a link that has died in silence is noticed then. */
const ORDER_GRACE_MS = 30_000;

const NODES_ANSWER_BYTES_MAX = NODES_REQUEST_MAX * (4 + NODE_BYTES_MAX);

export interface ClientOptions {
  readonly connections?: number;
  /** Where connections come from, if they are not to be made to the address. */
  readonly connect?: Connect;
  /** The agent's clock, ms since 1970. */
  readonly now?: () => number;
  /** Is told what bulky messages and connections take. */
  readonly meter?: LinkMeter | undefined;
  readonly pacer?: Pacer | undefined;
}

export class ReceiverClient implements ReceiverPort {
  readonly #transport: Transport;
  readonly #now: () => number;
  readonly #meter: LinkMeter | undefined;
  #greeted: ReceiverInfo | null = null;

  constructor(address: ReceiverAddress, options: ClientOptions = {}) {
    const { connections = CONNECTIONS_DEFAULT, now = Date.now, connect, meter, pacer } = options;
    this.#transport = new Transport(address, {
      ...{ connections, connect, pacer },
      onConnected: (connectMs, handshakeMs) => meter?.connected(connectMs, handshakeMs),
    });
    this.#now = now;
    this.#meter = meter;
  }

  async info(): Promise<ReceiverInfo> {
    return this.#greeted ?? (await this.#json('/info', infoSchema, {}));
  }

  /** As `info`, which from then on answers the same: it does not change while a client lives, and a slow round trip is saved. */
  async greet(): Promise<ReceiverInfo> {
    this.#greeted = await this.info();
    return this.#greeted;
  }

  async points(device?: string, { last = false }: PointsOptions = {}): Promise<Point[]> {
    const points: Point[] = [];
    const json = { ...(device === undefined ? {} : { device }), ...(last ? { last } : {}) };
    const request = this.#request('/points', { json });
    for await (const point of decodeLines(this.#transport.stream(request), 'list of points', pointSchema)) {
      points.push(point);
    }
    return points;
  }

  async partialSets(device?: string): Promise<PartialSet[]> {
    const sets: PartialSet[] = [];
    const request = this.#request('/partial', { json: device === undefined ? {} : { device } });
    for await (const set of decodeLines(
      this.#transport.stream(request),
      'list of partial sets',
      partialSetSchema,
    )) {
      sets.push(set);
    }
    return sets;
  }

  begin(request: BeginRequest): Promise<BeginAnswer> {
    return this.#json('/session/begin', beginAnswerSchema, {
      json: request,
      sessionId: request.sessionId,
      answerTimeoutMs: COMMIT_TIMEOUT_MS,
    });
  }

  have(sessionId: string, digests: Uint8Array): Promise<Uint8Array> {
    const request = this.#request('/session/have', { bytes: digests, sessionId });
    return this.#transport.bytes(request, Math.ceil(digests.length / 256));
  }

  pieces(sessionId: string, blockIndexes: readonly number[]): Promise<Uint8Array> {
    const request = this.#request('/session/pieces', { json: { blockIndexes }, sessionId });
    return this.#transport.bytes(request, PIECES_ANSWER_BYTES_MAX);
  }

  batch(sessionId: string, sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    return this.#metered(
      () => this.#json('/session/batch', batchAnswerSchema, { bytes: body, sessionId, sequence }),
      () => body.length,
    );
  }

  status(sessionId: string): Promise<SessionStatus> {
    return this.#json('/session/status', statusSchema, { sessionId });
  }

  commit(sessionId: string, request: CommitRequest): Promise<Point> {
    return this.#json('/session/commit', pointSchema, {
      json: request,
      sessionId,
      sequence: request.batchCount,
      answerTimeoutMs: COMMIT_TIMEOUT_MS,
    });
  }

  async abort(sessionId: string): Promise<void> {
    await this.#transport.bytes(this.#request('/session/abort', { sessionId }), JSON_BYTES_MAX);
  }

  nodes(pointId: string, requests: readonly NodeRequest[]): Promise<Uint8Array> {
    const request = this.#request('/point/nodes', { json: { pointId, requests } });
    return this.#metered(
      () => this.#transport.bytes(request, NODES_ANSWER_BYTES_MAX),
      (answer) => answer.length,
    );
  }

  compareNodes(question: Uint8Array): Promise<Uint8Array> {
    const request = this.#request('/point/compare', { bytes: question });
    return this.#transport.bytes(request, COMPARE_ANSWER_BYTES_MAX);
  }

  blocks(pointId: string, blockIndexes: readonly number[]): Promise<Uint8Array> {
    const request = this.#request('/point/blocks', { json: { pointId, blockIndexes } });
    return this.#metered(
      () => this.#transport.bytes(request, BATCH_BYTES_MAX),
      (answer) => answer.length,
    );
  }

  verify(pointId?: string): AsyncIterable<VerifyEvent> {
    const request = this.#request('/point/verify', { json: pointId === undefined ? {} : { pointId } });
    return decodeLines(this.#transport.stream(request), 'verification', verifyEventSchema);
  }

  check(pointId: string, ranges?: readonly BlockRange[]): AsyncIterable<CheckEvent> {
    const json = ranges === undefined ? { pointId } : { pointId, ranges };
    const request = this.#request('/point/check', { json });
    return decodeLines(this.#transport.stream(request), 'check of a point', checkEventSchema);
  }

  diff(fromId: string, toId: string): AsyncIterable<DiffEvent> {
    const request = this.#request('/point/diff', { json: { from: fromId, to: toId } });
    return decodeLines(this.#transport.stream(request), 'diff of two points', diffEventSchema);
  }

  async awaitOrder(request: AwaitOrderRequest, signal?: AbortSignal): Promise<AgentOrder | null> {
    const { order } = await this.#json('/order/await', orderAnswerSchema, {
      json: request,
      answerTimeoutMs: request.waitMs + ORDER_GRACE_MS,
      signal,
    });
    return order;
  }

  async reportOrder(orderId: string, report: OrderReport): Promise<OrderStanding> {
    const content = { json: { orderId, report }, answerTimeoutMs: ORDER_GRACE_MS };
    return (await this.#json('/order/report', orderStandingSchema, content)).standing;
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  async #metered<T>(call: () => Promise<T>, bytesOf: (answer: T) => number): Promise<T> {
    const end = this.#meter?.start();
    try {
      const answer = await call();
      end?.(bytesOf(answer));
      return answer;
    } catch (error) {
      end?.(null);
      throw error;
    }
  }

  async #json<T>(path: string, schema: z.ZodType<T>, content: RequestContent): Promise<T> {
    const bytes = await this.#transport.bytes(this.#request(path, content), JSON_BYTES_MAX);
    return parseMessage(`answer to ${path}`, schema, parseJson(bytes));
  }

  /** The control header: session, number and agent's time with every message. */
  #request(path: string, content: RequestContent): TransportRequest {
    const { json, bytes, sessionId, sequence, answerTimeoutMs, signal } = content;
    const body = json === undefined ? toBuffer(bytes) : Buffer.from(JSON.stringify(json));
    return {
      path: ROUTE_PREFIX + path,
      headers: {
        [HEADER_AGENT_TIME]: String(this.#now()),
        ...(sessionId === undefined ? {} : { [HEADER_SESSION]: sessionId }),
        ...(sequence === undefined ? {} : { [HEADER_SEQUENCE]: String(sequence) }),
        ...(body === null ? {} : { 'content-type': json === undefined ? BINARY_TYPE : 'application/json' }),
      },
      body,
      answerTimeoutMs: answerTimeoutMs ?? ANSWER_TIMEOUT_MS,
      signal,
    };
  }
}

interface RequestContent {
  readonly json?: object;
  readonly bytes?: Uint8Array;
  readonly sessionId?: string;
  readonly sequence?: number;
  readonly answerTimeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
}

function toBuffer(bytes: Uint8Array | undefined): Buffer | null {
  return bytes === undefined ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    return undefined;
  }
}
