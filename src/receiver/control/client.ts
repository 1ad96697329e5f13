/** The commands' end of a receiver's control socket. */
import { connect } from 'node:net';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { splitLines } from '../../domain/base/lines.js';
import { whyNotConnected } from '../../domain/base/system-errors.js';
import { decodeError } from '../../protocol/messages/error-body.js';
import { CONTROL_LINE_BYTES_MAX, CONTROL_VERSION, type ControlWish, parseReply } from './messages.js';
import { controlPath } from './server.js';

/** No receiver serves the directory, or none that takes commands: whoever owns its store may do the work. */
export class NotServed extends StillpointError {}

/**
 * Asks the receiver that serves the directory. An abort of the signal ends the wish there.
 * @throws the receiver's error; NotServed, with the code `unreachable`; StillpointError `connection-lost`,
 * `cancelled`
 */
export async function askReceiver(
  dir: string,
  wish: ControlWish,
  options: { readonly signal: AbortSignal; readonly onEvent?: (event: unknown) => void },
): Promise<unknown> {
  const { signal, onEvent } = options;
  const socket = connect({ path: socketOf(dir) });
  const lost = (reason: string) =>
    new StillpointError('connection-lost', {
      thing: `receiver in ${dir}`,
      reason,
      remedy: 'See its log. A backup that an agent has begun continues by itself.',
      permanent: false,
    });
  const stop = () => socket.destroy();
  signal.addEventListener('abort', stop, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('error', (cause) => reject(notServed(dir, cause)));
      socket.once('close', () => reject(lost('the connection was closed')));
    });
    socket.write(`${JSON.stringify({ v: CONTROL_VERSION, ...wish })}\n`);
    const refuse = (reason: string): never => {
      throw lost(reason);
    };
    for await (const line of splitLines(socket, CONTROL_LINE_BYTES_MAX, refuse)) {
      const reply = parseReply(line);
      if ('error' in reply) throw decodeError(reply.error);
      if ('result' in reply) return reply.result;
      onEvent?.(reply.event);
    }
    throw lost('it has ended');
  } catch (error) {
    if (signal.aborted) {
      throw new StillpointError('cancelled', { thing: 'the command', reason: 'it was cancelled' });
    }
    throw error instanceof StillpointError ? error : lost((error as Error).message);
  } finally {
    signal.removeEventListener('abort', stop);
    socket.destroy();
  }
}

/** A path that is too long for a socket has no receiver that takes commands. */
function socketOf(dir: string): string {
  try {
    return controlPath(dir);
  } catch (error) {
    if (!isStillpointError(error, 'config')) throw error;
    const { thing, reason, remedy = 'Use a shorter path.' } = error;
    throw new NotServed('unreachable', { thing, reason, remedy, permanent: false });
  }
}

function notServed(dir: string, cause: Error): NotServed {
  return new NotServed('unreachable', {
    thing: `receiver in ${dir}`,
    reason: whyNotConnected(cause, 'none serves there'),
    remedy: `Start it with "stillpoint receiver serve ${dir}".`,
    permanent: false,
    cause,
  });
}
