/**
 * Where agents meet the receiver: the HTTPS server that listens, the one for connections that it opens
 * itself, and everything about certificates.
 */

import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import fastify from 'fastify';
import type { Logger } from 'pino';
import type { ErrorCode } from '../domain/base/error-codes.js';
import { isStillpointError, StillpointError } from '../domain/base/errors.js';
import {
  BATCH_BYTES_MAX,
  KiB,
  RECEIVER_ANSWER_BYTES_MAX,
  RECEIVER_BODY_BYTES_MAX,
  RECEIVER_SMALL_BODY_BYTES_MAX,
  RECEIVER_WAITING_MAX,
  RENEWALS_PER_HOUR_MAX,
} from '../domain/base/limits.js';
import type { LogEvent } from '../domain/base/log-events.js';
import { type Refusal, registerRoutes } from '../protocol/routes.js';
import {
  type EnrolAnswer,
  type EnrolRequest,
  type RenewAnswer,
  type RenewRequest,
  ROUTE_PREFIX,
} from '../protocol/schemas/messages.js';
import { BodyMemory } from '../protocol/transport/body-memory.js';
import { ByteBudget } from '../protocol/transport/byte-budget.js';
import { BODY_TIMEOUTS, type BodyTimeouts, bodyTimeoutMs } from '../protocol/transport/request-body.js';
import { TLS_CIPHERS } from '../protocol/transport/transport.js';
import { Attempts } from './access/attempts.js';
import { Authorizer } from './access/authorize.js';
import { type ConnectionLimits, Connections } from './access/connections.js';
import { loadIdentity, type ReceiverIdentity } from './access/identity.js';
import { networkOf } from './access/network.js';
import type { Quotas } from './access/quotas.js';
import { Rates } from './access/rates.js';
import type { Tenants } from './access/tenants.js';
import { Sparing } from './audit/sparing.js';
import type { Trail } from './audit/trail.js';
import { DialOut } from './orders/dial-out.js';
import { AgentHandlers } from './sessions/agent-receiver.js';
import type { ReceiverService } from './sessions/service.js';

const HANDSHAKE_TIMEOUT_MS = 15_000;
const HEADERS_TIMEOUT_MS = 20_000;
/** Longer than agents keep an idle connection. */
const KEEP_ALIVE_MS = 75_000;
/** After that TCP asks whether the other side is still there. */
const TCP_KEEP_ALIVE_MS = 30_000;
const CHECK_INTERVAL_MS = 5_000;
const HEADER_BYTES_MAX = 8 * KiB;
/** For requests in flight when the receiver closes; then their connections are cut. */
const CLOSE_GRACE_MS = 30_000;
const SWEEP_INTERVAL_MS = 100;
const RENEW_INTERVAL_MS = 60 * 60_000;
/** Lines about what was refused, in a time. */
const LOG_WINDOW_MS = 60_000;
const LOG_LINES_PER_ADDRESS = 60;
const LOG_LINES = 600;

export interface FaceOptions {
  readonly dir: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly identity: ReceiverIdentity;
  readonly tenants: Tenants;
  readonly quotas: Quotas;
  readonly service: ReceiverService;
  readonly trail: Trail;
  readonly log: Logger;
  readonly now: () => Date;
  /** Each message of an agent that has proven its name. */
  readonly onMessage?: (agent: string, bodyBytes: number) => void;
  readonly onRefusal?: (code: ErrorCode) => void;
  readonly timeouts?: Partial<BodyTimeouts>;
  readonly connectionLimits?: Partial<ConnectionLimits>;
}

export interface Face {
  readonly url: string;
  readonly dialOut: DialOut;
  readonly connections: Connections;
  /** Makes certificates anew that are near their end, and shows them from then on. */
  renew(): Promise<void>;
  close(): Promise<void>;
}

/** What TLS shows and believes. */
function secured({ server, authority, trusted }: ReceiverIdentity) {
  return {
    key: server.key,
    // The authority goes along: an agent that enrols compares it with the code's pin.
    cert: `${server.certificate}\n${authority.certificate}`,
    ca: trusted.join('\n'),
    minVersion: 'TLSv1.3',
    ciphers: TLS_CIPHERS,
    honorCipherOrder: true,
  } as const;
}

