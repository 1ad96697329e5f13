/**
 * HTTP requests to one receiver over TLS 1.3 on a few kept connections. It believes only the receiver's own
 * authority, and the receiver must have the expected id, whatever its host name or address.
 *
 * It uses Node's own client, which is already loaded; a library would take a tenth of a short backup to load.
 */
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Agent, request as startRequest } from 'node:https';
import type { Socket } from 'node:net';
import { type ConnectionOptions, createSecureContext, type PeerCertificate } from 'node:tls';
import { StillpointError } from '../../domain/base/errors.js';
import { JSON_BYTES_MAX } from '../../domain/base/limits.js';
import { native } from '../../native/index.js';
import { subjectOf } from '../certificates/certificate-identity.js';
import { errorOfAnswer } from '../messages/error-body.js';
import { HEADER_PROTOCOL, PROTOCOL_VERSION } from '../schemas/messages.js';
import { type Connect, useConnections } from './connect.js';
import type { Pacer } from './pacer.js';

/** AES-128 first: it is a third faster than AES-256 and as safe here. */
export const TLS_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

const CONNECT_TIMEOUT_MS = 15_000;
/** Less than the receiver's, so that a kept connection is never used just when the receiver closes it. */
const KEEP_ALIVE_MS = 30_000;
/** Without a byte of an answer that has begun. */
const BODY_TIMEOUT_MS = 5 * 60_000;

export interface ReceiverAddress {
  /** `https://HOST:PORT`. */
  readonly url: string;
  readonly receiverId: string;
  /** The receiver's CA certificate, PEM. */
  readonly authority: string;
  /** The agent's key and certificate, PEM; without them only enrolment is answered. */
  readonly credentials?: { readonly key: string; readonly certificate: string };
}

export interface TransportRequest {
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: Buffer | null;
  /** Until the answer begins, without a byte sent or received. */
  readonly answerTimeoutMs: number;
  /** Aborted: nobody waits for the answer any more. */
  readonly signal?: AbortSignal | undefined;
}

export interface TransportOptions {
  readonly connections: number;
  /** Where connections come from, if they are not to be made to the address. */
  readonly connect?: Connect | undefined;
  /** Of bodies and answers; undefined: as fast as the link is. */
  readonly pacer?: Pacer | undefined;
  /** A connection was made: ms until TCP had it, and from then on until TLS had it. */
  readonly onConnected?: (connectMs: number, handshakeMs: number) => void;
}

export class Transport {
  readonly #url: string;
  readonly #options: TransportOptions;
  #agent: Agent;
  /** Until their answers are read. */
  readonly #inFlight = new Set<Promise<unknown>>();

  constructor(address: ReceiverAddress, options: TransportOptions) {
    this.#url = address.url;
    this.#options = options;
    this.#agent = this.#newAgent(address);
  }

