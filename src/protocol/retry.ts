/**
 * Repeats messages whose errors are not permanent, with growing pauses, until a deadline: all messages are idempotent.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { isStillpointError } from '../domain/base/errors.js';
import { decorate, type MessagePort, type MessagesOf } from './messages/table.js';

export interface RetryPolicy {
  /** From the first attempt of a message: no other begins after it. */
  readonly deadlineMs: number;
  /** Before the second attempt; doubles up to pauseMaxMs. Each pause is drawn from half to all of it. */
  readonly pauseMs: number;
  readonly pauseMaxMs: number;
  /** Monotonic, ms. */
  readonly now: () => number;
  readonly sleep: (ms: number) => Promise<void>;
  /** From 0 up to 1. */
  readonly random: () => number;
}

export const RETRY_DEFAULT: RetryPolicy = {
  deadlineMs: 5 * 60_000,
  pauseMs: 250,
  pauseMaxMs: 15_000,
  now: () => performance.now(),
  sleep: async (ms) => {
    await pause(ms);
  },
  random: Math.random,
};

export async function retry<T>(policy: RetryPolicy, call: () => Promise<T>): Promise<T> {
  const endMs = policy.now() + policy.deadlineMs;
  for (let pauseMs = policy.pauseMs; ; pauseMs = Math.min(2 * pauseMs, policy.pauseMaxMs)) {
    try {
      return await call();
    } catch (error) {
      const drawnMs = pauseMs * (0.5 + policy.random() / 2);
      if (!isStillpointError(error) || error.permanent || policy.now() + drawnMs > endMs) throw error;
      await policy.sleep(drawnMs);
    }
  }
}

/** The port, each of whose calls is repeated. Streams are not: events that were handed on can't be taken back. */
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
