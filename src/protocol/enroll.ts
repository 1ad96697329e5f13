/**
 * Becoming an agent of a receiver. The code pins the receiver's authority: a first connection, on which
 * nothing is sent, only learns its certificate; it must match the pin. The second is one like all later ones,
 * verified by TLS against exactly that authority, and carries the secret and the certificate request. The key
 * never leaves this machine.
 */
import type { X509Certificate } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import { isStillpointError, StillpointError } from '../domain/base/errors.js';
import { checkName } from '../domain/base/names.js';
import { type RetryPolicy, retry } from '../domain/base/retry.js';
import { subjectOf } from './certificates/certificate-identity.js';
import { createRequest } from './certificates/certificates.js';
import { callerOrigin, type Enrolment, receiverOrigin } from './certificates/enrolment.js';
import { decodeInviteCode, matchesPin } from './certificates/invite-code.js';
import { Exchange } from './exchange.js';
import { ENROL_MESSAGE } from './messages/enrol-message.js';
import { RETRY_DEFAULT } from './retry.js';
import type { EnrolRequest } from './schemas/messages.js';
import { handshake, provenAs, type ReceiverListener } from './transport/listener.js';
import { TLS_CIPHERS, Transport, transportError } from './transport/transport.js';

const LOOK_TIMEOUT_MS = 15_000;
/** A person waits for it. */
const ENROL_RETRY: RetryPolicy = { ...RETRY_DEFAULT, patienceMs: 30_000 };

/**
 * @param options.name the agent's name, where it is to be sure that the code was made for it.
 * @throws StillpointError `invite-invalid`, `invite-expired`, `identity-mismatch`, `unreachable`, ...
 */
export async function enroll(
  url: string,
  code: string,
  options: { readonly name?: string; readonly retry?: RetryPolicy } = {},
): Promise<Enrolment> {
  const { pin, secret } = decodeInviteCode(code);
  const origin = receiverOrigin(url);
  if (options.name !== undefined) checkName('agent name', options.name);
  const { authority, receiverId } = await lookAt(origin, pin);
  const transport = new Transport({ url: origin, receiverId, authority }, { connections: 1 });
  return askFor(transport, { url: origin, receiverId, authority, secret }, options);
}

/** For networks where only the receiver can open connections: waits for it to call, until the signal. */
export async function enrollOver(
  listener: ReceiverListener,
  code: string,
  options: { readonly name?: string; readonly signal: AbortSignal; readonly retry?: RetryPolicy },
): Promise<Enrolment> {
  const { pin, secret } = decodeInviteCode(code);
  const seen = new WeakMap<TLSSocket, Shown>();
  listener.proveWith(async (socket) => {
    const secured = await handshake(connect({ ...UNVERIFIED, socket }));
    seen.set(secured, shownBy(secured, socket.remoteAddress ?? 'unknown', pin));
    return secured;
  });
  const socket = await called(listener, options.signal);
  const shown = seen.get(socket);
  socket.destroy();
  if (shown === undefined) throw stranger('caller');
  const { authority, receiverId } = shown;
  const url = callerOrigin(receiverId);
  listener.proveWith(provenAs({ url, receiverId, authority }));
  const transport = new Transport(
    { url, receiverId, authority },
    { connections: 1, connect: listener.connect },
  );
  // The receiver calls again after a pause.
  return askFor(transport, { url, receiverId, authority, secret }, { retry: RETRY_DEFAULT, ...options });
}

async function called(listener: ReceiverListener, signal: AbortSignal): Promise<TLSSocket> {
  for (;;) {
    try {
      return await listener.connect();
    } catch (error) {
      if (signal.aborted || !isStillpointError(error, 'unreachable')) throw error;
      await sleep(0);
    }
  }
}

/** Makes a key, and asks for a certificate for it. */
async function askFor(
  transport: Transport,
  receiver: {
    readonly url: string;
    readonly receiverId: string;
    readonly authority: string;
    readonly secret: Buffer;
  },
  options: { readonly name?: string; readonly retry?: RetryPolicy },
): Promise<Enrolment> {
  const { url, receiverId, authority, secret } = receiver;
  try {
    const { key, csr } = await createRequest();
    const request: EnrolRequest = { secret: secret.toString('hex'), csr, name: options.name ?? null };
    // The same secret with the same key again is the same enrolment: an answer that was
    // lost is asked for once more.
    const exchange = new Exchange(transport, null);
    const answer = await retry(options.retry ?? ENROL_RETRY, () => exchange.call(ENROL_MESSAGE, [request]));
    const { agent, certificate } = answer;
    return { receiverId, url, agent: checkName('agent name', agent), authority, key, certificate };
  } finally {
    await transport.close();
  }
}

interface Shown {
  readonly authority: string;
  readonly receiverId: string;
}

async function lookAt(origin: string, pin: Buffer): Promise<Shown> {
  const socket = await connectUnverified(origin);
  try {
    return shownBy(socket, origin, pin);
  } finally {
    socket.destroy();
  }
}

/** @throws StillpointError `identity-mismatch` */
function shownBy(socket: TLSSocket, origin: string, pin: Buffer): Shown {
  const leaf = socket.getPeerX509Certificate();
  const receiverId = leaf === undefined ? null : subjectOf(leaf, 'receiver');
  for (let issuer = leaf?.issuerCertificate; issuer !== undefined; issuer = above(issuer)) {
    if (receiverId !== null && matchesPin(issuer, pin)) return { authority: issuer.toString(), receiverId };
  }
  throw stranger(origin);
}

function stranger(thing: string): StillpointError {
  return new StillpointError('identity-mismatch', {
    thing,
    reason: 'it is not the receiver that made this code',
    remedy: 'Check URL and code. Nothing was sent to it.',
  });
}

/** A self-signed certificate is its own issuer. */
function above(certificate: X509Certificate): X509Certificate | undefined {
  const issuer = certificate.issuerCertificate;
  return issuer?.fingerprint256 === certificate.fingerprint256 ? undefined : issuer;
}

const UNVERIFIED: ConnectionOptions = {
  minVersion: 'TLSv1.3',
  ciphers: TLS_CIPHERS,
  rejectUnauthorized: false,
};

function connectUnverified(origin: string): Promise<TLSSocket> {
  const { hostname, port } = new URL(origin);
  const options: ConnectionOptions = {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port === '' ? 443 : port),
    ...UNVERIFIED,
    timeout: LOOK_TIMEOUT_MS,
  };
  return new Promise((resolve, reject) => {
    const socket = connect(options, () => resolve(socket));
    socket.on('error', (error) => reject(notStillpoint(origin, error)));
    socket.on('timeout', () => {
      socket.destroy();
      reject(
        new StillpointError('timeout', {
          thing: origin,
          reason: 'it did not answer in time',
          permanent: false,
        }),
      );
    });
  });
}

function notStillpoint(origin: string, error: Error): StillpointError {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (!code.startsWith('ERR_SSL')) return transportError(origin, error);
  return new StillpointError('identity-mismatch', {
    thing: origin,
    reason: `it does not speak TLS 1.3 (${code})`,
    remedy: 'Check the URL: is it that of a Stillpoint receiver?',
    cause: error,
  });
}
