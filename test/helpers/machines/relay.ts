/**
 * A TCP relay between agents and a receiver that counts what agents send, TLS and all, and
 * can cut every connection.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import type { ExecutionContext } from 'ava';

export class Relay {
  readonly #server: Server;
  readonly #targetPort: number;
  readonly #sockets = new Set<Socket>();
  #sentBytes = 0;
  #watch: { readonly atBytes: number; readonly reached: () => void } | null = null;

  private constructor(targetPort: number) {
    this.#targetPort = targetPort;
    this.#server = createServer((client) => this.#relay(client));
  }

  /** To a port of the loopback; closed when the test ends. */
  static async start(t: ExecutionContext, targetPort: number): Promise<Relay> {
    const relay = new Relay(targetPort);
    relay.#server.listen(0, '127.0.0.1');
    await once(relay.#server, 'listening');
    t.teardown(() => {
      relay.cut();
      relay.#server.close();
    });
    return relay;
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** By agents, since `reset`. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  reset(): void {
    this.#sentBytes = 0;
  }

  /** Resolves when agents have sent so much since `reset`. */
  reached(atBytes: number): Promise<void> {
    return new Promise((reached) => {
      this.#watch = { atBytes, reached };
    });
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #relay(client: Socket): void {
    const server = connect(this.#targetPort, '127.0.0.1');
    client.on('data', (chunk: Buffer) => {
      this.#sentBytes += chunk.length;
      if (this.#watch === null || this.#sentBytes < this.#watch.atBytes) return;
      this.#watch.reached();
      this.#watch = null;
    });
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  }
}
