/**
 * Tells a link's meter how long bulky messages take. It counts only the large body of each; the other is not
 * worth counting.
 */
import type { LinkMeter } from '../../domain/session/link-meter.js';
import { answerBytes, requestBytes } from '../messages/body-bytes.js';
import { decorate, type MessagePort } from '../messages/table.js';

export function measured(port: MessagePort, meter: LinkMeter): MessagePort {
  return decorate(port, {
    call: (message, method) => {
      const { bulk } = message;
      if (bulk === undefined) return method;
      return async (...args) => {
        const end = meter.start();
        try {
          const answer = await method(...args);
          end(bulk === 'request' ? requestBytes(message, args) : answerBytes(message, answer));
          return answer;
        } catch (error) {
          end(null);
          throw error;
        }
      };
    },
    stream: (_message, method) => method,
  });
}
