/**
 * A TCP relay that counts: wire bytes as the network sees them, TLS and HTTP included, without
 * the parties' word for it.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

export class CountingProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #targetPort = 0;
  /** Bytes in both directions since the last `reset`. */
  #bytes = 0;

  private constructor() {
    this.#server = createServer((client) => this.#relay(client));
  }

  static async listen(port: number): Promise<CountingProxy> {
    const proxy = new CountingProxy();
    proxy.#server.listen(port, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  set targetPort(port: number) {
    this.#targetPort = port;
  }

  /** @returns the bytes so far, and begins anew. */
  take(): number {
    const bytes = this.#bytes;
    this.#bytes = 0;
    return bytes;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #relay(client: Socket): void {
    const server = connect(this.#targetPort, '127.0.0.1');
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(from);
      from.on('data', (chunk: Buffer) => {
        this.#bytes += chunk.length;
      });
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  }
}
