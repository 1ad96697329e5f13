/** One message over HTTP, as its row says: the agent's side. Answers are checked where they enter, here. */
import type { ComingAnswer } from './messages/answer-forms.js';
import type { Call, Stream } from './messages/message.js';
import { decodeLines } from './messages/ndjson.js';
import { type RequestContent, requestBody } from './messages/request-forms.js';
import {
  BINARY_TYPE,
  HEADER_AGENT_TIME,
  HEADER_SEQUENCE,
  HEADER_SESSION,
  ROUTE_PREFIX,
} from './schemas/messages.js';
import type { Transport, TransportRequest } from './transport/transport.js';

const ANSWER_TIMEOUT_MS = 5 * 60_000;

export class Exchange {
  readonly #transport: Transport;
  readonly #now: (() => number) | null;

  /** @param now the agent's clock, ms since 1970; null: the sender is not an agent yet. */
  constructor(transport: Transport, now: (() => number) | null) {
    this.#transport = transport;
    this.#now = now;
  }

  call<Args extends unknown[], Answer>(message: Call<Args, Answer>, args: NoInfer<Args>): Promise<Answer> {
    const { path, answer, answerTimeoutMs } = message;
    const content = message.request.encode(...args);
    const coming = this.#send(path, content, answerTimeoutMs?.(args));
    return answer.read(coming, `answer to ${path}`, args);
  }

  stream<Args extends unknown[], Event>(
    message: Stream<Args, Event>,
    args: NoInfer<Args>,
  ): AsyncIterable<Event> {
    const { path, request, what, event } = message;
    return decodeLines(this.#send(path, request.encode(...args)).chunks(), what, event);
  }

  /** Nothing goes before the answer is asked for. */
  #send(path: string, content: RequestContent, answerTimeoutMs = ANSWER_TIMEOUT_MS): ComingAnswer {
    const body = requestBody(content);
    const request: TransportRequest = {
      path: ROUTE_PREFIX + path,
      headers: this.#headers(content, body),
      ...{ body, answerTimeoutMs, signal: content.signal },
    };
    return {
      bytes: (bytesMax) => this.#transport.bytes(request, bytesMax),
      chunks: () => this.#transport.stream(request),
    };
  }

  /** The control header: session, number and agent's time with every message. */
  #headers({ sessionId, sequence, json }: RequestContent, body: Buffer | null): Record<string, string> {
    return {
      ...(this.#now === null ? {} : { [HEADER_AGENT_TIME]: String(this.#now()) }),
      ...(sessionId === undefined ? {} : { [HEADER_SESSION]: sessionId }),
      ...(sequence === undefined ? {} : { [HEADER_SEQUENCE]: String(sequence) }),
      ...(body === null ? {} : { 'content-type': json === undefined ? BINARY_TYPE : 'application/json' }),
    };
  }
}
