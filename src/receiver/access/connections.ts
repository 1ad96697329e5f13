/**
 * The connections of a receiver, and whose they are.
 *
 * | a connection is | from                         | until                                               |
 * |-----------------|------------------------------|-----------------------------------------------------|
 * | unproven        | it is accepted               | TLS shows the certificate of an enrolled agent;     |
 * |                 |                              | after UNPROVEN_MS, or beyond the bounds: closed     |
 * | an agent's      | it has shown its certificate | either side closes it, or the agent is cut off      |
 *
 * So strangers, however many connections they open and whatever they send, take from each other and not from
 * agents. Agents together have all places but those of strangers; beyond that, the agent with most gives one
 * up, so none takes the places of the others.
 */
import type { Server } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import {
  ADDRESS_UNPROVEN_MAX,
  AGENT_CONNECTIONS_MAX,
  RECEIVER_CONNECTIONS_MAX,
  RECEIVER_UNPROVEN_MAX,
  UNPROVEN_MS,
} from '../../domain/base/limits.js';
import { networkOf } from './network.js';

export interface ConnectionLimits {
  /** Of all kinds. */
  readonly connectionsMax: number;
  readonly addressUnprovenMax: number;
  readonly unprovenMax: number;
  readonly unprovenMs: number;
  readonly agentMax: number;
}

const LIMITS: ConnectionLimits = {
  connectionsMax: RECEIVER_CONNECTIONS_MAX,
  addressUnprovenMax: ADDRESS_UNPROVEN_MAX,
  unprovenMax: RECEIVER_UNPROVEN_MAX,
  unprovenMs: UNPROVEN_MS,
  agentMax: AGENT_CONNECTIONS_MAX,
};

export class Connections {
  readonly #agentOf: (socket: TLSSocket) => string;
  readonly #limits: ConnectionLimits;
  /** By network; the oldest first. None is empty. */
  readonly #unproven = new Map<string, Set<Socket>>();
  /** The same, by their ends: the TLS socket over a connection has the same. */
  readonly #byEnds = new Map<string, Socket>();
  /** What ends the state of each unproven connection. */
  readonly #settling = new WeakMap<Socket, () => void>();
  readonly #agents = new Map<string, Set<TLSSocket>>();

  /** @param agentOf throws where it speaks for no agent */
  constructor(agentOf: (socket: TLSSocket) => string, limits: Partial<ConnectionLimits> = {}) {
    this.#agentOf = agentOf;
    this.#limits = { ...LIMITS, ...limits };
  }

  /** Of a server that listens. */
  watch(server: Server): void {
    server.maxConnections = this.#limits.connectionsMax;
    server.on('connection', (socket: Socket) => this.#accepted(socket));
    this.follow(server);
  }

  /** Of a server whose connections this receiver has opened. */
  follow(server: Server): void {
    server.on('secureConnection', (socket: TLSSocket) => this.#secured(socket));
  }

  count(agent: string): number {
    return this.#agents.get(agent)?.size ?? 0;
  }

  get unprovenCount(): number {
    return sizeOf(this.#unproven);
  }

  /** Whatever the agent is doing over them ends. */
  cut(agent: string): void {
    for (const socket of this.#agents.get(agent) ?? []) socket.destroy();
  }

  #accepted(socket: Socket): void {
    const { remoteAddress } = socket;
    // The other side is gone already.
    if (remoteAddress === undefined) return void socket.destroy();
    const network = networkOf(remoteAddress);
    const ends = endsOf(socket);
    const ofNetwork = addTo(this.#unproven, network, socket);
    this.#byEnds.set(ends, socket);
    const late = setTimeout(() => socket.destroy(), this.#limits.unprovenMs).unref();
    socket.once('close', () => this.#settled(socket));
    this.#settling.set(socket, () => {
      clearTimeout(late);
      removeFrom(this.#unproven, network, socket);
      if (this.#byEnds.get(ends) === socket) this.#byEnds.delete(ends);
    });
    if (ofNetwork.size > this.#limits.addressUnprovenMax) this.#drop(ofNetwork);
    if (this.unprovenCount > this.#limits.unprovenMax) this.#drop(largestOf(this.#unproven));
  }

  /** It is no longer unproven: an agent's, or closed. */
  #settled(socket: Socket): void {
    this.#settling.get(socket)?.();
    this.#settling.delete(socket);
  }

  #drop(sockets: ReadonlySet<Socket>): void {
    const [oldest] = sockets;
    if (oldest === undefined) return;
    oldest.destroy();
    this.#settled(oldest);
  }

  #secured(socket: TLSSocket): void {
    let agent: string;
    try {
      agent = this.#agentOf(socket);
    } catch {
      // It is told why, if it asks; and it may enrol.
      return;
    }
    const accepted = this.#byEnds.get(endsOf(socket));
    if (accepted !== undefined) this.#settled(accepted);
    const sockets = addTo(this.#agents, agent, socket);
    socket.once('close', () => removeFrom(this.#agents, agent, socket));
    if (sockets.size > this.#limits.agentMax) return void socket.destroy();
    const { connectionsMax, unprovenMax } = this.#limits;
    if (sizeOf(this.#agents) <= connectionsMax - unprovenMax) return;
    const [...most] = largestOf(this.#agents);
    most.at(-1)?.destroy();
  }
}

function addTo<S>(sets: Map<string, Set<S>>, key: string, value: S): Set<S> {
  const set = sets.get(key) ?? new Set();
  sets.set(key, set.add(value));
  return set;
}

function removeFrom<S>(sets: Map<string, Set<S>>, key: string, value: S): void {
  const set = sets.get(key);
  set?.delete(value);
  if (set?.size === 0) sets.delete(key);
}

function sizeOf(sets: ReadonlyMap<string, ReadonlySet<unknown>>): number {
  let size = 0;
  for (const set of sets.values()) size += set.size;
  return size;
}

function largestOf<S>(sets: ReadonlyMap<string, ReadonlySet<S>>): ReadonlySet<S> {
  let largest: ReadonlySet<S> = new Set();
  for (const set of sets.values()) if (set.size > largest.size) largest = set;
  return largest;
}

function endsOf({ remoteAddress, remotePort, localAddress, localPort }: Socket): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`;
}
