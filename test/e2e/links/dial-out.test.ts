/** Where only the receiver can open connections: it dials, and all traffic goes over what it has opened. */
import { spawn } from 'node:child_process';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT_NO_ACCESS, EXIT_OK } from '../../../src/cli/output/exit-codes.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { makeStampedImage, writeStamped } from '../../helpers/bytes/stamped-blocks.js';
import { difference } from '../../helpers/disks/images.js';
import { agentsOf, connected, endAgent, logged, order, startAgent } from '../../helpers/machines/agent.js';
import { connectsWithin, linkedNamespaces } from '../../helpers/machines/namespaces.js';
import { freePort, invite, killReceiver, type Receiver, serve } from '../../helpers/machines/receiver.js';
import {
  COMMAND,
  lastResult,
  makeMachine,
  restore,
  run,
  runExpecting,
} from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';

const BLOCK = 64 * KiB;
const PORT = 8441;

testWith(
  ['root', ...programs('ip')],
  'an agent that can’t connect to anybody enrols, is backed up, and outlives restarts of either side',
  async (t) => {
    const net = linkedNamespaces(t);
    // It listens on its own loopback only: from the agent's namespace there is no way to it.
    const home = await makeMachine(t, 'receiver');
    const receiver: Receiver = {
      ...{ machine: home, store: join(home.directory, 'store'), url: 'https://127.0.0.1:8440' },
      ...{ process: null, log: '' },
    };
    await runExpecting(t, home, EXIT_OK, 'receiver', 'init', receiver.store);
    const serveThere = () =>
      serve(receiver, (args) => {
        const [program = '', ...rest] = [...net.near, process.execPath, COMMAND, ...args];
        return spawn(program, rest, { env: home.env, stdio: ['ignore', 'pipe', 'pipe'] });
      });
    await serveThere();
    t.teardown(() => killReceiver(receiver));

    const machine = await makeMachine(t, 'agent');
    const source = join(machine.directory, 'source');
    const blockIndexes = Array.from({ length: 600 }, (_, index) => index);
    await makeStampedImage(source, { sizeBytes: 64 * MiB, blockSize: BLOCK, seed: 1, blockIndexes });
    await runExpecting(t, machine, EXIT_OK, 'agent', 'add', source, '--name', 'disk');
    const listen = ['listen', '--listen', `${net.farAddress}:${PORT}`];
    const first = startAgent(t, machine, [...listen, '--enroll', await invite(t, receiver, 'web1')], net.far);
    await logged(first, 'listening for the receiver');
    await order(t, receiver, EXIT_OK, 'dial', 'web1', `${net.farAddress}:${PORT}`);
    await connected(t, receiver, 'web1');

    const backedUp = async (sequence: number): Promise<void> => {
      const { stdout } = await order(t, receiver, EXIT_OK, 'backup', 'web1', 'disk', '--json');
      t.like(lastResult<{ point: Point }>(stdout).point, { agent: 'web1', device: 'disk', sequence });
    };
    await backedUp(1);
    t.is(await endAgent(first, 'SIGTERM'), EXIT_OK);
    const refused = await order(t, receiver, EXIT_NO_ACCESS, 'backup', 'web1', 'disk', '--wait', '0.5');
    t.regex(
      refused.stderr,
      /it is dialled at 198\.51\.100\.2:8441: no connection can be made \(ECONNREFUSED\)/,
    );

    const second = startAgent(t, machine, listen, net.far);
    const file = await open(source, 'r+');
    await writeStamped(file, { seed: 1, blockIndex: 7, generation: 2 }, BLOCK);
    await file.close();
    // It waits until the agent is dialled again.
    await backedUp(2);
    await killReceiver(receiver);
    await serveThere();
    await backedUp(3);
    await endAgent(second, 'SIGKILL');
    startAgent(t, machine, listen, net.far);
    await connected(t, receiver, 'web1');
    await backedUp(4);

    t.is(connectsWithin(net.far), 0, 'the agent has opened no connection');
    t.true(connectsWithin(net.near) > 0);
    await killReceiver(receiver);
    const target = join(home.directory, 'restored');
    await restore(t, home, receiver.store, 'disk@latest', target, '--agent', 'web1');
    t.is(difference(target, source), null);
  },
);

testWith([], 'another receiver at the port of an agent gets nothing, and says why', async (t) => {
  const machine = await makeMachine(t, 'agent');
  const homes = await Promise.all(['own', 'other'].map((name) => makeMachine(t, name)));
  const receivers: Receiver[] = [];
  for (const home of homes) {
    const store = join(home.directory, 'store');
    await runExpecting(t, home, EXIT_OK, 'receiver', 'init', store);
    const receiver: Receiver = {
      machine: home,
      store,
      url: `https://127.0.0.1:${await freePort()}`,
      process: null,
      log: '',
    };
    t.teardown(() => killReceiver(receiver));
    await serve(receiver);
    receivers.push(receiver);
  }
  const [own, other] = receivers;
  if (own === undefined || other === undefined) return t.fail();
  const code = await invite(t, own, 'web1');
  await runExpecting(t, machine, EXIT_OK, 'enroll', own.url, code);
  const address = `127.0.0.1:${await freePort()}`;
  const agent = startAgent(t, machine, ['listen', '--listen', address]);
  await logged(agent, 'listening for the receiver');
  await order(t, other, EXIT_OK, 'dial', 'web1', address);
  await logged(agent, 'connection refused');
  await logged(other, 'agent not reached');
  const [seen] = await agentsOf(t, other);
  t.like(seen, { agent: 'web1', isConnected: false, devices: [] });
  t.regex(seen?.problem ?? '', /is not an agent, or not one of this receiver/);
  t.false(other.log.includes('enrolled'));
  // Its own receiver is served meanwhile.
  await order(t, own, EXIT_OK, 'dial', 'web1', address);
  await connected(t, own, 'web1');
  await sleep(100);
  t.is((await run(machine, 'agent', 'listen', '--listen', 'everywhere')).code, 2);
});