export async function listenOn(options: FaceOptions): Promise<Face> {
  const { dir, log, trail, service, tenants, quotas, now } = options;
  const timeouts = { ...BODY_TIMEOUTS, ...options.timeouts };
  let { identity } = options;
  const attempts = new Attempts(() => now().getTime());
  const rates = new Rates((agent) => quotas.of(agent));
  const authorizer = new Authorizer(tenants, () => identity.trusted, now);
  const closing = new AbortController();
  const https = {
    ...secured(identity),
    // A certificate that is missing or wrong is answered with a clear error: see authorize.ts.
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: HEADERS_TIMEOUT_MS,
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: TCP_KEEP_ALIVE_MS,
  } as const;
  const app = fastify({
    logger: false,
    forceCloseConnections: 'idle',
    requestTimeout: timeouts.admissionMs + bodyTimeoutMs(timeouts, BATCH_BYTES_MAX),
    keepAliveTimeout: KEEP_ALIVE_MS,
    https,
  });
  // For connections that this receiver opened: it listens nowhere. They wait unused for as long as the agent
  // needs none, so the only bound on the time for a request's head is their number.
  const dialled = createServer(
    { ...https, headersTimeout: 0, requestTimeout: 0, keepAliveTimeout: KEEP_ALIVE_MS },
    (request, response) => app.routing(request, response),
  );
  const dialOut = new DialOut({ server: dialled, agentOf: (socket) => authorizer.agentOf(socket), log });
  const connections = new Connections((socket) => authorizer.agentOf(socket), options.connectionLimits);
  connections.watch(app.server);
  connections.follow(dialled);
  const lines = new Sparing({
    ...{ windowMs: LOG_WINDOW_MS, perKeyMax: LOG_LINES_PER_ADDRESS, totalMax: LOG_LINES },
    nowMs: () => performance.now(),
  });
  app.server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
    const { remoteAddress: address = 'unknown' } = socket;
    const reason = error.code ?? error.message;
    // A client that only looks, as an enrolment does first, just goes away.
    const isLook = error.code === 'ECONNRESET';
    if (!isLook) trail.refused({ who: 'stranger', detail: `TLS handshake: ${reason}` }, address);
    if (lines.admit(networkOf(address)))
      log[isLook ? 'debug' : 'warn'](
        { event: 'tls-refused' satisfies LogEvent, address, reason },
        'TLS handshake refused',
      );
  });
  const renewals = new Sparing({
    ...{ windowMs: RENEW_INTERVAL_MS, perKeyMax: RENEWALS_PER_HOUR_MAX, totalMax: Number.POSITIVE_INFINITY },
    nowMs: () => performance.now(),
  });
  registerRoutes(app, {
    authorize: (socket) => authorizer.agentOf(socket),
    portFor: (agent, address) => new AgentHandlers(service, agent, { address }),
    admit: (agent, bodyBytes) => {
      options.onMessage?.(agent, bodyBytes);
      service.checkOpen(agent);
      return rates.admit(agent, bodyBytes);
    },
    admitEnrolment: (address) => attempts.admit(address),
    enrol: (request, address) => enrol(request, address, identity, tenants, trail, log, now()),
    renew: (agent, socket, request) => {
      if (!renewals.admit(agent)) throw tooManyRenewals(agent);
      return renewAgent(agent, authorizer.fingerprintOf(socket), request, identity, tenants, trail, now());
    },
    bodies: {
      small: new ByteBudget(RECEIVER_SMALL_BODY_BYTES_MAX, RECEIVER_WAITING_MAX),
      large: new ByteBudget(RECEIVER_BODY_BYTES_MAX, RECEIVER_WAITING_MAX),
    },
    answers: new ByteBudget(RECEIVER_ANSWER_BYTES_MAX, RECEIVER_WAITING_MAX),
    memory: new BodyMemory(),
    timeouts,
    onRefusal: (refusal) => {
      options.onRefusal?.(refusal.error.code);
      if (refusal.message.startsWith(`${ROUTE_PREFIX}/enroll`)) attempts.failed(refusal.address);
      noteRefusal(trail, refusal);
      if (lines.admit(refusal.agent ?? networkOf(refusal.address))) logRefusal(log, refusal);
    },
    closing: closing.signal,
  });
  await app.listen(options.listen).catch((error: NodeJS.ErrnoException) => {
    throw notListening(options.listen, error);
  });
  const renew = async () => {
    try {
      const fresh = await loadIdentity(dir, now());
      if (fresh.server.certificate === identity.server.certificate && same(fresh.trusted, identity.trusted))
        return;
      identity = fresh;
      for (const server of [app.server, dialled]) server.setSecureContext(secured(fresh));
      log.info("the receiver's certificates were renewed");
    } catch (error) {
      log.error({ reason: (error as Error).message }, "the receiver's certificates can't be renewed now");
    }
  };
  const renewing = setInterval(() => void renew(), RENEW_INTERVAL_MS).unref();
  return {
    url: urlOf(options.listen.host, app.server.address() as AddressInfo),
    ...{ dialOut, connections, renew },
    close: async () => {
      closing.abort();
      clearInterval(renewing);
      const hungUp = dialOut.close(CLOSE_GRACE_MS);
      const cut = setTimeout(() => app.server.closeAllConnections(), CLOSE_GRACE_MS);
      // Those whose request ends meanwhile would otherwise be kept alive until the cut.
      const sweep = setInterval(() => app.server.closeIdleConnections(), SWEEP_INTERVAL_MS);
      await Promise.all([app.close(), hungUp]);
      clearInterval(sweep);
      clearTimeout(cut);
    },
  };
}

