/** Cancelling: waits end at once; work that has begun runs to its end. */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { isTemporary } from '../../domain/base/retry.js';
import type { MessagePort, MessagesOf } from '../../protocol/messages/table.js';
import { RETRY_DEFAULT, retryingPort } from '../../protocol/retry.js';

function cancelled(): StillpointError {
  return new StillpointError('cancelled', { thing: 'the command', reason: 'it was cancelled' });
}

export function throwIfCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw cancelled();
}

/**
 * Settles as the promise does, or rejects as soon as the signal is aborted; the work itself is left to end.
 */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(cancelled());
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/**
 * The receiver for questions that belong to no session: asked again while the link is down, until the signal.
 */
export function retrying<Port extends Partial<MessagePort>>(
  receiver: Port,
  signal: AbortSignal,
): MessagesOf<Port> {
  return retryingPort(receiver, {
    ...RETRY_DEFAULT,
    passes: isTemporary,
    sleep: (durationMs) => unlessAborted(signal, sleep(durationMs)),
  });
}
