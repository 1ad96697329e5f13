/** The implementations of ReceiverPort that the conformance suite runs on, over real stores. */
import { callerOrigin } from '../../../src/protocol/certificates/enrolment.js';
import { receiverClient } from '../../../src/protocol/client.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { provenAs, ReceiverListener } from '../../../src/protocol/transport/listener.js';
import { initReceiver } from '../../../src/receiver/access/identity.js';
import { writeAddress } from '../../../src/receiver/orders/remote-settings.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { MakeWorld } from '../../conformance/receiver.js';
import { tempDir } from '../disks/temp-dir.js';
import { TlsReceiver } from './tls-receiver.js';

/** An agent is enrolled once, whoever asks meanwhile. */
function oncePerAgent<T>(make: (agent: string) => Promise<T>): (agent: string) => Promise<T> {
  const made = new Map<string, Promise<T>>();
  return (agent) => {
    const one = made.get(agent) ?? make(agent);
    made.set(agent, one);
    return one;
  };
}

/** In the same process, without network. */
export const embeddedWorld: MakeWorld = async (t) => {
  const dir = await tempDir(t);
  await createStore(dir);
  let store = await openStore(dir);
  let service = await ReceiverService.open(store);
  t.teardown(async () => {
    await service.close();
    await store.close();
  });
  return {
    dir,
    portFor: async (agent) => agentReceiver(service, agent),
    orders: () => service.orders,
    runs: () => service.runs,
    restart: async () => {
      await service.close();
      await store.close();
      store = await openStore(dir);
      service = await ReceiverService.open(store);
    },
  };
};

/** Over HTTP and TLS on connections that the receiver opens to each agent. */
export const dialledWorld: MakeWorld = async (t) => {
  const dir = await tempDir(t);
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const receiver = new TlsReceiver(dir, { openStore: (path) => openStore(path) });
  await receiver.start();
  const ports: ReceiverPort[] = [];
  const listeners: ReceiverListener[] = [];
  t.teardown(async () => {
    await Promise.all(ports.map((port) => port.close()));
    await receiver.closeAll();
    await Promise.all(listeners.map((listener) => listener.close()));
  });
  return {
    dir,
    portFor: oncePerAgent(async (agent) => {
      const { receiverId, authority, key, certificate } = await receiver.enroll(agent);
      // A name that never resolves: a connection that is made by the agent fails.
      const address = {
        url: callerOrigin(receiverId),
        receiverId,
        authority,
        credentials: { key, certificate },
      };
      const prove = provenAs(address);
      const listener = await ReceiverListener.listen({
        host: '127.0.0.1',
        port: 0,
        prove,
        onRefused: () => undefined,
      });
      listeners.push(listener);
      await writeAddress(dir, agent, { host: '127.0.0.1', port: listener.port });
      await receiver.server.remote.reload();
      const port = receiverClient(address, { connect: listener.connect });
      ports.push(port);
      return port;
    }),
    orders: () => receiver.server.orders,
    runs: () => receiver.server.runs,
    restart: async () => {
      await receiver.stop();
      await receiver.start();
    },
  };
};

/** Over HTTP and TLS on the loopback, each agent enrolled with a code. */
export const httpWorld: MakeWorld = async (t) => {
  const dir = await tempDir(t);
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const receiver = new TlsReceiver(dir, { openStore: (path) => openStore(path) });
  await receiver.start();
  t.teardown(async () => {
    await receiver.closeAll();
  });
  const enrolled = oncePerAgent((agent) => receiver.enroll(agent));
  const newPorts = () =>
    oncePerAgent(async (agent) => receiver.client({ ...(await enrolled(agent)), url: receiver.url }));
  let portFor = newPorts();
  return {
    dir,
    portFor: (agent) => portFor(agent),
    orders: () => receiver.server.orders,
    runs: () => receiver.server.runs,
    restart: async () => {
      await receiver.stop();
      await receiver.start();
      portFor = newPorts();
    },
  };
};
