/** How a command is stopped: SIGINT and SIGTERM become an AbortSignal. */
import { isStillpointError } from '../../domain/base/errors.js';
import { EXIT_SIGNAL } from '../output/exit-codes.js';
import type { Output } from '../output/output.js';

/**
 * The first SIGINT or SIGTERM aborts the signal, so that the work can clean up; the second ends the process
 * on the spot, which every durable step of the system stands.
 */
export async function untilSignal(
  work: (signal: AbortSignal) => Promise<number>,
  output: Output,
): Promise<number> {
  const controller = new AbortController();
  let received: keyof typeof EXIT_SIGNAL | null = null;
  const onSignal = (name: NodeJS.Signals): void => {
    const known = name as keyof typeof EXIT_SIGNAL;
    if (received !== null) process.exit(EXIT_SIGNAL[known]);
    received = known;
    controller.abort();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  try {
    return await work(controller.signal);
  } catch (error) {
    if (received === null) throw error;
    if (!isStillpointError(error, 'cancelled')) output.error(error);
    else output.warn('stopped on request');
    return EXIT_SIGNAL[received];
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
