/**
 * A port whose messages are sent again until they are answered (src/domain/base/retry.ts): all of them may be
 * repeated as they are.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { type RetryPolicy, retry } from '../domain/base/retry.js';
import { decorate, type MessagePort, type MessagesOf } from './messages/table.js';

/** On this machine's clock. */
export const RETRY_DEFAULT: RetryPolicy = {
  patienceMs: 5 * 60_000,
  pauseMs: 250,
  pauseMaxMs: 15_000,
  now: () => performance.now(),
  sleep: async (ms) => {
    await pause(ms);
  },
  random: Math.random,
};

/** Streams are passed through: events that were handed on can't be taken back. */
export function retryingPort<Port extends Partial<MessagePort>>(
  port: Port,
  policy: RetryPolicy,
): MessagesOf<Port> {
  return decorate(port, {
    call:
      (_message, method) =>
      (...args) =>
        retry(policy, () => method(...args)),
    stream: (_message, method) => method,
  });
}
