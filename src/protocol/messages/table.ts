/**
 * All messages of an enrolled agent, by the name of their method. Code that does the same to each message
 * (the routes, the client, the checks, counts and retries) goes through this table, and needs no change when
 * a row is added.
 */
import { JOURNAL_MESSAGES } from './journal-messages.js';
import type { Call, MethodOf, PortOf, Stream } from './message.js';
import { ORDER_MESSAGES } from './order-messages.js';
import { POINT_MESSAGES } from './point-messages.js';
import { SESSION_MESSAGES } from './session-messages.js';

export const MESSAGES = { ...SESSION_MESSAGES, ...POINT_MESSAGES, ...ORDER_MESSAGES, ...JOURNAL_MESSAGES };

export type MessageName = keyof typeof MESSAGES;
/** A port with all messages. */
export type MessagePort = PortOf<typeof MESSAGES>;

export const MESSAGE_NAMES = Object.keys(MESSAGES) as MessageName[];

/** The part of a port that is messages. */
export type MessagesOf<Port> = Pick<Port, keyof Port & MessageName>;

/** What is done with a row and the method that belongs to it, whichever it is. */
export interface Visitor<CallResult, StreamResult> {
  call<Args extends unknown[], Answer>(
    message: Call<Args, Answer>,
    method: (...args: Args) => Promise<Answer>,
  ): CallResult;
  stream<Args extends unknown[], Event>(
    message: Stream<Args, Event>,
    method: (...args: Args) => AsyncIterable<Event>,
  ): StreamResult;
}

/** Makes a method out of a row. */
export interface Maker {
  call<Args extends unknown[], Answer>(message: Call<Args, Answer>): (...args: Args) => Promise<Answer>;
  stream<Args extends unknown[], Event>(
    message: Stream<Args, Event>,
  ): (...args: Args) => AsyncIterable<Event>;
}

/** Makes a method out of another one of the same row. */
export interface Decorator {
  call<Args extends unknown[], Answer>(
    message: Call<Args, Answer>,
    method: (...args: Args) => Promise<Answer>,
  ): (...args: Args) => Promise<Answer>;
  stream<Args extends unknown[], Event>(
    message: Stream<Args, Event>,
    method: (...args: Args) => AsyncIterable<Event>,
  ): (...args: Args) => AsyncIterable<Event>;
}

// The type checker can't follow that the row of a name and the method of that name have the same types. They
// have, since the type of a port is made from the rows. So all casts are in these three functions; what they
// call is checked for any types.

type AnyCall = Call<unknown[], unknown>;
type AnyStream = Stream<unknown[], unknown>;

export function visit<CallResult, StreamResult>(
  port: Partial<MessagePort>,
  name: MessageName,
  visitor: Visitor<CallResult, StreamResult>,
): CallResult | StreamResult {
  const message = MESSAGES[name];
  const method = (...args: unknown[]) => (port[name] as (...args: unknown[]) => unknown)(...args);
  return message.kind === 'call'
    ? visitor.call(message as unknown as AnyCall, method as MethodOf<AnyCall>)
    : visitor.stream(message as unknown as AnyStream, method as MethodOf<AnyStream>);
}

/** A port with all messages. */
export function makePort(maker: Maker): MessagePort {
  const methods = MESSAGE_NAMES.map((name) => {
    const message = MESSAGES[name];
    const method =
      message.kind === 'call'
        ? maker.call(message as unknown as AnyCall)
        : maker.stream(message as unknown as AnyStream);
    return [name, method];
  });
  return Object.fromEntries(methods) as MessagePort;
}

/** The same messages as the port has, each decorated. */
export function decorate<Port extends Partial<MessagePort>>(
  port: Port,
  decorator: Decorator,
): MessagesOf<Port> {
  const methods = MESSAGE_NAMES.flatMap((name) =>
    name in port ? [[name, visit<unknown, unknown>(port, name, decorator)]] : [],
  );
  return Object.fromEntries(methods) as MessagesOf<Port>;
}
