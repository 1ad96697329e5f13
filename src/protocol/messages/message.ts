/**
 * A row of the table of messages (session-messages.ts, point-messages.ts, order-messages.ts): a message's
 * path, and the forms of its request and its answer. The method of its port, the receiver's route and the
 * client follow from it.
 *
 * Every message is a POST whose body is bounded. A call is answered once; a stream is answered with events,
 * one to a line, as they come.
 */
import type { z } from 'zod';
import type { AnswerForm } from './answer-forms.js';
import type { RequestForm } from './request-forms.js';

interface Message<Args extends unknown[]> {
  /** Below ROUTE_PREFIX. */
  readonly path: string;
  readonly request: RequestForm<Args>;
}

/** Its method: `(...args: Args) => Promise<Answer>`. */
export interface Call<Args extends unknown[], Answer> extends Message<Args> {
  readonly kind: 'call';
  readonly answer: AnswerForm<NoInfer<Args>, Answer>;
  /** How long an agent waits for the answer to begin; by default ANSWER_TIMEOUT_MS. */
  readonly answerTimeoutMs?: (args: NoInfer<Args>) => number;
  /** What of it is so large that the speed of the link shows in the time that it takes. */
  readonly bulk?: 'request' | 'answer';
  /**
   * It is answered when something happens, or after a time: it holds no share of the
   * memory of bodies meanwhile.
   */
  readonly waits?: boolean;
}

/** Its method: `(...args: Args) => AsyncIterable<Event>`. */
export interface Stream<Args extends unknown[], Event> extends Message<Args> {
  readonly kind: 'stream';
  /** Names the answer in an error. */
  readonly what: string;
  readonly event: z.ZodType<Event>;
}

export type MethodOf<Row> =
  Row extends Call<infer Args, infer Answer>
    ? (...args: Args) => Promise<Answer>
    : Row extends Stream<infer Args, infer Event>
      ? (...args: Args) => AsyncIterable<Event>
      : never;

/** The port that a table of messages makes. */
export type PortOf<Messages> = { [Name in keyof Messages]: MethodOf<Messages[Name]> };

export function call<Args extends unknown[], Answer>(
  row: Omit<Call<Args, Answer>, 'kind'>,
): Call<Args, Answer> {
  return { kind: 'call', ...row };
}

export function stream<Args extends unknown[], Event>(
  row: Omit<Stream<Args, Event>, 'kind'>,
): Stream<Args, Event> {
  return { kind: 'stream', ...row };
}
