/** Requests over connections that the receiver opened; and what strangers get who open one. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { DIALLED_SPARE, LISTENER_UNPROVEN_MAX } from '../../../src/domain/base/limits.js';
import { createAuthority, createServerCertificate } from '../../../src/protocol/certificates/certificates.js';
import { callerOrigin, type Enrolment } from '../../../src/protocol/certificates/enrolment.js';
import { type ReceiverClient, receiverClient } from '../../../src/protocol/client.js';
import { enrollOver } from '../../../src/protocol/enroll.js';
import { type Prove, provenAs, ReceiverListener } from '../../../src/protocol/transport/listener.js';
import type { ReceiverAddress } from '../../../src/protocol/transport/transport.js';
import { writeAddress } from '../../../src/receiver/orders/remote-settings.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { makeTlsReceiver, type TlsReceiver } from '../../helpers/worlds/tls-receiver.js';

interface World {
  readonly receiver: TlsReceiver;
  readonly listener: ReceiverListener;
  readonly refusals: string[];
  dial(agent: string, port?: number | null): Promise<void>;
}

function addressOf({ receiverId, authority, key, certificate }: Enrolment): ReceiverAddress {
  return { url: callerOrigin(receiverId), receiverId, authority, credentials: { key, certificate } };
}

const nobody: Prove = () => Promise.reject(new Error('nobody is expected'));

async function makeWorld(t: ExecutionContext, takeTimeoutMs = 15_000): Promise<World> {
  const receiver = await makeTlsReceiver(t, { openStore: async () => new MemoryStore() });
  const refusals: string[] = [];
  const listener = await ReceiverListener.listen({
    host: '127.0.0.1',
    port: 0,
    ...{ prove: nobody, takeTimeoutMs },
    onRefused: (_address, error) => refusals.push(error.message),
  });
  t.teardown(() => listener.close());
  return {
    ...{ receiver, listener, refusals },
    dial: async (agent, port = listener.port) => {
      await writeAddress(receiver.dir, agent, port === null ? null : { host: '127.0.0.1', port });
      await receiver.server.remote.reload();
    },
  };
}

function clientOf(
  t: ExecutionContext,
  { listener }: World,
  enrolment: Enrolment,
  connections = 4,
): ReceiverClient {
  const client = receiverClient(addressOf(enrolment), { connections, connect: listener.connect });
  t.teardown(() => client.close());
  return client;
}

async function until(t: ExecutionContext, what: string, holds: () => boolean): Promise<void> {
  for (const endMs = Date.now() + 20_000; !holds(); await sleep(10)) {
    if (Date.now() > endMs) t.fail(`never: ${what}`);
    if (Date.now() > endMs) return;
  }
}

test('requests go over what the receiver has opened, as many at once as there are', async (t) => {
  const world = await makeWorld(t);
  const enrolment = await world.receiver.enroll('host');
  world.listener.proveWith(provenAs(addressOf(enrolment)));
  await world.dial('host');
  const client = clientOf(t, world, enrolment, 12);
  const answers = await Promise.all(Array.from({ length: 40 }, () => client.info()));
  t.true(answers.every(({ agent }) => agent === 'host'));
  const { remote } = world.receiver.server;
  const [view] = await remote.agents();
  t.like(view, { agent: 'host', address: `127.0.0.1:${world.listener.port}`, problem: null });
});

test('an agent enrols over the connection that the receiver opened', async (t) => {
  const world = await makeWorld(t);
  const { signal } = new AbortController();
  const enrolling = enrollOver(world.listener, await world.receiver.invite('host'), { signal });
  await world.dial('host');
  const enrolment = await enrolling;
  t.is(enrolment.agent, 'host');
  world.listener.proveWith(provenAs(addressOf(enrolment)));
  t.is((await clientOf(t, world, enrolment).info()).agent, 'host');
});

test('with a code of another receiver it enrols with nobody, and sends nothing', async (t) => {
  const world = await makeWorld(t, 200);
  const other = await makeTlsReceiver(t, { openStore: async () => new MemoryStore() });
  const stop = new AbortController();
  const enrolling = enrollOver(world.listener, await other.invite('host'), { signal: stop.signal });
  await world.dial('host');
  await until(t, 'a refusal', () => world.refusals.length > 0);
  t.regex(world.refusals[0] ?? '', /not the receiver that made this code/);
  stop.abort();
  await t.throwsAsync(enrolling, { code: 'unreachable' });
  t.deepEqual(world.receiver.refusals, []);
  t.is(world.receiver.log.filter(({ msg }) => msg === 'agent enrolled').length, 0);
});

test('the receiver calls again when the agent was started anew, and stops when it is told to', async (t) => {
  const world = await makeWorld(t);
  const enrolment = await world.receiver.enroll('host');
  await world.dial('host', 1);
  await until(t, 'a problem', () => world.receiver.log.some(({ msg }) => msg === 'agent not reached'));
  world.listener.proveWith(provenAs(addressOf(enrolment)));
  await world.dial('host');
  t.is((await clientOf(t, world, enrolment).info()).agent, 'host');
  // All that waited are closed, as by a restart.
  world.listener.proveWith(provenAs(addressOf(enrolment)));
  t.is((await clientOf(t, world, enrolment).info()).agent, 'host');
  await world.dial('host', null);
  world.listener.proveWith(provenAs(addressOf(enrolment)));
  const late = receiverClient(addressOf(enrolment), { connect: world.listener.connect });
  await t.throwsAsync(late.info(), { code: 'unreachable' });
  await late.close();
});

test('at a dialled address where another agent answers, the receiver hangs up', async (t) => {
  const world = await makeWorld(t);
  const enrolment = await world.receiver.enroll('other');
  await world.receiver.enroll('host');
  world.listener.proveWith(provenAs(addressOf(enrolment)));
  await world.dial('host');
  await until(t, 'a problem', () =>
    world.receiver.log.some(({ reason }) => /another agent.*other/.test(reason ?? '')),
  );
  const [host] = await world.receiver.server.remote.agents();
  t.regex(host?.problem ?? '', /another agent answers there, other/);
});

test('where a stranger listens, the receiver says so and tries again later', async (t) => {
  const world = await makeWorld(t);
  let count = 0;
  const stranger = createServer((socket) => {
    count += 1;
    socket.on('error', () => undefined).end('220 mail.example.net\r\n');
  }).listen(0, '127.0.0.1');
  await once(stranger, 'listening');
  t.teardown(() => stranger.close());
  await world.receiver.enroll('host');
  const startMs = performance.now();
  await world.dial('host', (stranger.address() as AddressInfo).port);
  await until(t, 'a problem', () => world.receiver.log.some(({ msg }) => msg === 'agent not reached'));
  await sleep(500);
  // At most these at once, then pauses of 1, 2, 4 s and so on, each shortened by a quarter at most.
  const rounds = 1 + Math.log2(1 + (performance.now() - startMs) / 750);
  t.true(count <= DIALLED_SPARE * rounds, `${count} connections`);
});

test('a stranger who asks something over each connection is not dialled again at once, for ever', async (t) => {
  const world = await makeWorld(t);
  let count = 0;
  const stranger = createServer((socket) => {
    count += 1;
    const secured = connectTls({ socket, rejectUnauthorized: false }, () =>
      secured.write(
        'POST /v1/info HTTP/1.1\r\nhost: x\r\nstillpoint-protocol: 1\r\ncontent-length: 0\r\n\r\n',
      ),
    );
    secured.on('error', () => undefined).once('data', () => secured.destroy());
  }).listen(0, '127.0.0.1');
  await once(stranger, 'listening');
  t.teardown(() => stranger.close());
  await world.receiver.enroll('host');
  const startMs = performance.now();
  await world.dial('host', (stranger.address() as AddressInfo).port);
  await until(t, 'a problem', () => world.receiver.log.some(({ msg }) => msg === 'agent not reached'));
  await sleep(500);
  const rounds = 1 + Math.log2(1 + (performance.now() - startMs) / 750);
  t.true(count <= DIALLED_SPARE * rounds, `${count} connections`);
});

test('a stranger who calls learns nothing: the agent’s certificate is not sent to who is not its receiver', async (t) => {
  const world = await makeWorld(t);
  const enrolment = await world.receiver.enroll('host');
  world.listener.proveWith(provenAs(addressOf(enrolment)));
  // With the right id in its certificate, and an authority of its own.
  const authority = await createAuthority(enrolment.receiverId, new Date());
  const { key, certificate } = await createServerCertificate(authority, enrolment.receiverId, new Date());
  let shown = 0;
  const stranger = createTlsServer(
    { key, cert: certificate, requestCert: true, rejectUnauthorized: false },
    (socket) => {
      if (socket.getPeerX509Certificate() !== undefined) shown += 1;
    },
  );
  stranger.on('tlsClientError', () => undefined);
  const caller = connect(world.listener.port, '127.0.0.1');
  await once(caller, 'connect');
  stranger.emit('connection', caller);
  await until(t, 'a refusal', () => world.refusals.length > 0);
  t.is(shown, 0);
  // The same with the true authority: then it is shown.
  await world.dial('host');
  t.is((await clientOf(t, world, enrolment).info()).agent, 'host');
});

test('silent strangers are bounded in number, and the receiver gets through', async (t) => {
  const world = await makeWorld(t);
  const enrolment = await world.receiver.enroll('host');
  world.listener.proveWith(provenAs(addressOf(enrolment)));
  const strangers: Socket[] = [];
  let closed = 0;
  for (let i = 0; i < LISTENER_UNPROVEN_MAX + 20; i += 1) {
    const socket = connect(world.listener.port, '127.0.0.1');
    socket
      .on('error', () => undefined)
      .on('close', () => (closed += 1))
      .resume();
    strangers.push(socket);
    await once(socket, 'connect');
  }
  t.teardown(() => {
    for (const socket of strangers) socket.destroy();
  });
  await until(t, 'the oldest closed', () => closed >= 20);
  t.is(closed, 20);
  await world.dial('host');
  t.is((await clientOf(t, world, enrolment).info()).agent, 'host');
});

test('nobody has called: an error that says what to do', async (t) => {
  const world = await makeWorld(t, 200);
  const enrolment = await world.receiver.enroll('host');
  const error = await t.throwsAsync(clientOf(t, world, enrolment).info());
  t.true(isStillpointError(error, 'unreachable'));
  t.regex(error?.message ?? '', /opened no connection to this machine.*receiver dial/);
});
