/**
 * The receiver over HTTP: a port made from the table of messages. Retries are a decorator
 * of their own (retry.ts).
 */
import type { LinkMeter } from '../domain/session/link-meter.js';
import type { ReceiverInfo } from '../domain/session/messages.js';
import { Exchange } from './exchange.js';
import { RENEW_MESSAGE } from './messages/enrol-message.js';
import { makePort } from './messages/table.js';
import { measured } from './port/measured.js';
import type { ReceiverPort } from './port/receiver.js';
import type { RenewAnswer, RenewRequest } from './schemas/messages.js';
import type { Connect } from './transport/connect.js';
import type { Pacer } from './transport/pacer.js';
import { type ReceiverAddress, Transport } from './transport/transport.js';

/** As many as batches in flight: none waits for another's answer. */
export const CONNECTIONS_DEFAULT = 4;

export interface ClientOptions {
  readonly connections?: number;
  /** Where connections come from, if they are not to be made to the address. */
  readonly connect?: Connect;
  /** The agent's clock, ms since 1970. */
  readonly now?: () => number;
  /** Is told what bulky messages and connections take. */
  readonly meter?: LinkMeter | undefined;
  readonly pacer?: Pacer | undefined;
}

export interface ReceiverClient extends ReceiverPort {
  /**
   * As `info`, which from then on answers the same: it does not change while a client lives, and a
   * slow round trip is saved.
   */
  greet(): Promise<ReceiverInfo>;
  renew(request: RenewRequest): Promise<RenewAnswer>;
  /** New connections show this certificate; those that are open stay. */
  show(address: ReceiverAddress): void;
}

/** Nothing is connected before the first message. */
export function receiverClient(address: ReceiverAddress, options: ClientOptions = {}): ReceiverClient {
  const { connections = CONNECTIONS_DEFAULT, now = Date.now, connect, meter, pacer } = options;
  const transport = new Transport(address, {
    ...{ connections, connect, pacer },
    onConnected: (connectMs, handshakeMs) => meter?.connected(connectMs, handshakeMs),
  });
  const exchange = new Exchange(transport, now);
  const sending = makePort({
    call:
      (message) =>
      (...args) =>
        exchange.call(message, args),
    stream:
      (message) =>
      (...args) =>
        exchange.stream(message, args),
  });
  const port = meter === undefined ? sending : measured(sending, meter);
  let greeted: ReceiverInfo | null = null;
  const info = async () => greeted ?? (await port.info());
  const greet = async () => {
    greeted = await info();
    return greeted;
  };
  const renew = (request: RenewRequest) => exchange.call(RENEW_MESSAGE, [request]);
  const show = (shown: ReceiverAddress) => transport.show(shown);
  return { ...port, info, greet, renew, show, close: () => transport.close() };
}
