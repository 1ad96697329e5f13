/**
 * The control socket of a running receiver: `DIR/receiver/control.sock`, for its owner only. A request lasts
 * as long as its connection.
 */
import { chmod, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { StillpointError } from '../../domain/base/errors.js';
import { splitLines } from '../../domain/base/lines.js';
import type { VerifyEvent } from '../../domain/session/messages.js';
import { parseRateLimit } from '../../domain/session/rate-limit.js';
import { encodeError, toStillpointError } from '../../protocol/messages/error-body.js';
import type { CollectReport } from '../../store/port/store.js';
import { receiverDirectory } from '../access/identity.js';
import type { QuotaUse } from '../access/quota.js';
import type { Groups } from '../groups/groups.js';
import type { Remote } from '../orders/remote.js';
import type { RetentionService } from '../retention/service.js';
import type { Scrubbing } from '../upkeep/scrubbing.js';
import { performGroup } from './groups.js';
import { CONTROL_LINE_BYTES_MAX, type ControlRequest, parseRequest, type ScrubWish } from './messages.js';

const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 10_000;

/** Of sockaddr_un.sun_path, without the byte that ends it (unix(7)). */
const SOCKET_PATH_BYTES_MAX = 107;

/** @throws StillpointError `config` where the kernel takes no socket of so long a path */
export function controlPath(dir: string): string {
  const path = join(receiverDirectory(dir), 'control.sock');
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return path;
  throw new StillpointError('config', {
    thing: path,
    reason: `it has more than ${SOCKET_PATH_BYTES_MAX} bytes, the most that the kernel allows for a socket`,
    remedy: "Move the receiver's directory to a shorter path, or name it by a shorter link.",
  });
}

/** What commands do to agents; each is in the audit log. */
export interface AgentCommands {
  revoke(agent: string, reason: string | null): Promise<{ readonly revokedAt: string }>;
  rename(agent: string, to: string): Promise<{ readonly points: number }>;
  remove(agent: string, keepPoints: boolean): Promise<{ readonly points: number }>;
  use(agent: string): Promise<QuotaUse>;
}

export interface ControlServer {
  close(): Promise<void>;
}

/** Which part of the receiver does what commands wish. */
export interface ControlDuties {
  readonly agents: AgentCommands;
  readonly remote: Remote;
  readonly groups: Groups;
  readonly retention: RetentionService;
  readonly scrubbing: Scrubbing;
  readonly collect: (dryRun: boolean, signal: AbortSignal) => Promise<CollectReport>;
}

/**
 * The store's lock says that no other receiver serves this directory: a socket that is there
 * was left by one that died.
 */
export async function openControl(dir: string, duties: ControlDuties, log: Logger): Promise<ControlServer> {
  const path = controlPath(dir);
  const connections = new Map<Socket, Promise<void>>();
  const server: Server = createServer((socket) => {
    const done = serve(socket, duties, log).finally(() => connections.delete(socket));
    connections.set(socket, done);
  });
  server.maxConnections = CONNECTIONS_MAX;
  await rm(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(path, resolve);
  });
  await chmod(path, 0o600);
  return {
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of connections.keys()) socket.destroySoon();
      await Promise.all(connections.values());
      await closed;
    },
  };
}

/** Never rejects. */
async function serve(socket: Socket, duties: ControlDuties, log: Logger): Promise<void> {
  const gone = new AbortController();
  socket.once('close', () => gone.abort());
  socket.on('error', () => socket.destroy());
  const say = (value: object): void => {
    if (socket.writable) socket.write(`${JSON.stringify(value)}\n`);
  };
  try {
    const request = await requestOf(socket);
    // Read on, so that the end is noticed.
    socket.resume();
    socket.once('end', () => gone.abort());
    say({ result: (await perform(duties, request, gone.signal, (event) => say({ event }))) ?? null });
  } catch (error) {
    const known = toStillpointError(error);
    if (known.code === 'internal') log.error({ err: error }, 'command failed');
    say({ error: encodeError(known).body });
  } finally {
    socket.destroySoon();
  }
}

async function requestOf(socket: Socket): Promise<ControlRequest> {
  const refuse = (reason: string): never => {
    throw new StillpointError('bad-message', { thing: 'message to the receiver', reason });
  };
  socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy());
  const chunks = socket.iterator({ destroyOnReturn: false });
  for await (const line of splitLines(chunks, CONTROL_LINE_BYTES_MAX, refuse)) {
    socket.setTimeout(0);
    return parseRequest(line);
  }
  return refuse('there is none');
}

async function perform(
  { remote, groups, agents, retention, scrubbing, collect }: ControlDuties,
  request: ControlRequest,
  signal: AbortSignal,
  tell: (event: object) => void,
): Promise<unknown> {
  switch (request.op) {
    case 'backup': {
      const { agent, device, full, waitMs } = request;
      return remote.backup({ agent, device, full }, waitMs, signal, ({ state, progress }, hasJoined) =>
        tell({ state, hasJoined, progress }),
      );
    }
    case 'compare': {
      const { agent, device, deep, ship, waitMs } = request;
      const wish = { agent, device, full: false, compare: { deep, ship } };
      return remote.backup(wish, waitMs, signal, ({ state, progress }, hasJoined) =>
        tell({ state, hasJoined, progress }),
      );
    }
    case 'round':
      return remote.round(request, signal, tell);
    case 'group-backup':
    case 'group-cancel':
    case 'group-check':
    case 'groups':
      return performGroup(remote, groups, request, signal, tell);
    case 'agents':
      return remote.agents();
    case 'reload':
      return remote.reload();
    case 'collect':
      return collect(request.dryRun, signal);
    case 'revoke':
      return agents.revoke(request.agent, request.reason);
    case 'rename':
      return agents.rename(request.agent, request.to);
    case 'remove':
      return agents.remove(request.agent, request.keepPoints);
    case 'use':
      return agents.use(request.agent);
    case 'scrub':
      return scrub(scrubbing, request.wish, signal, tell);
    case 'scrub-status':
      return scrubbing.status();
    case 'retention':
      return retention.perform(request.wish, signal, tell);
  }
}

/** @returns the summary */
async function scrub(
  scrubbing: Scrubbing,
  { rate, ...wish }: ScrubWish,
  signal: AbortSignal,
  tell: (event: object) => void,
): Promise<VerifyEvent | null> {
  let last: VerifyEvent | null = null;
  const limit = rate === undefined ? {} : { rate: parseRateLimit(rate) };
  for await (const event of scrubbing.run({ ...wish, ...limit, signal })) {
    if (event.type === 'summary') last = event;
    else tell(event);
  }
  return last;
}
