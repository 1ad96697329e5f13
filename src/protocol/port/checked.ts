/**
 * The edge of a receiver in the same process: everything that an agent passes in is checked as if it had come
 * over HTTP.
 */
import { decorate, type MessagePort } from '../messages/table.js';

/** @param handlers believe what they are handed. */
export function checked(handlers: MessagePort): MessagePort {
  return decorate(handlers, {
    call:
      ({ request }, method) =>
      async (...args) =>
        method(...request.check(args)),
    stream: ({ request }, method) =>
      async function* (...args) {
        yield* method(...request.check(args));
      },
  });
}
