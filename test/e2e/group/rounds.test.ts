/** Rounds with a group over two agents and a device beside it; receiver and agents are in the process. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { orderLoop } from '../../../src/agent/orders/order-loop.js';
import type { ReceiverGroup } from '../../../src/domain/order/receiver-group.js';
import { itemName, type RoundSummary } from '../../../src/domain/order/round.js';
import type { RoundChoice } from '../../../src/domain/order/round-choice.js';
import { measuredLink } from '../../../src/protocol/transport/measured-link.js';
import { writeGroup } from '../../../src/receiver/orders/group-settings.js';
import { readLastRound, writeSchedule } from '../../../src/receiver/orders/remote-settings.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { deviceNamed } from '../../helpers/fakes/device-settings.js';
import { makeTlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const DB: ReceiverGroup = {
  ...{ name: 'db', missing: 'fail' },
  members: [
    { agent: 'a', device: 'data' },
    { agent: 'b', device: 'log' },
  ],
};
const ALL: RoundChoice = { agents: null, groups: null };
const DAY_MS = 86_400_000;

async function makeWorld(t: ExecutionContext) {
  const root = await temporaryDirectory(t, 'rounds');
  const store = join(root, 'store');
  await createStore(store);
  const receiver = await makeTlsReceiver(t, { openStore: () => openStore(store) });
  const log = pino({ level: 'silent' });
  const enrolAgent = async (name: string, devices: readonly string[]) => {
    const directory = join(root, name);
    await mkdir(directory);
    for (const device of devices) await writeFile(join(directory, device), Buffer.alloc(200_000, device));
    const enrolment = await receiver.enroll(name);
    const client = receiver.client(enrolment);
    const start = async () => {
      const stop = new AbortController();
      const ended = orderLoop({
        ...{ stateDirectory: directory, orders: receiver.client(enrolment), ordersMax: 1, log },
        ...{ busy: new Set<string>(), signal: stop.signal, pauseMs: 100, waitMs: 500 },
        listDevices: async () => devices.map((device) => deviceNamed(directory, device)),
        openReceiver: () => ({ ...measuredLink(), receiver: receiver.client(enrolment) }),
      });
      t.teardown(async () => {
        stop.abort();
        await ended;
      });
      while (!receiver.server.orders.presence(name).isConnected) await sleep(20);
    };
    return { client, start };
  };
  const a = await enrolAgent('a', ['data', 'own']);
  const b = await enrolAgent('b', ['log']);
  await a.start();
  const round = (choice: RoundChoice, waitMs = 60_000) => {
    const wish = { ...choice, parallel: 3, waitMs };
    return receiver.server.remote.round(wish, new AbortController().signal, () => undefined);
  };
  return { dir: receiver.dir, server: receiver.server, a, b, round };
}

const shown = ({ items }: RoundSummary) =>
  Object.fromEntries(items.map((item) => [itemName(item), item.point ?? `${item.state}: ${item.reason}`]));

test('a group over two agents, and a device beside it: with both agents, and without one', async (t) => {
  const { dir, server, a, b, round } = await makeWorld(t);
  await writeGroup(dir, DB);
  const away = 'it is not connected';
  const alone = await round(ALL, 300);
  t.deepEqual(shown(alone), {
    ...{ 'group db': `skipped: agent b: ${away}`, b: `skipped: ${away}`, 'a own': 'own@1' },
  });
  t.like(alone, { done: 1, skipped: 2, failed: 0, withWarnings: 0 });
  t.deepEqual(await a.client.points('data'), [], 'not alone, though its group has no point');

  await writeGroup(dir, { ...DB, missing: 'leave-out' });
  const without = await round({ agents: null, groups: ['db'] }, 300);
  t.deepEqual(shown(without), { 'group db': 'db@1' });
  t.like(without, { done: 1, withWarnings: 1 });
  t.like((await a.client.points('data'))[0]?.group, { memberCount: 1, ownCount: 1 });

  await writeGroup(dir, DB);
  await b.start();
  const whole = await round(ALL);
  t.deepEqual(shown(whole), { 'group db': 'db@2', 'a own': 'own@2' });
  t.like(whole, { done: 2, skipped: 0, withWarnings: 0 });
  t.true((whole.items.find(({ group }) => group === 'db')?.wireBytes ?? 0) > 0);
  t.like((await b.client.points('log'))[0]?.group, { memberCount: 2, ownCount: 1 });
  t.is((await a.client.points('data')).length, 2);
  t.deepEqual(shown(await round({ agents: ['a'], groups: null })), { 'a data': 'data@3', 'a own': 'own@3' });

  const wrong = { agents: null, groups: ['db', 'old'] };
  await t.throwsAsync(round(wrong), { code: 'usage', message: /group old: .*Its groups are db/ });
  await writeSchedule(dir, {
    ...{ name: 'often', at: 'every 6h', parallel: 1, waitMs: 0, retries: 0, ...wrong },
    setAt: new Date(Date.now() - DAY_MS).toISOString(),
  });
  await server.remote.reload();
  t.like(await b.client.rounds(), [{ name: 'often' }], 'it is a part of it by its group');
  const last = async () => (await readLastRound(dir, 'often'))?.summary ?? null;
  while ((await last()) === null) await sleep(50);
  t.deepEqual(shown((await last()) as RoundSummary), {
    ...{ 'group db': 'db@3', 'group old': 'skipped: the receiver has no group of this name' },
  });
});
