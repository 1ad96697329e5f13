/** What an agent makes of what a receiver answers, one that breaks the rules included. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { BackupReceiver } from '../../../src/agent/backup/options.js';
import type { CompareReceiver } from '../../../src/agent/compare/compare.js';
import { orderLoop } from '../../../src/agent/orders/order-loop.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type {
  AgentOrder,
  AwaitOrderRequest,
  OrderReport,
  OrderStanding,
} from '../../../src/domain/order/order.js';
import type { OrderPort } from '../../../src/protocol/port/order.js';
import type { Closable } from '../../../src/protocol/port/receiver.js';
import { measuredLink } from '../../../src/protocol/transport/measured-link.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { deviceNamed } from '../../helpers/fakes/device-settings.js';
import { fakePort } from '../../helpers/fakes/port.js';

const PLAN = { device: 'a', schedule: 'daily', nextAt: null, failures: 0, isPaused: false };

interface World {
  readonly questions: AwaitOrderRequest[];
  readonly reports: (readonly [orderId: string, report: OrderReport])[];
  /** Answers in turn; then null. */
  readonly answers: (AgentOrder | null | Error)[];
  standing: OrderStanding;
  readonly rounds: string[];
  /** Receivers that were opened for backups. */
  opened: number;
  /** What a backup's first message does. */
  info: () => Promise<never>;
  start(ordersMax?: number): { stop(): Promise<void> };
  until(what: string, holds: () => boolean): Promise<void>;
}

async function makeWorld(t: ExecutionContext, names: readonly string[]): Promise<World> {
  const stateDirectory = await tempDir(t);
  for (const name of names) {
    await writeFile(join(stateDirectory, name), 'x');
  }
  const world: World = {
    ...{ questions: [], rounds: [], reports: [], answers: [], standing: 'open', opened: 0 },
    info: () => Promise.reject(new StillpointError('not-enrolled', { thing: 'test', reason: 'it is one' })),
    start: (ordersMax = 4) => {
      const stop = new AbortController();
      const orders: OrderPort = {
        awaitOrder: async (question, signal) => {
          world.questions.push(question);
          const answer = world.answers.shift() ?? null;
          if (answer instanceof Error) throw answer;
          if (answer === null) await sleep(15, undefined, { signal }).catch(() => undefined);
          return answer;
        },
        rounds: async () => [{ name: 'default', schedule: 'daily', nextAt: null }],
        groupStep: () => Promise.reject(new Error('no group was ordered')),
        reportOrder: async (orderId, report) => {
          world.reports.push([orderId, report]);
          return world.standing;
        },
      };
      const end = orderLoop({
        listDevices: async () => names.map((name) => deviceNamed(stateDirectory, name)),
        ...{ stateDirectory, ordersMax, busy: new Set<string>(), log: pino({ level: 'silent' }) },
        orders,
        openReceiver: () => {
          world.opened += 1;
          const receiver = fakePort<BackupReceiver & CompareReceiver & Closable>({
            info: () => world.info(),
            close: async () => undefined,
          });
          return { ...measuredLink(), receiver };
        },
        plans: () => [PLAN],
        onRounds: (rounds) => world.rounds.push(...rounds.map(({ name }) => name)),
        ...{ signal: stop.signal, waitMs: 10, pauseMs: 10 },
      });
      return {
        stop: async () => {
          stop.abort();
          await end;
        },
      };
    },
    until: async (what, holds) => {
      for (const endMs = Date.now() + 10_000; !holds(); await sleep(5)) {
        if (Date.now() > endMs) throw new Error(`never: ${what}`);
      }
    },
  };
  return world;
}

const order = (number: number, device: string): AgentOrder => ({
  orderId: String(number).padStart(32, '0'),
  device,
  full: false,
});
const ends = ({ reports }: World) =>
  reports.flatMap(([id, report]) =>
    report.state === 'running' ? [] : [[Number(id), report.state === 'failed' ? report.error.code : 'done']],
  );

test('only names that are offered are backed up', async (t) => {
  const world = await makeWorld(t, ['disk']);
  world.answers.push(order(1, 'tape'), order(2, '../../etc/passwd'), order(3, 'disk'));
  const loop = world.start();
  await world.until('three ends', () => ends(world).length === 3);
  await loop.stop();
  t.deepEqual(ends(world).sort(), [
    [1, 'device-unknown'],
    [2, 'device-unknown'],
    [3, 'not-enrolled'],
  ]);
  t.is(world.opened, 1);
  t.deepEqual(world.questions[0]?.devices, ['disk']);
});

test('an order that comes twice is run once, and is named while it runs', async (t) => {
  const world = await makeWorld(t, ['disk']);
  let finish: () => void = () => undefined;
  world.info = () =>
    new Promise((_, reject) => {
      finish = () => reject(new StillpointError('not-enrolled', { thing: 'test', reason: 'it is one' }));
    });
  world.answers.push(order(1, 'disk'), order(1, 'disk'));
  const loop = world.start();
  await world.until('a question that names it', () => (world.questions.at(-1)?.running.length ?? 0) === 1);
  await world.until('a backup', () => world.opened === 1);
  finish();
  await world.until('the end', () => ends(world).length === 1);
  await world.until('a question that does not', () => world.questions.at(-1)?.running.length === 0);
  await loop.stop();
  t.is(world.opened, 1);
  t.deepEqual(ends(world), [[1, 'not-enrolled']]);
});

test('a cancelled order is not begun, or is stopped', async (t) => {
  const world = await makeWorld(t, ['disk', 'other']);
  world.standing = 'cancelled';
  world.answers.push(order(1, 'disk'));
  const loop = world.start();
  await world.until('the end', () => ends(world).length === 1);
  t.deepEqual(ends(world), [[1, 'cancelled']]);
  t.is(world.opened, 0);
  world.standing = 'open';
  world.info = () => new Promise(() => undefined);
  await loop.stop();
});

test('a receiver that fails is asked again, whatever the reason', async (t) => {
  const world = await makeWorld(t, ['disk']);
  const refused = new StillpointError('unauthorized', { thing: 'certificate', reason: 'it was replaced' });
  world.answers.push(new Error('broken'), refused, refused, order(1, 'disk'));
  const loop = world.start();
  await world.until('the end', () => ends(world).length === 1);
  await loop.stop();
  t.true(world.questions.length >= 4);
});

test('a question is answered at once until the receiver is known to answer, so that it is soon told', async (t) => {
  const world = await makeWorld(t, ['disk']);
  world.answers.push(null, null, new Error('broken'));
  const loop = world.start();
  await world.until('five questions', () => world.questions.length >= 5);
  await loop.stop();
  t.deepEqual(
    world.questions.slice(0, 5).map(({ waitMs }) => waitMs),
    [0, 10, 10, 0, 10],
  );
});

test('what is offered is told with each question', async (t) => {
  const world = await makeWorld(t, ['a']);
  const loop = world.start();
  await world.until('two questions', () => world.questions.length > 1);
  await loop.stop();
  t.deepEqual(world.questions[0], {
    ...{ devices: ['a'], running: [], ordersMax: 4, canCompare: true, canGroup: true, waitMs: 0 },
    plans: [PLAN],
  });
  t.deepEqual(world.rounds, ['default'], 'asked once, not with each question');
});
