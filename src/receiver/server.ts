/**
 * The receiver as a network service: identity, tenants, store and routes put together.
 *
 * Close: no new connections, idle ones end, requests in flight get a bounded time to finish, then the
 * sessions are closed, then the store.
 */

import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import fastify from 'fastify';
import type { Logger } from 'pino';
import { isStillpointError, StillpointError } from '../domain/base/errors.js';
import {
  BATCH_BYTES_MAX,
  KiB,
  PARTIAL_KEEP_MS,
  RECEIVER_ANSWER_BYTES_MAX,
  RECEIVER_BODY_BYTES_MAX,
  RECEIVER_CONNECTIONS_MAX,
  RECEIVER_WAITING_MAX,
  SCRUB_PERIOD_MS,
} from '../domain/base/limits.js';
import type { RateSchedule } from '../domain/session/rate-limit.js';
import { type EnrolAnswer, type EnrolRequest, ROUTE_PREFIX } from '../protocol/messages/schemas.js';
import { type Refusal, registerRoutes } from '../protocol/routes.js';
import { BodyMemory } from '../protocol/transport/body-memory.js';
import { ByteBudget } from '../protocol/transport/byte-budget.js';
import { BODY_TIMEOUTS, type BodyTimeouts, bodyTimeoutMs } from '../protocol/transport/request-body.js';
import { TLS_CIPHERS } from '../protocol/transport/transport.js';
import type { Store } from '../store/port/store.js';
import { Attempts } from './access/attempts.js';
import { Authorizer } from './access/authorize.js';
import { loadIdentity, parseListen, type ReceiverIdentity } from './access/identity.js';
import { Tenants } from './access/tenants.js';
import { openControl } from './control/server.js';
import { DialOut } from './orders/dial-out.js';
import type { OrderBook } from './orders/orders.js';
import { Remote } from './orders/remote.js';
import type { RetentionEvent } from './retention/events.js';
import { logRetention, pruneByItself } from './retention/pruning.js';
import { RetentionService } from './retention/service.js';
import { AgentHandlers } from './sessions/agent-receiver.js';
import { ReceiverService } from './sessions/service.js';
import { Scrubbing } from './upkeep/scrubbing.js';

export interface ServerOptions {
  /** Made by initReceiver. */
  readonly dir: string;
  /** `HOST:PORT`, port 0 for any; default: as initialized. */
  readonly listen?: string;
  readonly log: Logger;
  readonly openStore: (dir: string, log: Logger, settings: StoreSettings) => Promise<Store>;
  /** How long partial sets are kept this time; default: as initialized. */
  readonly keepPartialMs?: number;
  /** Default: every 10 minutes. Not at the start: agents that waited for the receiver go on first. */
  readonly collectIntervalMs?: number;
  /** Within which the store is read back this time, 0: not by schedule; default: as initialized. */
  readonly scrubPeriodMs?: number;
  readonly scrubRate?: RateSchedule;
  /** Default: every 10 minutes. */
  readonly scrubIntervalMs?: number;
  /** Default: every hour. */
  readonly pruneIntervalMs?: number;
  /** Points that were removed, pins, changes of what is kept: for an audit log. They are logged anyway. */
  readonly onRetention?: (event: RetentionEvent) => void;
  readonly timeouts?: Partial<BodyTimeouts>;
  readonly now?: () => Date;
}

export interface StoreSettings {
  readonly keepPartialMs: number;
}

export interface RunningServer {
  /** `https://HOST:PORT` with the port that it has. */
  readonly url: string;
  /** What agents are asked to back up. */
  readonly orders: OrderBook;
  /** For commands, and rounds by schedule. */
  readonly remote: Remote;
  /** For commands, a configuration file, and the removal of an agent. */
  readonly retention: RetentionService;
  close(): Promise<void>;
}

interface Face {
  readonly url: string;
  readonly dialOut: DialOut;
  close(): Promise<void>;
}

const HANDSHAKE_TIMEOUT_MS = 15_000;
const HEADERS_TIMEOUT_MS = 20_000;
/** Longer than agents keep an idle connection. */
const KEEP_ALIVE_MS = 75_000;
const CHECK_INTERVAL_MS = 5_000;
const HEADER_BYTES_MAX = 8 * KiB;
/** For requests in flight when the receiver closes; then their connections are cut. */
const CLOSE_GRACE_MS = 30_000;
const SWEEP_INTERVAL_MS = 100;
const COLLECT_INTERVAL_MS = 10 * 60_000;

