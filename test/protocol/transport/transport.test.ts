/** What the client makes of connections that end: a relay before the receiver resets them. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import type { ReceiverClient } from '../../../src/protocol/client.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { makeTlsReceiver } from '../../helpers/worlds/tls-receiver.js';

interface Relayed {
  readonly client: ReceiverClient;
  readonly store: MemoryStore;
  /** Connections that were made. */
  count: number;
  /** Of a connection that goes on sending: true resets it. */
  resets: (connection: number) => boolean;
  /** All that are there, at once. */
  resetAll(): void;
}

async function relayed(t: ExecutionContext): Promise<Relayed> {
  const store = new MemoryStore();
  const receiver = await makeTlsReceiver(t, { openStore: async () => store });
  const enrolment = await receiver.enroll('host');
  const target = Number(new URL(receiver.url).port);
  const sockets = new Set<Socket>();
  const relay = createServer((near) => {
    relayedTo.count += 1;
    const number = relayedTo.count;
    const far = connect(target, '127.0.0.1');
    for (const socket of [near, far]) {
      sockets.add(socket.on('error', () => undefined));
      socket.on('close', () => sockets.delete(socket));
    }
    near.on('data', (bytes) => {
      if (!relayedTo.resets(number)) far.write(bytes);
      else near.resetAndDestroy();
    });
    near.on('close', () => far.destroy());
    far.pipe(near);
  }).listen(0, '127.0.0.1');
  await once(relay, 'listening');
  t.teardown(() => {
    relay.close();
    for (const socket of sockets) socket.destroy();
  });
  const url = `https://127.0.0.1:${(relay.address() as AddressInfo).port}`;
  const relayedTo: Relayed = {
    client: receiver.client({ ...enrolment, url }, 1),
    store,
    count: 0,
    resets: () => false,
    resetAll: () => {
      for (const socket of sockets) socket.resetAndDestroy();
    },
  };
  return relayedTo;
}

test('a kept connection that was closed meanwhile is replaced: nobody is told', async (t) => {
  const world = await relayed(t);
  await world.client.info();
  await world.client.info();
  t.is(world.count, 1, 'it is kept');
  world.resets = (connection) => connection === 1;
  t.is((await world.client.info()).agent, 'host');
  t.is(world.count, 2);
});

test('a new connection that is closed is an error', async (t) => {
  const world = await relayed(t);
  await world.client.info();
  world.resets = () => true;
  const error = await t.throwsAsync(world.client.info());
  t.true(isStillpointError(error, 'connection-lost'), error?.stack);
  t.is(world.count, 2, 'the kept one, and one more');
});

test('an answer that breaks off is an error, and is not asked for again', async (t) => {
  const world = await relayed(t);
  await world.client.info();
  let asked = 0;
  Object.assign(world.store, {
    verify: async function* () {
      asked += 1;
      for (let doneBytes = 0; ; doneBytes += 1) {
        yield { type: 'progress', doneBytes, totalBytes: 2 ** 40 };
        await new Promise(setImmediate);
      }
    },
  });
  const events = world.client.verify();
  const error = await t.throwsAsync(async () => {
    for await (const _event of events) world.resetAll();
  });
  t.true(isStillpointError(error, 'connection-lost'), error?.stack);
  t.is(asked, 1);
  t.is((await world.client.info()).agent, 'host');
});