function same(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((pem, at) => pem === b[at]);
}

async function renewAgent(
  agent: string,
  shown: string,
  { csr }: RenewRequest,
  { announced }: ReceiverIdentity,
  tenants: Tenants,
  trail: Trail,
  now: Date,
): Promise<RenewAnswer> {
  const certificate = await tenants.renew(agent, shown, csr, now);
  await trail.log.record({ who: 'agent', what: 'renew', result: 'done', agent });
  return { agent, certificate, authority: announced.join('\n') };
}

function tooManyRenewals(agent: string): StillpointError {
  return new StillpointError('busy', {
    thing: `agent ${agent}`,
    reason: `it has renewed its certificate ${RENEWALS_PER_HOUR_MAX} times within an hour`,
    remedy: 'Wait an hour.',
    permanent: false,
  });
}

function notListening(
  { host, port }: { readonly host: string; readonly port: number },
  error: NodeJS.ErrnoException,
): StillpointError {
  return new StillpointError('config', {
    thing: `listen address ${host}:${port}`,
    reason: `listening on it failed (${error.code ?? error.message})`,
    remedy: 'Stop what listens there, or name another address of this machine with --listen.',
    cause: error,
  });
}

async function enrol(
  request: EnrolRequest,
  address: string,
  identity: ReceiverIdentity,
  tenants: Tenants,
  trail: Trail,
  log: Logger,
  now: Date,
): Promise<EnrolAnswer> {
  const { name, certificate } = await tenants.enrol(request, now);
  // If it can't be recorded, the agent does not get its certificate; it asks again with the same key.
  await trail.log.record({ who: 'agent', what: 'enroll', result: 'done', agent: name, address });
  log.info({ event: 'agent-enrolled' satisfies LogEvent, agent: name, address }, 'agent enrolled');
  return { receiverId: identity.settings.id, agent: name, certificate };
}

/** What strangers tried, and sessions that were not let in. Other refusals are for the receiver's log. */
const RECORDED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'not-enrolled',
  'unauthorized',
  'agent-revoked',
  'quota',
  'invite-invalid',
  'invite-expired',
]);
const RECORDED_MESSAGES = /\/session\/(begin|commit)$/;

function noteRefusal(trail: Trail, { agent, address, message, error }: Refusal): void {
  if (!RECORDED.has(error.code) && (agent === null || !RECORDED_MESSAGES.test(message))) return;
  const who = agent === null ? 'stranger' : 'agent';
  const detail = `${message.slice(0, 80)}: ${error.code}: ${error.thing}: ${error.reason}`;
  trail.refused({ who, detail, ...(agent === null ? {} : { agent }) }, address);
}

function logRefusal(log: Logger, { agent, address, message, error }: Refusal): void {
  const line = { agent, address, message, code: error.code, thing: error.thing, reason: error.reason };
  if (isStillpointError(error, 'internal') || isStillpointError(error, 'system'))
    log.error({ event: 'request-failed' satisfies LogEvent, ...line, err: error.cause }, 'request failed');
  else log.warn({ event: 'request-refused' satisfies LogEvent, ...line }, 'request refused');
}

function urlOf(host: string, address: AddressInfo): string {
  return `https://${host.includes(':') ? `[${host}]` : host}:${address.port}`;
}
