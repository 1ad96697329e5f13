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
 * agents; and no agent takes the places of the others.
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
  /** By address; the oldest first. */
  readonly #unproven = new Map<string, Map<string, Socket>>();
  #unprovenCount = 0;
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

  /** Whatever the agent is doing over them ends. */
  cut(agent: string): void {
    for (const socket of this.#agents.get(agent) ?? []) socket.destroy();
  }

  #accepted(socket: Socket): void {
    const address = networkOf(socket.remoteAddress ?? 'unknown');
    const key = keyOf(socket);
    const ofAddress = this.#unproven.get(address) ?? new Map<string, Socket>();
    this.#unproven.set(address, ofAddress);
    ofAddress.set(key, socket);
    this.#unprovenCount += 1;
    const late = setTimeout(() => this.#dropIfUnproven(address, key), this.#limits.unprovenMs).unref();
    socket.once('close', () => {
      clearTimeout(late);
      this.#settled(address, key);
    });
    if (ofAddress.size > this.#limits.addressUnprovenMax) this.#dropOldest(ofAddress, address);
    if (this.#unprovenCount > this.#limits.unprovenMax) this.#dropOfMost();
  }

  #secured(socket: TLSSocket): void {
    let agent: string;
    try {
      agent = this.#agentOf(socket);
    } catch {
      // It is told why, if it asks; and it may enrol.
      return;
    }
    this.#settled(networkOf(socket.remoteAddress ?? 'unknown'), keyOf(socket));
    const sockets = this.#agents.get(agent) ?? new Set<TLSSocket>();
    if (sockets.size >= this.#limits.agentMax) return void socket.destroy();
    this.#agents.set(agent, sockets);
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      if (sockets.size === 0 && this.#agents.get(agent) === sockets) this.#agents.delete(agent);
    });
  }

  #settled(address: string, key: string): void {
    const ofAddress = this.#unproven.get(address);
    if (ofAddress?.delete(key) !== true) return;
    this.#unprovenCount -= 1;
    if (ofAddress.size === 0) this.#unproven.delete(address);
  }

  #dropIfUnproven(address: string, key: string): void {
    this.#unproven.get(address)?.get(key)?.destroy();
    this.#settled(address, key);
  }

  #dropOldest(ofAddress: Map<string, Socket>, address: string): void {
    const [oldest] = ofAddress.keys();
    if (oldest !== undefined) this.#dropIfUnproven(address, oldest);
  }

  #dropOfMost(): void {
    let most: [string, Map<string, Socket>] | null = null;
    for (const entry of this.#unproven) if (entry[1].size > (most?.[1].size ?? 0)) most = entry;
    if (most !== null) this.#dropOldest(most[1], most[0]);
  }
}

/** One machine has all of an IPv6 network of 64 bits. */
function networkOf(address: string): string {
  if (!address.includes(':') || address.startsWith('::ffff:')) return address;
  const [front = '', back] = address.split('::');
  const groups = front.split(':');
  const behind = back === undefined || back === '' ? [] : back.split(':');
  const zeros = back === undefined ? 0 : Math.max(0, 8 - groups.length - behind.length);
  return [...groups, ...Array(zeros).fill('0'), ...behind].slice(0, 4).join(':');
}

/** The TLS socket over a connection has the same. */
function keyOf({ remotePort, localAddress, localPort }: Socket): string {
  return `${remotePort} ${localAddress} ${localPort}`;
}
