/**
 * Counts the bytes that go over a port, in both directions (src/protocol/messages/body-bytes.ts): of each
 * attempt, and of answers that arrived.
 */
import { answerBytes, lineBytes, requestBytes } from '../messages/body-bytes.js';
import { decorate, type MessagePort, type MessagesOf } from '../messages/table.js';

export class BodyCounter {
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** The port, with all that goes over it counted. */
  count<Port extends Partial<MessagePort>>(port: Port): MessagesOf<Port> {
    const add = (bytes: number) => {
      this.#bytes += bytes;
    };
    return decorate(port, {
      call:
        (message, method) =>
        async (...args) => {
          add(requestBytes(message, args));
          const answer = await method(...args);
          add(answerBytes(message, answer));
          return answer;
        },
      stream: (message, method) =>
        async function* (...args) {
          add(requestBytes(message, args));
          for await (const event of method(...args)) {
            add(lineBytes(event));
            yield event;
          }
        },
    });
  }
}
