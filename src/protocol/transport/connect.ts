/**
 * Where a client's connections come from when it does not make them itself: one that a receiver opened works
 * as well as one that the client opened, since HTTP and TLS do not care which side called.
 */
import type { Agent } from 'node:https';
import type { TLSSocket } from 'node:tls';

/**
 * A connection on which both sides are proven, for the caller alone.
 * @throws StillpointError `unreachable` if there is none in time
 */
export type Connect = () => Promise<TLSSocket>;

type OnConnection = (error: Error | null, socket?: TLSSocket) => void;

/** Has the HTTP agent take its connections from there, and make none. */
export function useConnections(agent: Agent, connect: Connect): void {
  const createConnection = (_options: unknown, done: OnConnection): void => {
    connect().then(
      (socket) => done(null, socket),
      (error: Error) => done(error),
    );
  };
  Object.assign(agent, { createConnection });
}
