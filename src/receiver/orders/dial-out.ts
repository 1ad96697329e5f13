/**
 * Connections that the receiver opens to agents that listen. The receiver dials, and then serves: the
 * connection goes to a server with the same certificates and routes as for connections that agents open, and
 * the agent sends its requests over it.
 *
 * | a target   | means                                      | goes on with                               |
 * |------------|--------------------------------------------|--------------------------------------------|
 * | connecting | fewer spare connections than there should  | dials, until DIALLED_SPARE of them wait    |
 * |            | be                                         | unused                                     |
 * | ready      | enough                                     | dials one more for each that the agent     |
 * |            |                                            | starts to use, within a bound              |
 * | failed     | the last attempt failed, or was not wanted | dials again after a pause that doubles, or |
 * |            |                                            | at once when asked to                      |
 *
 * So the agent never has to ask for connections: it takes those that wait, and new ones replace them.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server } from 'node:https';
import { connect, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { Logger } from 'pino';
import { isStillpointError } from '../../domain/base/errors.js';
import { DIALLED_PER_AGENT_MAX, DIALLED_SPARE } from '../../domain/base/limits.js';
import { Backoff, type Pauses } from '../../domain/base/retry.js';
import type { ListenAddress } from '../access/identity.js';

const CONNECT_TIMEOUT_MS = 15_000;
const KEEP_ALIVE_MS = 30_000;
const PAUSES: Pauses = { pauseMs: 1_000, pauseMaxMs: 60_000 };
const SWEEP_INTERVAL_MS = 100;

const NOT_WANTED = 'the agent closed the connection without using it';
const NOT_ENROLLED = 'the program that answered has not proven to be an agent; it may just have enrolled';
const NOT_PROVEN = 'the program that listens there is not an agent, or not one of this receiver';

export interface DialOutOptions {
  /** Takes the connections; listens nowhere. */
  readonly server: Server;
  /** @throws StillpointError where it speaks for no agent */
  readonly agentOf: (socket: TLSSocket) => string;
  readonly log: Logger;
}

export interface DialState {
  readonly address: ListenAddress;
  readonly connections: number;
  /** Why the last attempt failed, as a clause; null: it did not. */
  readonly problem: string | null;
}

/** What has become of a connection. */
interface Use {
  isSecured: boolean;
  /** It is the agent that was dialled. */
  isProven: boolean;
  /** The agent has sent a request over it. */
  isUsed: boolean;
  /** Under way. */
  requests: number;
}

interface Target {
  readonly agent: string;
  readonly address: ListenAddress;
  readonly sockets: Map<Socket, Use>;
  readonly backoff: Backoff;
  pausing: NodeJS.Timeout | null;
  problem: string | null;
}

export class DialOut {
  readonly #options: DialOutOptions;
  readonly #targets = new Map<string, Target>();
  /** By both ends, which the TLS socket over it has as well. */
  readonly #dialled = new Map<string, { target: Target; socket: Socket }>();
  #isClosed = false;

