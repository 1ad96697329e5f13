/** The books of connections, with sockets that only say what is asked of them. */
import { EventEmitter } from 'node:events';
import type { Server } from 'node:https';
import test from 'ava';
import { type ConnectionLimits, Connections } from '../../../src/receiver/access/connections.js';
import { networkOf } from '../../../src/receiver/access/network.js';

class FakeSocket extends EventEmitter {
  destroyed = false;
  readonly localAddress = '::1';
  readonly localPort = 8440;

  constructor(
    readonly remoteAddress: string | undefined,
    readonly remotePort: number | undefined,
  ) {
    super();
  }

  destroy(): void {
    this.destroyed = true;
    this.emit('close');
  }
}

const LIMITS: ConnectionLimits = {
  connectionsMax: 10,
  addressUnprovenMax: 3,
  unprovenMax: 4,
  unprovenMs: 60_000,
  agentMax: 5,
};

function world(limits: Partial<ConnectionLimits> = {}) {
  const server = new EventEmitter();
  const agents = new Map<FakeSocket, string>();
  const connections = new Connections(
    (socket) => {
      const agent = agents.get(socket as unknown as FakeSocket);
      if (agent === undefined) throw new Error('a stranger');
      return agent;
    },
    { ...LIMITS, ...limits },
  );
  connections.watch(server as unknown as Server);
  const accept = (address: string | undefined, port: number | undefined) => {
    const socket = new FakeSocket(address, port);
    server.emit('connection', socket);
    return socket;
  };
  const secure = (agent: string, address: string, port: number) => {
    const tls = new FakeSocket(address, port);
    agents.set(tls, agent);
    server.emit('secureConnection', tls);
    return tls;
  };
  return { connections, accept, secure };
}

test('a socket whose other side is gone already takes no place', (t) => {
  const { connections, accept } = world();
  for (let i = 0; i < 20; i += 1) t.true(accept(undefined, undefined).destroyed);
  t.is(connections.unprovenCount, 0);
});

test('connections of one network and port are told from each other', (t) => {
  const { connections, accept, secure } = world();
  const sockets = ['2001:db8::1', '2001:db8::2'].map((address) => accept(address, 5000));
  t.is(connections.unprovenCount, 2);
  secure('web', '2001:db8::2', 5000);
  t.is(connections.unprovenCount, 1);
  sockets[1]?.destroy();
  t.is(connections.unprovenCount, 1);
  sockets[0]?.destroy();
  t.is(connections.unprovenCount, 0);
});

test('the same port of the same address again is another connection', (t) => {
  const { connections, accept } = world();
  const first = accept('192.0.2.1', 5000);
  const second = accept('192.0.2.1', 5000);
  first.destroy();
  t.is(connections.unprovenCount, 1);
  second.destroy();
  t.is(connections.unprovenCount, 0);
});

test('the oldest gives way, of the network that has most, and no count is left', (t) => {
  const { connections, accept } = world();
  const ofOne = [1, 2, 3, 4].map((host) => accept(`2001:db8::${host}`, 5000));
  t.deepEqual(
    ofOne.map(({ destroyed }) => destroyed),
    [true, false, false, false],
  );
  const others = [accept('192.0.2.1', 1), accept('192.0.2.2', 1)];
  t.deepEqual(
    ofOne.map(({ destroyed }) => destroyed),
    [true, true, false, false],
  );
  for (const socket of [...ofOne, ...others]) socket.destroy();
  t.is(connections.unprovenCount, 0);
});

test('agents leave places to strangers and to each other', (t) => {
  const { connections, secure } = world();
  const taken = [1, 2, 3, 4, 5, 6].map((port) => secure('greedy', '192.0.2.1', port));
  t.true(taken[5]?.destroyed, 'beyond what one agent may have');
  secure('web', '192.0.2.2', 1);
  t.is(connections.count('greedy'), 5);
  secure('db', '192.0.2.3', 1);
  t.is(connections.count('greedy'), 4);
  t.deepEqual([connections.count('web'), connections.count('db')], [1, 1]);
  for (const socket of taken) socket.destroy();
  t.is(connections.count('greedy'), 0);
});

test('an IPv6 network of 64 bits is one address', (t) => {
  t.is(networkOf('2001:db8::1'), networkOf('2001:db8:0:0:ffff::2'));
  t.not(networkOf('2001:db8:0:1::1'), networkOf('2001:db8:0:2::1'));
  t.is(networkOf('192.0.2.1'), '192.0.2.1');
  t.is(networkOf('::ffff:192.0.2.1'), '::ffff:192.0.2.1');
});