  #newAgent(address: ReceiverAddress): Agent {
    const { connections, connect } = this.#options;
    const agent = new Agent({
      keepAlive: true,
      // TCP's own probes of an idle connection: every second, as it is without this, is a load for a modem.
      keepAliveMsecs: KEEP_ALIVE_MS,
      maxSockets: connections,
      // Of an idle connection. One in use has the limits of its request.
      timeout: KEEP_ALIVE_MS,
      noDelay: true,
      // Each connection proves both certificates anew.
      maxCachedSessions: 0,
      ...securedFor(address),
    });
    if (connect !== undefined) useConnections(agent, connect);
    return agent;
  }

  /**
   * New connections are made with these credentials, and to this authority. Those that there are end with the
   * request that they carry.
   */
  show(address: ReceiverAddress): void {
    const former = this.#agent;
    this.#agent = this.#newAgent(address);
    void Promise.allSettled([...this.#inFlight]).then(() => former.destroy());
  }

  /** The whole answer. @throws StillpointError also for an answer with an error */
  bytes(request: TransportRequest, answerBytesMax: number): Promise<Buffer> {
    return this.#counted(async () => {
      const answer = await this.#send(request);
      if (answer.statusCode !== 200) throw await this.#errorOf(answer);
      this.#checkVersion(request, answer);
      return this.#collect(answer, answerBytesMax);
    });
  }

  /** The answer as it comes. Not reading to the end closes the connection. */
  async *stream(request: TransportRequest): AsyncGenerator<Buffer> {
    const answer = await this.#counted(() => this.#send(request));
    if (answer.statusCode !== 200) throw await this.#counted(() => this.#errorOf(answer));
    this.#checkVersion(request, answer);
    const chunks = answer[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    try {
      for (;;) {
        const { done, value } = await this.#counted(() => chunks.next());
        if (done === true) return;
        await this.#options.pacer?.take(value.length);
        yield value;
      }
    } finally {
      discard(answer);
    }
  }

  /** An answer is of the version of its request. Whatever else answers here is not a receiver of ours. */
  #checkVersion({ headers = {} }: TransportRequest, answer: IncomingMessage): void {
    const asked = headers[HEADER_PROTOCOL] ?? String(PROTOCOL_VERSION);
    const found = String(answer.headers[HEADER_PROTOCOL] ?? '').slice(0, 20);
    if (found === asked) return;
    discard(answer);
    throw new StillpointError('version', {
      thing: `receiver ${this.#url}`,
      reason: `it answers in version ${JSON.stringify(found)} of the protocol, and this agent speaks ${asked}`,
      remedy: 'Update the older of the two; receivers are updated before agents.',
    });
  }

  /** Waits for requests in flight. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#inFlight);
    this.#agent.destroy();
  }

  #send(message: TransportRequest): Promise<IncomingMessage> {
    const { path, headers, body, answerTimeoutMs, signal } = message;
    return new Promise((resolve, reject) => {
      const request = startRequest(this.#url + path, {
        agent: this.#agent,
        method: 'POST',
        signal,
        headers: {
          [HEADER_PROTOCOL]: String(PROTOCOL_VERSION),
          ...headers,
          'content-length': String(body?.length ?? 0),
        },
      });
      const giveUp = (code: string) => request.destroy(Object.assign(new Error('too slow'), { code }));
      // Without a byte in either direction.
      request.setTimeout(answerTimeoutMs, () => giveUp(SLOW));
      request.once('socket', (socket) => {
        if (!socket.connecting) return;
        const limit = setTimeout(() => giveUp('ETIMEDOUT'), CONNECT_TIMEOUT_MS);
        const end = () => clearTimeout(limit);
        socket.once('secureConnect', end).once('close', end);
        this.#time(socket);
      });
      let isAnswered = false;
      request.once('response', (answer) => {
        isAnswered = true;
        request.setTimeout(BODY_TIMEOUT_MS);
        resolve(answer);
      });
      request.on('error', (error) => {
        // Then it is the answer that breaks off: its reader is told.
        if (isAnswered) return;
        // A kept connection that the receiver has closed meanwhile says nothing of the receiver.
        // Messages may be sent twice.
        if (request.reusedSocket && codeOf(error) === 'ECONNRESET') resolve(this.#send(message));
        else reject(error);
      });
      const { pacer } = this.#options;
      if (body === null || pacer === undefined) request.end(body ?? undefined);
      else void writePaced(request, body, pacer);
    });
  }

  #time(socket: Socket): void {
    const startMs = performance.now();
    let connectedMs = startMs;
    socket.once('connect', () => {
      connectedMs = performance.now();
    });
    socket.once('secureConnect', () => {
      this.#options.onConnected?.(connectedMs - startMs, performance.now() - connectedMs);
    });
  }

  async #errorOf(answer: IncomingMessage): Promise<StillpointError> {
    return errorOfAnswer(this.#url, answer.statusCode ?? 0, await this.#collect(answer, JSON_BYTES_MAX));
  }

  async #collect(answer: IncomingMessage, bytesMax: number): Promise<Buffer> {
    const announced = answer.headers['content-length'];
    const length = Number(announced);
    if (!(length <= bytesMax)) {
      discard(answer);
      throw this.#tooLarge(announced, bytesMax);
    }
    const bytes = Buffer.allocUnsafeSlow(length);
    let filled = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      const copied = chunk.copy(bytes, filled);
      filled += copied;
      native.freeBuffer(chunk);
      await this.#options.pacer?.take(copied);
    }
    return bytes;
  }

  #tooLarge(announced: string | undefined, bytesMax: number): StillpointError {
    return new StillpointError('too-large', {
      thing: this.#url,
      reason: `it announces an answer of ${announced === undefined ? 'unknown length' : `${announced} bytes`}, and ${bytesMax} is the limit`,
    });
  }

  /** Errors are ours; `close` waits for its end. */
  async #counted<T>(work: () => Promise<T>): Promise<T> {
    const running = work();
    this.#inFlight.add(running);
    try {
      return await running;
    } catch (error) {
      throw transportError(this.#url, error);
    } finally {
      this.#inFlight.delete(running);
    }
  }
}

