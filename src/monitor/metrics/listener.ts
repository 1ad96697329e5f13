/** Serves `GET /metrics`: plain HTTP on a listener of its own, for a few clients that must not be slow. */
import type { AddressInfo } from 'node:net';
import fastify from 'fastify';
import { StillpointError } from '../../domain/base/errors.js';

const CONNECTIONS_MAX = 16;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 75_000;
/** From the request until the whole answer is taken. */
const ANSWER_MS = 60_000;
const HEADER_BYTES_MAX = 8 * 1024;

export interface MetricsListener {
  /** `http://HOST:PORT/metrics` */
  readonly url: string;
  close(): Promise<void>;
}

/** @throws StillpointError `config` if the address can't be listened on */
export async function listenForScrapes(
  listen: { readonly host: string; readonly port: number },
  scrape: () => Promise<{ readonly contentType: string; readonly text: string }>,
): Promise<MetricsListener> {
  const app = fastify({
    logger: false,
    forceCloseConnections: true,
    bodyLimit: 1024,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    http: { maxHeaderSize: HEADER_BYTES_MAX, headersTimeout: REQUEST_TIMEOUT_MS },
  });
  app.server.maxConnections = CONNECTIONS_MAX;
  app.addHook('onRequest', async (_request, reply) => {
    const cut = setTimeout(() => reply.raw.destroy(), ANSWER_MS).unref();
    reply.raw.once('close', () => clearTimeout(cut));
  });
  app.get('/metrics', async (_request, reply) => {
    const { contentType, text } = await scrape();
    return reply.header('content-type', contentType).send(text);
  });
  await app.listen(listen).catch((error: NodeJS.ErrnoException) => {
    throw new StillpointError('config', {
      thing: `metrics.listen ${listen.host}:${listen.port}`,
      reason: `listening on it failed (${error.code ?? error.message})`,
      remedy: 'Stop what listens there, or name another address of this machine.',
      cause: error,
    });
  });
  const { port } = app.server.address() as AddressInfo;
  const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
  return { url: `http://${host}:${port}/metrics`, close: () => app.close() };
}
