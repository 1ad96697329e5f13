/** The commands' end of the agent's control socket. */
import { request } from 'node:http';
import { z } from 'zod';
import { StillpointError } from '../../domain/base/errors.js';
import { splitLines } from '../../domain/base/lines.js';
import { whyNotConnected } from '../../domain/base/system-errors.js';
import { decodeError, errorBodySchema } from '../../protocol/messages/error-body.js';
import { CONTROL_PREFIX } from './messages.js';

const LINE_BYTES_MAX = 4 * 1024 * 1024;

const answer = z.union([z.object({ error: errorBodySchema }), z.unknown()]);

export interface AgentQuestion {
  readonly method: 'GET' | 'POST';
  /** Below the version: `status`. */
  readonly path: string;
  readonly body?: object;
  readonly signal: AbortSignal;
  /** Each line of an answer that has several; the last one is the result. */
  readonly onLine?: (line: unknown) => void;
}

/**
 * @returns the last line.
 * @throws the agent's error; StillpointError `unreachable` if no agent runs, `connection-lost`, `cancelled`
 */
export async function askAgent(socketPath: string, question: AgentQuestion): Promise<unknown> {
  const { signal, onLine } = question;
  try {
    const response = await send(socketPath, question);
    let last: unknown = null;
    const refuse = (reason: string): never => {
      throw lost(socketPath, reason);
    };
    for await (const line of splitLines(response, LINE_BYTES_MAX, refuse)) {
      last = parseLine(line);
      const known = answer.parse(last);
      const isError = typeof known === 'object' && known !== null && 'error' in known;
      if (isError) {
        const body = errorBodySchema.safeParse(known.error);
        if (body.success) throw decodeError(body.data);
      }
      onLine?.(last);
    }
    return last;
  } catch (error) {
    if (signal.aborted)
      throw new StillpointError('cancelled', { thing: 'the command', reason: 'it was cancelled' });
    throw error instanceof StillpointError ? error : lost(socketPath, (error as Error).message);
  }
}

function send(
  socketPath: string,
  { method, path, body, signal }: AgentQuestion,
): Promise<AsyncIterable<Buffer>> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const headers =
      text === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const asked = request(
      { socketPath, method, path: `${CONTROL_PREFIX}/${path}`, headers, signal },
      resolve,
    );
    asked.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        cause.code === 'ENOENT' || cause.code === 'ECONNREFUSED' || cause.code === 'EACCES'
          ? absent(cause)
          : cause,
      ),
    );
    asked.end(text);
  });
}

function parseLine(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString('utf8'));
  } catch {
    throw new StillpointError('bad-message', { thing: "agent's answer", reason: 'it is not JSON' });
  }
}

function absent(cause: Error): StillpointError {
  return new StillpointError('unreachable', {
    thing: 'agent of this machine',
    reason: whyNotConnected(cause, 'it does not run'),
    remedy: 'Start it with "stillpoint agent run", or as a service.',
    permanent: false,
    cause,
  });
}

function lost(socketPath: string, reason: string): StillpointError {
  return new StillpointError('connection-lost', {
    thing: socketPath,
    reason: `the connection to the agent broke (${reason})`,
    remedy: 'See its log.',
    permanent: false,
  });
}