  constructor(options: DialOutOptions) {
    this.#options = options;
    const { server } = options;
    server.on('secureConnection', (socket) => this.#secured(socket));
    server.on('request', (request: IncomingMessage, response: ServerResponse) =>
      this.#used(request.socket as TLSSocket, response),
    );
  }

  state(agent: string): DialState | null {
    const target = this.#targets.get(agent);
    if (target === undefined) return null;
    const { address, sockets, problem } = target;
    return { address, connections: sockets.size, problem };
  }

  /** Dials these and no others from now on. */
  set(addresses: ReadonlyMap<string, ListenAddress>): void {
    for (const target of this.#targets.values()) {
      const address = addresses.get(target.agent);
      if (address?.host !== target.address.host || address.port !== target.address.port) this.#drop(target);
    }
    for (const [agent, address] of addresses) {
      if (this.#targets.has(agent)) continue;
      const target: Target = {
        ...{
          agent,
          address,
          sockets: new Map(),
          backoff: new Backoff(PAUSES, Math.random),
          pausing: null,
          problem: null,
        },
      };
      this.#targets.set(agent, target);
      this.#fill(target);
    }
  }

  /** Somebody waits for the agent: it is dialled now if it is not connected. */
  hurry(agent: string): void {
    const target = this.#targets.get(agent);
    if (target?.pausing == null) return;
    clearTimeout(target.pausing);
    target.pausing = null;
    target.backoff.reset();
    this.#fill(target);
  }

  /** Connections in use end with the request that they carry, at the latest after graceMs. */
  async close(graceMs: number): Promise<void> {
    this.#isClosed = true;
    const endMs = performance.now() + graceMs;
    for (const target of this.#targets.values()) {
      if (target.pausing !== null) clearTimeout(target.pausing);
      for (const [socket, { isUsed }] of target.sockets) if (!isUsed) socket.destroy();
    }
    while (this.#dialled.size > 0 && performance.now() < endMs) {
      // A server that does not listen keeps no account of idle connections
      // (closeIdleConnections does nothing).
      for (const { target, socket } of this.#dialled.values()) {
        if ((target.sockets.get(socket)?.requests ?? 0) === 0) socket.destroy();
      }
      await new Promise((resolve) => setTimeout(resolve, SWEEP_INTERVAL_MS));
    }
    for (const { socket } of this.#dialled.values()) socket.destroy();
  }

  #drop(target: Target): void {
    this.#targets.delete(target.agent);
    if (target.pausing !== null) clearTimeout(target.pausing);
    for (const [socket, { isUsed }] of target.sockets) if (!isUsed) socket.destroy();
  }

  #isWanted(target: Target): boolean {
    return !this.#isClosed && this.#targets.get(target.agent) === target;
  }

  #fill(target: Target): void {
    if (!this.#isWanted(target) || target.pausing !== null) return;
    const unused = [...target.sockets.values()].filter(({ isUsed }) => !isUsed).length;
    const wanted = Math.min(DIALLED_SPARE - unused, DIALLED_PER_AGENT_MAX - target.sockets.size);
    for (let i = 0; i < wanted; i += 1) this.#dial(target);
  }

  #dial(target: Target): void {
    const { host, port } = target.address;
    const socket = connect({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      keepAliveInitialDelay: KEEP_ALIVE_MS,
    });
    const use: Use = { isSecured: false, isProven: false, isUsed: false, requests: 0 };
    target.sockets.set(socket, use);
    const limit = setTimeout(
      () => socket.destroy(Object.assign(new Error('too slow'), { code: 'ETIMEDOUT' })),
      CONNECT_TIMEOUT_MS,
    );
    let key: string | null = null;
    let reason: string | null = null;
    socket.once('connect', () => {
      clearTimeout(limit);
      key = keyOf(socket);
      this.#dialled.set(key, { target, socket });
      this.#options.server.emit('connection', socket);
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      reason = `no connection can be made (${error.code ?? error.message})`;
    });
    socket.once('close', () => {
      clearTimeout(limit);
      if (key !== null) this.#dialled.delete(key);
      if (!target.sockets.delete(socket)) return;
      // An unproven agent is not dialled again at once, whatever it asked for: that would go on for ever.
      if (use.isUsed && use.isProven) this.#fill(target);
      else if (use.isUsed) this.#fail(target, NOT_ENROLLED);
      else this.#fail(target, reason ?? (use.isSecured ? NOT_WANTED : NOT_PROVEN));
    });
  }

  /** The other side is proven, or has shown nothing: then it may only enrol. */
  #secured(tls: TLSSocket): void {
    const known = this.#dialled.get(keyOf(tls));
    if (known === undefined) return void tls.destroy();
    const { target, socket } = known;
    const use = target.sockets.get(socket);
    if (use !== undefined) use.isSecured = true;
    try {
      const agent = this.#options.agentOf(tls);
      if (agent === target.agent) {
        if (use !== undefined) use.isProven = true;
        this.#works(target);
      } else this.#fail(target, `another agent answers there, ${agent}`, socket);
    } catch (error) {
      if (!isStillpointError(error, 'not-enrolled')) this.#fail(target, (error as Error).message, socket);
    }
  }

  #works(target: Target): void {
    if (target.problem === null) return;
    target.problem = null;
    this.#options.log.info({ agent: target.agent, address: addressText(target.address) }, 'agent reached');
  }

  #used(tls: TLSSocket, response: ServerResponse): void {
    const known = this.#dialled.get(keyOf(tls));
    const use = known?.target.sockets.get(known.socket);
    if (known === undefined || use === undefined) return;
    use.requests += 1;
    response.once('close', () => {
      use.requests -= 1;
    });
    if (use.isUsed) return;
    use.isUsed = true;
    if (!use.isProven) return;
    known.target.backoff.reset();
    this.#fill(known.target);
  }

  /** @param socket to be closed; it is no longer a spare. */
  #fail(target: Target, problem: string, socket?: Socket): void {
    if (socket !== undefined) {
      target.sockets.delete(socket);
      socket.destroy();
    }
    if (!this.#isWanted(target)) return;
    if (target.problem !== problem) {
      const line = { agent: target.agent, address: addressText(target.address), reason: problem };
      this.#options.log.warn(line, 'agent not reached');
    }
    target.problem = problem;
    // One pause for all that fail together.
    if (target.pausing !== null) return;
    target.pausing = setTimeout(() => {
      target.pausing = null;
      this.#fill(target);
    }, target.backoff.next());
  }
}

function keyOf({ localAddress, localPort, remoteAddress, remotePort }: Socket): string {
  return `${localAddress} ${localPort} ${remoteAddress} ${remotePort}`;
}

export function addressText({ host, port }: ListenAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