export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { dir, log } = options;
  const now = options.now ?? (() => new Date());
  const identity = await loadIdentity(dir, now());
  const listen = parseListen(options.listen ?? identity.settings.listen);
  const keepPartialMs = options.keepPartialMs ?? identity.settings.keepPartialMs ?? PARTIAL_KEEP_MS;
  const store = await options.openStore(dir, log, { keepPartialMs });
  let face: Face | null = null;
  try {
    const tenants = await Tenants.open(dir, identity.authority, (message) => log.error(message));
    const service = await ReceiverService.open(store);
    const listening = await listenOn(listen, identity, tenants, service, options, now);
    face = listening;
    const { dialOut, url } = listening;
    const { orders } = service;
    const remote = await Remote.start({ dir, store, tenants, orders, dialOut, log, now });
    const scrubPeriodMs = options.scrubPeriodMs ?? identity.settings.scrubPeriodMs ?? SCRUB_PERIOD_MS;
    const scrubbing = new Scrubbing({
      ...{ store, log, now, rate: options.scrubRate, intervalMs: options.scrubIntervalMs },
      periodMs: scrubPeriodMs === 0 ? null : scrubPeriodMs,
    });
    const retention = new RetentionService({
      store,
      onEvent: (event) => {
        logRetention(log, event);
        options.onRetention?.(event);
      },
      endSessions: (key) => service.endIdle(key, now()),
    });
    const control = await openControl(dir, { remote, retention, scrubbing }, log).catch((error: Error) => {
      // The path may be too long for a socket: agents are served anyway.
      log.warn({ reason: error.message }, 'no commands are taken: backup, round, agents');
      return null;
    });
    log.info({ url, receiver: identity.settings.id }, 'serving');
    const collecting = setInterval(
      () => void service.collect(),
      options.collectIntervalMs ?? COLLECT_INTERVAL_MS,
    ).unref();
    const stopPruning = pruneByItself({
      store,
      service: retention,
      log,
      intervalMs: options.pruneIntervalMs,
    });
    return {
      ...{ url, orders, remote, retention },
      close: async () => {
        clearInterval(collecting);
        await stopPruning();
        orders.close();
        await scrubbing.close();
        await control?.close();
        await remote.close();
        await listening.close();
        await service.close();
        await store.close();
        log.info('receiver closed');
      },
    };
  } catch (error) {
    await face?.close();
    await store.close();
    throw error;
  }
}

async function listenOn(
  { host, port }: { host: string; port: number },
  identity: ReceiverIdentity,
  tenants: Tenants,
  service: ReceiverService,
  { log, timeouts: asked }: ServerOptions,
  now: () => Date,
): Promise<Face> {
  const timeouts = { ...BODY_TIMEOUTS, ...asked };
  const attempts = new Attempts(() => now().getTime());
  const authorizer = new Authorizer(tenants, identity.authority.certificate, now);
  const closing = new AbortController();
  const https = {
    key: identity.server.key,
    // The authority goes along: an agent that enrols compares it with the code's pin.
    cert: `${identity.server.certificate}\n${identity.authority.certificate}`,
    ca: identity.authority.certificate,
    minVersion: 'TLSv1.3',
    ciphers: TLS_CIPHERS,
    honorCipherOrder: true,
    // A certificate that is missing or wrong is answered with a clear error: see authorize.ts.
    requestCert: true,
    rejectUnauthorized: false,
    handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: HEADERS_TIMEOUT_MS,
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
    noDelay: true,
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
  app.server.maxConnections = RECEIVER_CONNECTIONS_MAX;
  app.server.on('tlsClientError', (error: NodeJS.ErrnoException, socket: TLSSocket) => {
    // A client that only looks, as an enrolment does first, just goes away.
    const level = error.code === 'ECONNRESET' ? 'debug' : 'warn';
    log[level](
      { address: socket.remoteAddress, reason: error.code ?? error.message },
      'TLS handshake refused',
    );
  });
  registerRoutes(app, {
    authorize: (socket) => authorizer.agentOf(socket),
    portFor: (agent) => new AgentHandlers(service, agent),
    admitEnrolment: (address) => attempts.admit(address),
    enrol: (request) => enrol(request, identity, tenants, log, now()),
    budget: new ByteBudget(RECEIVER_BODY_BYTES_MAX, RECEIVER_WAITING_MAX),
    answers: new ByteBudget(RECEIVER_ANSWER_BYTES_MAX, RECEIVER_WAITING_MAX),
    memory: new BodyMemory(),
    timeouts,
    onRefusal: (refusal) => {
      if (refusal.message.startsWith(`${ROUTE_PREFIX}/enroll`)) attempts.failed(refusal.address);
      logRefusal(log, refusal);
    },
    closing: closing.signal,
  });
  await app.listen({ host, port }).catch((error: NodeJS.ErrnoException) => {
    throw new StillpointError('config', {
      thing: `listen address ${host}:${port}`,
      reason: `listening on it failed (${error.code ?? error.message})`,
      remedy: 'Stop what listens there, or name another address of this machine with --listen.',
      cause: error,
    });
  });
  return {
    url: urlOf(host, app.server.address() as AddressInfo),
    dialOut,
    close: async () => {
      closing.abort();
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

async function enrol(
  request: EnrolRequest,
  identity: ReceiverIdentity,
  tenants: Tenants,
  log: Logger,
  now: Date,
): Promise<EnrolAnswer> {
  const { name, certificate } = await tenants.enrol(request, now);
  log.info({ agent: name }, 'agent enrolled');
  return { receiverId: identity.settings.id, agent: name, certificate };
}

function logRefusal(log: Logger, { agent, address, message, error }: Refusal): void {
  const line = { agent, address, message, code: error.code, thing: error.thing, reason: error.reason };
  if (isStillpointError(error, 'internal') || isStillpointError(error, 'system'))
    log.error({ ...line, err: error.cause }, 'request failed');
  else log.warn(line, 'request refused');
}

function urlOf(host: string, address: AddressInfo): string {
  return `https://${host.includes(':') ? `[${host}]` : host}:${address.port}`;
}