/** A request that ends meanwhile is told to who waits for its answer. */
async function writePaced(request: ClientRequest, body: Buffer, pacer: Pacer): Promise<void> {
  for (let at = 0; at < body.length && !request.destroyed; ) {
    const piece = body.subarray(at, at + pacer.pieceBytes);
    await pacer.take(piece.length);
    if (!request.write(piece)) await drained(request);
    at += piece.length;
  }
  if (!request.destroyed) request.end();
}

function drained(request: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    // Both are taken off: a body has hundreds of pieces, and Node warns of the eleventh listener.
    const done = () => {
      request.off('drain', done).off('close', done);
      resolve();
    };
    request.on('drain', done).on('close', done);
  });
}

/** Nobody reads on: closes the connection. That it was closed is then an error that nobody waits for. */
function discard(answer: IncomingMessage): void {
  answer.on('error', () => undefined).destroy();
}

/**
 * TLS with that receiver alone: its authority, its id, and this agent's certificate, which is sent once
 * the other side is proven.
 */
export function securedFor(
  address: ReceiverAddress,
): Pick<ConnectionOptions, 'secureContext' | 'rejectUnauthorized' | 'checkServerIdentity'> {
  const { authority, credentials } = address;
  return {
    secureContext: createSecureContext({
      ca: authority,
      ...(credentials === undefined ? {} : { key: credentials.key, cert: credentials.certificate }),
      minVersion: 'TLSv1.3',
      ciphers: TLS_CIPHERS,
    }),
    rejectUnauthorized: true,
    checkServerIdentity: (_host, certificate) => checkReceiver(address, certificate),
  };
}

/**
 * The receiver's id in place of the host name.
 * @returns an error to refuse the connection, as tls.connect wants it.
 */
function checkReceiver(address: ReceiverAddress, certificate: PeerCertificate): Error | undefined {
  const shown = subjectOf({ subjectAltName: certificate.subjectaltname }, 'receiver');
  if (shown === address.receiverId) return undefined;
  return new StillpointError('identity-mismatch', {
    thing: address.url,
    reason: `it is ${shown === null ? 'no receiver' : `the receiver ${shown}`}, not the receiver ${address.receiverId} with which this agent is enrolled`,
    remedy: 'Check the URL, or enroll with that receiver.',
  });
}

/** Our own code for a connection that is silent for too long. */
const SLOW = 'ESLOW';
const UNTRUSTED = new Set([
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_SIGNATURE_FAILURE',
  'INVALID_PURPOSE',
  'INVALID_CA',
]);
const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EADDRNOTAVAIL',
]);

/** Errors of HTTP, TLS and the socket as ours. */
export function transportError(url: string, error: unknown): StillpointError {
  if (error instanceof StillpointError) return error;
  const code = codeOf(error);
  if (UNTRUSTED.has(code)) {
    return new StillpointError('identity-mismatch', {
      thing: url,
      reason:
        'it is not the receiver that this agent is enrolled with: another authority made its certificate',
      remedy: 'Check the URL; if the receiver was set up again, enroll again.',
      cause: error,
    });
  }
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID') return wrongClock(url, code, error);
  if (UNREACHABLE.has(code)) {
    return new StillpointError('unreachable', {
      thing: url,
      reason: `no connection can be made (${code})`,
      remedy: 'Check that the receiver runs and that its port is open.',
      permanent: false,
      cause: error,
    });
  }
  if (code === SLOW) {
    return new StillpointError('timeout', {
      thing: url,
      reason: 'it did not answer in time',
      remedy: "See the receiver's log.",
      permanent: false,
      cause: error,
    });
  }
  return new StillpointError('connection-lost', {
    thing: url,
    reason: `the connection broke (${code === '' ? String(error) : code})`,
    remedy: 'The message is sent again.',
    permanent: false,
    cause: error,
  });
}

/** A receiver renews its certificate by itself, a year before its end: one of the two clocks is wrong. */
function wrongClock(url: string, code: string, cause: unknown): StillpointError {
  const isEarly = code === 'CERT_NOT_YET_VALID';
  return new StillpointError('identity-mismatch', {
    thing: url,
    reason: `by this machine's clock, ${new Date().toISOString()}, its certificate is ${isEarly ? 'not valid yet' : 'no longer valid'}`,
    remedy: isEarly
      ? "Set this machine's clock right. If it is, the receiver's was ahead when it made the certificate: remove receiver/server.json there, and start it again."
      : 'Check the clocks of both machines. A receiver renews its certificate by itself, and when it is started.',
    cause,
  });
}

function codeOf(error: unknown): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  const code = (first as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}
