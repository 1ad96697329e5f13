/** The agent's end of its control socket. messages.ts says what is served. */
import { chmod, rm } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import fastify, { type FastifyReply } from 'fastify';
import type { Logger } from 'pino';
import { z } from 'zod';
import { makeDirectory } from '../../config/state-file.js';
import { ERRORS } from '../../domain/base/error-codes.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { failureOf } from '../common/failure.js';
import type { Daemon } from '../daemon/daemon.js';
import type { JobResult } from '../daemon/options.js';
import type { BesideView } from '../daemon/view.js';
import { backupWish, CONTROL_PREFIX, pauseWish, resumeWish } from './messages.js';

export interface AgentControl {
  close(): Promise<void>;
}

const CONNECTIONS_MAX = 64;
const BODY_BYTES_MAX = 64 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;
/** What a client that does not read may make wait in memory; progress beyond it is left out. */
const UNREAD_BYTES_MAX = 256 * 1024;

/** The agent's lock says that no other process serves the state directory: a socket there is left over. */
export async function openAgentControl(
  path: string,
  daemon: Daemon,
  beside: () => BesideView,
  log: Logger,
): Promise<AgentControl> {
  const closing = new AbortController();
  const app = fastify({
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    forceCloseConnections: true,
  });
  app.server.maxConnections = CONNECTIONS_MAX;
  // Each answer is a line, or several.
  app.setReplySerializer((payload) => `${JSON.stringify(payload)}\n`);
  app.setErrorHandler((error, _request, reply) => refuse(reply, error, log));
  app.setNotFoundHandler((request, reply) =>
    refuse(reply, badMessage(`there is no ${request.method} ${request.url.slice(0, 100)}`), log),
  );
  const deviceOf = (params: unknown): string => z.object({ name: z.string() }).parse(params).name;
  const at = (route: string): string => `${CONTROL_PREFIX}/${route}`;

  app.get(at('status'), () => daemon.view(beside()));
  app.post(at('pause'), async ({ body }) => {
    const { name, forMs } = parse(pauseWish, body);
    await daemon.pause(name, forMs);
    return {};
  });
  app.post(at('resume'), async ({ body }) => {
    await daemon.resume(parse(resumeWish, body).name);
    return {};
  });
  app.post(at('reload'), async () => {
    await daemon.reload();
    return {};
  });
  app.post(at('devices/:name/cancel'), async ({ params }) => {
    daemon.cancel(deviceOf(params));
    return {};
  });
  app.post(at('devices/:name/forget'), async ({ params }) => {
    await daemon.forget(deviceOf(params));
    return {};
  });
  app.post(at('devices/:name/backup'), async ({ params, body }, reply) => {
    const { full } = parse(backupWish, body);
    reply.hijack();
    await streamBackup(daemon, deviceOf(params), full, reply.raw, closing.signal);
  });

  await makeDirectory(dirname(path));
  await rm(path, { force: true });
  await app.listen({ path }).catch((error: NodeJS.ErrnoException) => {
    throw new StillpointError('config', {
      thing: path,
      reason: `listening on it failed (${error.code ?? error.message})`,
      remedy: 'Name a state directory with a shorter path, if that is it.',
      cause: error,
    });
  });
  await chmod(path, 0o600);
  return {
    close: async () => {
      closing.abort();
      await app.close();
      await rm(path, { force: true });
    },
  };
}

async function streamBackup(
  daemon: Daemon,
  name: string,
  full: boolean,
  response: ServerResponse,
  closing: AbortSignal,
): Promise<void> {
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  const say = (value: object): void => {
    if (response.writable) response.write(`${JSON.stringify(value)}\n`);
  };
  try {
    const signal = AbortSignal.any([gone.signal, closing]);
    const result = await daemon.backUpNow(name, full, signal, (event, device) => {
      if (event.type === 'progress' && response.writableLength > UNREAD_BYTES_MAX) return;
      say(device === undefined ? { event } : { event, device });
    });
    say({ result: resultOf(result) });
  } catch (error) {
    say({ error: failureOf(error) });
  }
  response.end();
}

/** What `backup` prints of a result. */
function resultOf(result: JobResult): object {
  if ('group' in result) {
    const { group, results, leftOut } = result;
    return {
      group,
      members: results.map(resultOf),
      leftOut: leftOut.map(({ device, error }) => ({ device, ...failureOf(error) })),
    };
  }
  const { point, warnings, wireBytes, base, tracking } = result;
  return { point, warnings, wireBytes, base, tracking };
}

function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw badMessage(z.prettifyError(parsed.error).replace(/\s+/g, ' ').slice(0, 300));
}

function badMessage(reason: string): StillpointError {
  return new StillpointError('bad-message', { thing: 'message to the agent', reason });
}

function refuse(reply: FastifyReply, error: unknown, log: Logger): void {
  const { statusCode } = error as { statusCode?: number };
  const known =
    !isStillpointError(error) && statusCode !== undefined && statusCode < 500
      ? badMessage((error as Error).message)
      : error;
  const failure = failureOf(known);
  if (failure.code === 'internal') log.error({ err: error }, 'a request failed');
  void reply.status(ERRORS[failure.code].httpStatus).send({ error: failure });
}
