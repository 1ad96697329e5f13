/** Messages that are sent again while the link is down. */
import { setTimeout as sleep } from 'node:timers/promises';
import { isTemporary } from '../../domain/base/retry.js';
import type { MessagePort, MessagesOf } from '../../protocol/messages/table.js';
import { RETRY_DEFAULT, retryingPort } from '../../protocol/retry.js';
import { unlessAborted } from './cancel.js';

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
