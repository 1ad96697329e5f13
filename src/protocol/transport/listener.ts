/**
 * An agent that waits to be called, for networks where only the receiver can open connections. On a
 * connection that it accepted, it is the TLS client and sends the requests, as on one that it made.
 *
 * | a connection is | until                                        | then                               |
 * |-----------------|----------------------------------------------|------------------------------------|
 * | unproven        | TLS has proven the other side                | ready; refused, late or beyond the |
 * |                 |                                              | bound: closed                      |
 * | ready           | a request needs it, or the other side closes | the request's; gone                |
 *
 * A stranger is told nothing: it gets a ClientHello, and the agent's certificate is sent only after the
 * receiver's has been checked. A stranger can cost at most a bounded number of handshakes; the oldest
 * unproven connection gives way to a new one.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { StillpointError } from '../../domain/base/errors.js';
import { LISTENER_READY_MAX, LISTENER_UNPROVEN_MAX } from '../../domain/base/limits.js';
import { type ReceiverAddress, securedFor } from './transport.js';

const PROOF_TIMEOUT_MS = 15_000;
const TAKE_TIMEOUT_MS = 15_000;
const KEEP_ALIVE_MS = 30_000;

/** Makes a connection one on which the other side is proven. Rejects where it is not. */
export type Prove = (socket: Socket) => Promise<TLSSocket>;

export interface ListenerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly prove: Prove;
  readonly onRefused: (address: string, error: Error) => void;
  /** For a connection, when one is needed and there is none. */
  readonly takeTimeoutMs?: number;
}

/** For connections that the receiver of the enrolment shall have opened. */
export function provenAs(address: ReceiverAddress): Prove {
  const secured = securedFor(address);
  return (socket) => handshake(connectTls({ socket, ...secured }));
}

/** The socket when it is secure as asked for. It is destroyed if it does not become so in time. */
export function handshake(socket: TLSSocket): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const limit = setTimeout(
      () => socket.destroy(Object.assign(new Error('too slow'), { code: 'ETIMEDOUT' })),
      PROOF_TIMEOUT_MS,
    );
    socket.once('secureConnect', () => {
      clearTimeout(limit);
      resolve(socket);
    });
    socket.on('error', reject);
    socket.once('close', () => {
      clearTimeout(limit);
      reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' }));
    });
  });
}

export class ReceiverListener {
  readonly #server: Server;
  readonly #options: ListenerOptions;
  #prove: Prove;
  readonly #unproven = new Set<Socket>();
  readonly #ready: TLSSocket[] = [];
  readonly #waiting = new Set<(socket: TLSSocket) => void>();
  readonly #all = new Set<Socket>();

  private constructor(options: ListenerOptions) {
    this.#options = options;
    this.#prove = options.prove;
    this.#server = createServer(
      { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS },
      (s) => this.#accept(s),
    );
  }

  /** @throws StillpointError `config` */
  static async listen(options: ListenerOptions): Promise<ReceiverListener> {
    const { host, port } = options;
    const listener = new ReceiverListener(options);
    await new Promise<void>((resolve, reject) => {
      listener.#server.once('error', (error: NodeJS.ErrnoException) => {
        reject(
          new StillpointError('config', {
            thing: `listen address ${host}:${port}`,
            reason: `listening on it failed (${error.code ?? error.message})`,
            remedy: 'Stop what listens there, or name another address of this machine with --listen.',
            cause: error,
          }),
        );
      });
      listener.#server.listen({ host, port }, resolve);
    });
    return listener;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** From now on others are believed. Connections that wait are closed. */
  proveWith(prove: Prove): void {
    this.#prove = prove;
    for (const socket of [...this.#unproven, ...this.#ready]) socket.destroy();
    this.#ready.length = 0;
  }

  /** A ready connection, for the caller alone. @throws StillpointError `unreachable` */
  readonly connect = (): Promise<TLSSocket> => {
    const socket = this.#ready.pop();
    if (socket !== undefined) return Promise.resolve(handedOver(socket));
    return new Promise((resolve, reject) => {
      const take = (taken: TLSSocket) => {
        clearTimeout(limit);
        resolve(handedOver(taken));
      };
      const limit = setTimeout(() => {
        this.#waiting.delete(take);
        reject(
          new StillpointError('unreachable', {
            thing: 'receiver',
            reason: 'it has opened no connection to this machine',
            remedy: 'Run "stillpoint receiver dial AGENT HOST:PORT" there, with an address of this machine.',
            permanent: false,
          }),
        );
      }, this.#options.takeTimeoutMs ?? TAKE_TIMEOUT_MS);
      this.#waiting.add(take);
    });
  };

  /** Closes all connections, those in use too. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#all) socket.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined);
    this.#all.add(socket);
    socket.once('close', () => {
      this.#all.delete(socket);
      this.#unproven.delete(socket);
    });
    this.#unproven.add(socket);
    const [oldest] = this.#unproven;
    if (this.#unproven.size > LISTENER_UNPROVEN_MAX) oldest?.destroy();
    const address = socket.remoteAddress ?? 'unknown';
    const prove = this.#prove;
    prove(socket).then(
      (proven) => {
        this.#unproven.delete(socket);
        if (prove === this.#prove) this.#keep(proven);
        else proven.destroy();
      },
      (error: Error) => {
        socket.destroy();
        this.#options.onRefused(address, error);
      },
    );
  }

  #keep(socket: TLSSocket): void {
    const [take] = this.#waiting;
    if (take !== undefined) {
      this.#waiting.delete(take);
      take(socket);
      return;
    }
    if (this.#ready.length >= LISTENER_READY_MAX) {
      socket.destroy();
      return;
    }
    this.#ready.push(socket);
    socket.once('close', () => {
      const index = this.#ready.indexOf(socket);
      if (index >= 0) this.#ready.splice(index, 1);
    });
    // Read, so that its end is noticed; nothing is to come before a request.
    socket.on('data', endTalk).resume();
  }
}

function endTalk(this: TLSSocket): void {
  this.destroy();
}

function handedOver(socket: TLSSocket): TLSSocket {
  return socket.off('data', endTalk);
}
