/** The implementations of ReceiverPort that the conformance suite runs on, over real stores. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { callerOrigin, type Enrolment } from '../../../src/protocol/certificates/enrolment.js';
import { receiverClient } from '../../../src/protocol/client.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { provenAs, ReceiverListener } from '../../../src/protocol/transport/listener.js';
import { initReceiver } from '../../../src/receiver/access/identity.js';
import { writeAddress } from '../../../src/receiver/orders/remote-settings.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { MakeWorld } from '../../conformance/receiver.js';
import { TlsReceiver } from './tls-receiver.js';

/** In the same process, without network. */
export const embeddedWorld: MakeWorld = async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'receiver-test-'));
  await createStore(dir);
  let store = await openStore(dir);
  let service = await ReceiverService.open(store);
  t.teardown(async () => {
    await service.close();
    await store.close();
    await rm(dir, { recursive: true });
  });
  return {
    dir,
    portFor: async (agent) => agentReceiver(service, agent),
    orders: () => service.orders,
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
  const dir = await mkdtemp(join(tmpdir(), 'receiver-test-'));
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const receiver = new TlsReceiver(dir, { openStore: (path) => openStore(path) });
  await receiver.start();
  const ports = new Map<string, ReceiverPort>();
  const listeners: ReceiverListener[] = [];
  t.teardown(async () => {
    await Promise.all([...ports.values()].map((port) => port.close()));
    await receiver.closeAll();
    await Promise.all(listeners.map((listener) => listener.close()));
    await rm(dir, { recursive: true });
  });
  return {
    dir,
    portFor: async (agent) => {
      const known = ports.get(agent);
      if (known !== undefined) return known;
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
      ports.set(agent, port);
      return port;
    },
    orders: () => receiver.server.orders,
    restart: async () => {
      await receiver.stop();
      await receiver.start();
    },
  };
};

/** Over HTTP and TLS on the loopback, each agent enrolled with a code. */
export const httpWorld: MakeWorld = async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'receiver-test-'));
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const receiver = new TlsReceiver(dir, { openStore: (path) => openStore(path) });
  await receiver.start();
  t.teardown(async () => {
    await receiver.closeAll();
    await rm(dir, { recursive: true });
  });
  const enrolments = new Map<string, Enrolment>();
  const ports = new Map<string, ReceiverPort>();
  return {
    dir,
    portFor: async (agent) => {
      const enrolment = enrolments.get(agent) ?? (await receiver.enroll(agent));
      enrolments.set(agent, enrolment);
      const port = ports.get(agent) ?? receiver.client({ ...enrolment, url: receiver.url });
      ports.set(agent, port);
      return port;
    },
    orders: () => receiver.server.orders,
    restart: async () => {
      await receiver.stop();
      ports.clear();
      await receiver.start();
    },
  };
};
