/** Cancelling: waits end at once; work that has begun runs to its end. */
import { StillpointError } from '../../domain/base/errors.js';

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
