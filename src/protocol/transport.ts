/**
 * HTTP requests to one receiver over TLS 1.3 on a few kept connections. The only authority believed is the receiver's own,
 * and the receiver must be the one of this id, whatever host name or address it is reached under.
 */
import type { PeerCertificate } from 'node:tls';
import { type Dispatcher, errors, Pool } from 'undici';
import { StillpointError } from '../domain/errors.js';
import { JSON_BYTES_MAX } from '../domain/limits.js';
import { native } from '../native/index.js';
import { subjectOf } from './certificate-identity.js';
import { errorOfAnswer } from './error-body.js';
import { HEADER_PROTOCOL, PROTOCOL_VERSION } from './messages.js';

/** AES-128 first: it is a third faster than AES-256 and as safe here. */
export const TLS_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';

const CONNECT_TIMEOUT_MS = 15_000;
/** Less than the receiver's, so that a kept connection is never used just when the receiver closes it. */
const KEEP_ALIVE_MS = 30_000;
/** Between two pieces of an answer. */
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
  /** Until the answer begins. */
  readonly answerTimeoutMs: number;
}

export class Transport {
  readonly #url: string;
  readonly #pool: Pool;

  constructor(address: ReceiverAddress, connections: number) {
    this.#url = address.url;
    this.#pool = new Pool(address.url, {
      connections,
      pipelining: 1,
      keepAliveTimeout: KEEP_ALIVE_MS,
      keepAliveMaxTimeout: KEEP_ALIVE_MS,
      bodyTimeout: BODY_TIMEOUT_MS,
      connect: {
        timeout: CONNECT_TIMEOUT_MS,
        ca: address.authority,
        ...(address.credentials === undefined
          ? {}
          : { key: address.credentials.key, cert: address.credentials.certificate }),
        minVersion: 'TLSv1.3',
        ciphers: TLS_CIPHERS,
        // Each connection proves both certificates anew.
        maxCachedSessions: 0,
        rejectUnauthorized: true,
        checkServerIdentity: (_host, certificate) => checkReceiver(address, certificate),
      },
    });
  }

  /** The whole answer. @throws StillpointError also for an answer with an error */
  async bytes(request: TransportRequest, answerBytesMax: number): Promise<Buffer> {
    return this.#translated(async () => {
      const { statusCode, headers, body } = await this.#send(request);
      const isError = statusCode !== 200;
      const bytesMax = isError ? JSON_BYTES_MAX : answerBytesMax;
      const bytes = await this.#collect(body, headers['content-length'], bytesMax);
      if (isError) throw errorOfAnswer(this.#url, statusCode, bytes);
      return bytes;
    });
  }

  /** The answer as it comes. Not reading to the end closes the connection. */
  async *stream(request: TransportRequest): AsyncGenerator<Buffer> {
    const answer = await this.#translated(() => this.#send(request));
    if (answer.statusCode !== 200) {
      const { body, headers } = answer;
      const bytes = await this.#translated(() =>
        this.#collect(body, headers['content-length'], JSON_BYTES_MAX),
      );
      throw errorOfAnswer(this.#url, answer.statusCode, bytes);
    }
    const chunks = answer.body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    try {
      for (;;) {
        const { done, value } = await this.#translated(() => chunks.next());
        if (done === true) return;
        yield value;
      }
    } finally {
      discard(answer.body);
    }
  }

  /** Waits for requests in flight. */
  async close(): Promise<void> {
    await this.#pool.close();
  }

  #send(request: TransportRequest): Promise<Dispatcher.ResponseData> {
    return this.#pool.request({
      method: 'POST',
      path: request.path,
      headers: { ...request.headers, [HEADER_PROTOCOL]: String(PROTOCOL_VERSION) },
      body: request.body,
      headersTimeout: request.answerTimeoutMs,
    });
  }

  async #collect(
    body: Dispatcher.ResponseData['body'],
    announced: string | string[] | undefined,
    bytesMax: number,
  ): Promise<Buffer> {
    const length = Number(announced);
    if (!(length <= bytesMax)) {
      discard(body);
      throw this.#tooLarge(announced, bytesMax);
    }
    const bytes = Buffer.allocUnsafeSlow(length);
    let filled = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      filled += chunk.copy(bytes, filled);
      native.freeBuffer(chunk);
    }
    return bytes;
  }

  #tooLarge(announced: string | string[] | undefined, bytesMax: number): StillpointError {
    return new StillpointError('too-large', {
      thing: this.#url,
      reason: `it announces an answer of ${announced === undefined ? 'unknown length' : `${announced} bytes`}, and ${bytesMax} is the limit`,
    });
  }

  async #translated<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw transportError(this.#url, error);
    }
  }
}

/** Nobody reads on: closes the connection. That it was closed is then an error that nobody waits for. */
function discard(body: Dispatcher.ResponseData['body']): void {
  body.on('error', () => undefined).destroy();
}

/** The receiver's id in place of the host name. @returns an error to refuse the connection, as tls.connect wants it. */
function checkReceiver(address: ReceiverAddress, certificate: PeerCertificate): Error | undefined {
  const shown = subjectOf({ subjectAltName: certificate.subjectaltname }, 'receiver');
  if (shown === address.receiverId) return undefined;
  return new StillpointError('identity-mismatch', {
    thing: address.url,
    reason: `it is ${shown === null ? 'no receiver' : `the receiver ${shown}`}, not the receiver ${address.receiverId} that this agent is enrolled with`,
    remedy: 'Check the URL, or enroll with that receiver.',
  });
}

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
const OUT_OF_TIME = new Set(['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID']);
const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EADDRNOTAVAIL',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/** Errors of undici, TLS and the socket as ours. */
export function transportError(url: string, error: unknown): StillpointError {
  if (error instanceof StillpointError) return error;
  const code = codeOf(error);
  if (UNTRUSTED.has(code)) {
    return new StillpointError('identity-mismatch', {
      thing: url,
      reason:
        'it is not the receiver that this agent is enrolled with: another authority made its certificate',
      remedy: 'Check the URL; if the receiver was set up anew, enroll again.',
      cause: error,
    });
  }
  if (OUT_OF_TIME.has(code)) {
    return new StillpointError('identity-mismatch', {
      thing: url,
      reason: "its certificate is not valid at this machine's time",
      remedy: 'Check the clocks of both machines, then restart the receiver, which renews its certificate.',
      cause: error,
    });
  }
  if (UNREACHABLE.has(code)) {
    return new StillpointError('unreachable', {
      thing: url,
      reason: `no connection can be made (${code})`,
      remedy: 'Check that the receiver runs and that its port is open.',
      permanent: false,
      cause: error,
    });
  }
  if (error instanceof errors.HeadersTimeoutError || error instanceof errors.BodyTimeoutError) {
    return new StillpointError('timeout', {
      thing: url,
      reason: 'it did not answer in time',
      remedy: "Look into the receiver's log.",
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

function codeOf(error: unknown): string {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  const code = (first as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}
