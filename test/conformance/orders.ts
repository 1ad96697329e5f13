/** How an agent hears of what its receiver wants: the same on every ReceiverPort. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { OFFERS_MAX, ORDER_WAIT_MS_MAX } from '../../src/domain/base/limits.js';
import type { CompareWish, Comparison } from '../../src/domain/order/comparison.js';
import type { AgentOrder, AwaitOrderRequest, Order, OrderReport } from '../../src/domain/order/order.js';
import type { ReceiverPort } from '../../src/protocol/port/receiver.js';
import type { Tests } from '../helpers/in-turns.js';
import { refused } from '../helpers/refused.js';
import { backUp, blocksOf, type MakeWorld, newSessionId, type ReceiverWorld } from './receiver.js';

const question = (changes: Partial<AwaitOrderRequest> = {}): AwaitOrderRequest => ({
  devices: ['disk'],
  running: [],
  ordersMax: 1,
  waitMs: 10_000,
  ...changes,
});
const RUNNING: OrderReport = {
  state: 'running',
  progress: { phase: 'scan', doneBytes: 1, totalBytes: 2, changedBytes: 3, wireBytes: 4 },
};
const cancelled: OrderReport = {
  state: 'failed',
  error: { code: 'cancelled', thing: 'disk', reason: 'it was cancelled', permanent: true },
};

interface Scene {
  readonly world: ReceiverWorld;
  readonly port: ReceiverPort;
  readonly states: string[];
  place(device?: string, full?: boolean): { leave(): void; readonly hasJoined: boolean };
  last: Order | null;
}

async function setUp(t: ExecutionContext, make: MakeWorld): Promise<Scene> {
  const world = await make(t);
  const port = await world.portFor('host');
  const scene: Scene = {
    ...{ world, port, states: [], last: null },
    place: (device = 'disk', full = false) =>
      world.orders().place({ agent: 'host', device, full }, 60_000, (order) => {
        scene.states.push(order.state);
        scene.last = order;
      }),
  };
  return scene;
}

/** Asks, and resolves when the receiver has heard the question. */
async function ask(
  world: ReceiverWorld,
  port: ReceiverPort,
  changes: Partial<AwaitOrderRequest> = {},
): Promise<{ readonly answer: Promise<AgentOrder | null> }> {
  let end = () => {};
  const hasHeard = new Promise<void>((resolve) => {
    end = world.orders().onPresence(resolve);
  });
  const answer = port.awaitOrder(question(changes));
  await hasHeard;
  end();
  return { answer };
}

const planOf = (device: string) => ({ device, schedule: null, nextAt: null, failures: 0, isPaused: false });

export function ordersConformance(test: Tests, make: MakeWorld): void {
  test('orders: none, and the question ends when it is asked to', async (t) => {
    const { port } = await setUp(t, make);
    t.is(await port.awaitOrder(question({ waitMs: 20 })), null);
  });

  test('orders: from the order to its point, whichever comes first, order or question', async (t) => {
    const scene = await setUp(t, make);
    const { port, world } = scene;
    for (const isFirst of [true, false]) {
      scene.states.length = 0;
      if (isFirst) scene.place('disk', true);
      const answer = port.awaitOrder(question());
      if (!isFirst) {
        while (!world.orders().presence('host').isConnected) await sleep(5);
        scene.place();
      }
      const order = await answer;
      t.like(order, { device: 'disk', full: isFirst });
      const orderId = order?.orderId ?? '';
      t.is(await port.reportOrder(orderId, RUNNING), 'open');
      t.like(scene.last?.progress, { phase: 'scan', wireBytes: 4 });
      const point = await backUp(port, new Map(), blocksOf([1], 1));
      t.is(await port.reportOrder(orderId, { state: 'done', pointId: point.id, warnings: ['w'] }), 'open');
      t.deepEqual(scene.states, ['taken', 'running', 'done']);
      t.deepEqual(scene.last?.point, point);
      t.deepEqual(scene.last?.warnings, ['w']);
      t.is(await port.reportOrder(orderId, RUNNING), 'unknown', 'it has ended');
    }
  });

  test('orders: a comparison is for agents that can, is joined by the same wish, and says what it found', async (t) => {
    const { port, world } = await setUp(t, make);
    const ends: Order[] = [];
    const place = (compare?: CompareWish) =>
      world
        .orders()
        .place({ agent: 'host', device: 'disk', full: false, compare }, 60_000, (order) => ends.push(order));
    const deep = { deep: true, ship: false };
    const older = await ask(world, port);
    t.throws(() => place(deep), { message: /it runs an older version, which does not compare by order/ });
    const { answer } = await ask(world, port, { canCompare: true });
    t.is(await older.answer, null);
    const first = place(deep);
    t.false(first.hasJoined);
    const order = await answer;
    t.like(order, { device: 'disk', full: false, compare: deep });
    t.true(place(deep).hasJoined);
    for (const other of [undefined, { deep: false, ship: false }, { deep: true, ship: true }])
      t.throws(() => place(other), {
        message: /a comparison of it is ordered or running, with --deep, without --ship/,
      });
    const orderId = order?.orderId ?? '';
    const point = await backUp(port, new Map(), blocksOf([1], 1));
    const done = { state: 'done', pointId: point.id, warnings: [] } as const;
    await refused(
      t,
      port.reportOrder(orderId, done),
      'bad-message',
      /does not say what the comparison found/,
    );
    const comparison: Comparison = {
      ranges: [{ byteOffset: 0, byteLength: 4096, what: 'damaged', reason: 'it rots' }],
      ...{ rangeCount: 7, differingBlocks: 6, unreadableBlocks: 0, damagedBlocks: 1 },
      ...{ deviceSizeBytes: 65_536, scannedBytes: 65_536, wireBytes: 99, kind: 'idle', comparedId: point.id },
    };
    t.is(await port.reportOrder(orderId, { ...done, comparison }), 'open');
    t.deepEqual(ends.at(-1)?.comparison, comparison);
    t.deepEqual(ends.at(-1)?.point, point);
    place();
    const backup = await port.awaitOrder(question({ canCompare: true }));
    t.false('compare' in (backup ?? {}), 'a backup looks as it always did');
    t.throws(() => place(deep), { message: /a backup of it is ordered or running/ });
  });

  test('orders: a comparison that waits for an agent fails if an older one comes', async (t) => {
    const { port, world } = await setUp(t, make);
    let last: Order | null = null;
    const wish = { agent: 'host', device: 'disk', full: false, compare: { deep: false, ship: false } };
    world.orders().place(wish, 60_000, (order) => {
      last = order;
    });
    t.is(await port.awaitOrder(question({ waitMs: 50 })), null);
    const { answer } = await ask(world, port);
    for (let tries = 0; last === null && tries < 400; tries += 1) await sleep(25);
    while (last !== null && (last as Order).state === 'taken') await sleep(25);
    t.like(last, { state: 'failed', failure: { code: 'version' } });
    world.orders().place({ agent: 'host', device: 'disk', full: false }, 60_000, () => undefined);
    t.like(await answer, { device: 'disk', full: false });
  });

  test('orders: an answer that was lost is given again, and one of many devices is not given twice', async (t) => {
    const scene = await setUp(t, make);
    const { port } = scene;
    scene.place();
    const first = await port.awaitOrder(question());
    const again = await port.awaitOrder(question());
    t.deepEqual(again, first);
    const running = [{ orderId: first?.orderId ?? '', device: 'disk' }];
    t.is(await port.awaitOrder(question({ running, ordersMax: 2, waitMs: 50 })), null);
  });

  test('orders: the next question ends the one before', async (t) => {
    const { port, place, world } = await setUp(t, make);
    const older = await ask(world, port);
    const newer = await ask(world, port);
    t.is(await older.answer, null);
    place();
    t.like(await newer.answer, { device: 'disk' });
  });

  test('orders: who stops waiting leaves nothing behind', async (t) => {
    const { port, place, world } = await setUp(t, make);
    const gone = new AbortController();
    const asked = port.awaitOrder(question(), gone.signal).catch(() => null);
    while (!world.orders().presence('host').isConnected) await sleep(5);
    gone.abort();
    t.is(await asked, null);
    while (world.orders().presence('host').isConnected) await sleep(5);
    place();
    t.like(await port.awaitOrder(question()), { device: 'disk' });
  });

  test('orders: two wishes are one order; the last who leaves cancels it, and the agent hears of it', async (t) => {
    const scene = await setUp(t, make);
    const { port } = scene;
    const first = scene.place();
    const second = scene.place();
    t.false(first.hasJoined);
    t.true(second.hasJoined);
    t.throws(() => scene.place('disk', true), { code: 'session-busy' });
    const orderId = (await port.awaitOrder(question()))?.orderId ?? '';
    await port.reportOrder(orderId, RUNNING);
    first.leave();
    t.is(await port.reportOrder(orderId, RUNNING), 'open');
    second.leave();
    t.throws(() => scene.place(), { code: 'session-busy' });
    t.is(await port.reportOrder(orderId, RUNNING), 'cancelled');
    await port.reportOrder(orderId, cancelled);
    t.notThrows(() => scene.place());
  });

  test('orders: an agent that does not know of what it ran was started anew, and the order is lost', async (t) => {
    const scene = await setUp(t, make);
    const { port } = scene;
    scene.place();
    const orderId = (await port.awaitOrder(question()))?.orderId ?? '';
    await port.reportOrder(orderId, RUNNING);
    await port.awaitOrder(question({ waitMs: 0 }));
    t.is(scene.last?.state, 'lost');
  });

  test('orders: the device is free for the next order as soon as the end of the last one is reported', async (t) => {
    const scene = await setUp(t, make);
    const { port, world } = scene;
    scene.place();
    const orderId = (await port.awaitOrder(question()))?.orderId ?? '';
    await port.reportOrder(orderId, RUNNING);
    const next = await ask(world, port, { running: [{ orderId, device: 'disk' }] });
    await port.reportOrder(orderId, cancelled);
    t.is(scene.last?.state, 'failed');
    scene.place();
    t.like(await next.answer, { device: 'disk' });
  });

  test('orders: one from before a restart of the receiver holds up the next for no longer than it runs', async (t) => {
    const { port, world, place } = await setUp(t, make);
    const former = 'f'.repeat(32);
    const next = await ask(world, port, { running: [{ orderId: former, device: 'disk' }] });
    place();
    // It is handed out now, if it can be.
    await new Promise((resolve) => setImmediate(resolve));
    t.is(await port.reportOrder(former, cancelled), 'unknown');
    t.like(await next.answer, { device: 'disk' });
  });

  test('orders: another agent learns and changes nothing', async (t) => {
    const scene = await setUp(t, make);
    const { port, world } = scene;
    const stranger = await world.portFor('stranger');
    scene.place();
    t.is(await stranger.awaitOrder(question({ waitMs: 20 })), null);
    const orderId = (await port.awaitOrder(question()))?.orderId ?? '';
    await port.reportOrder(orderId, RUNNING);
    t.is(await stranger.reportOrder(orderId, cancelled), 'unknown');
    t.is(await stranger.reportOrder(newSessionId(), cancelled), 'unknown');
    t.is(scene.last?.state, 'running');
  });

  test('orders: a device that is not offered is refused, now or when the agent comes', async (t) => {
    const scene = await setUp(t, make);
    scene.place('tape');
    const asked = scene.port.awaitOrder(question({ waitMs: 2_000 }));
    while (scene.last?.state !== 'failed') await sleep(20);
    t.like(scene.last.failure, { code: 'device-unknown' });
    t.throws(() => scene.place('tape'), { code: 'device-unknown', message: /it offers disk/ });
    t.is(await asked, null);
  });

  test('orders: an agent that reports before it has asked offers what it will ask for', async (t) => {
    const { port, place, world } = await setUp(t, make);
    t.is(await port.reportOrder(newSessionId(), RUNNING), 'unknown', 'of a receiver that was started anew');
    t.false(world.orders().presence('host').isConnected);
    place();
    t.like(await port.awaitOrder(question()), { device: 'disk' });
  });

  test('orders: a point that is not there, or not of the device, ends no order', async (t) => {
    const scene = await setUp(t, make);
    const { port } = scene;
    const other = await backUp(port, new Map(), blocksOf([1], 1), 'other');
    const foreign = await backUp(await scene.world.portFor('stranger'), new Map(), blocksOf([1], 1));
    scene.place();
    const orderId = (await port.awaitOrder(question()))?.orderId ?? '';
    const done = (pointId: string): OrderReport => ({ state: 'done', pointId, warnings: [] });
    await t.throwsAsync(port.reportOrder(orderId, done(newSessionId())), { code: 'point-unknown' });
    await t.throwsAsync(port.reportOrder(orderId, done(foreign.id)), { code: 'point-unknown' });
    await t.throwsAsync(port.reportOrder(orderId, done(other.id)), { code: 'bad-message' });
    t.is(scene.last?.state, 'taken');
  });

  test('orders: each side tells what it does by itself', async (t) => {
    const { port, world } = await setUp(t, make);
    t.deepEqual(await port.rounds(), []);
    const round = { name: 'nightly', schedule: 'daily', nextAt: '2026-05-01T00:00:00.000Z' };
    world.orders().planned = (agent) => [{ ...round, name: agent }];
    const [told] = await port.rounds();
    t.like(told, { schedule: 'daily', nextAt: round.nextAt });
    const plan = { device: 'disk', schedule: 'every 6h', nextAt: round.nextAt, failures: 2, isPaused: false };
    const { answer } = await ask(world, port, { plans: [plan], waitMs: 20 });
    t.deepEqual(world.orders().presence(told?.name ?? '').plans, [plan]);
    t.is(await answer, null);
  });

  test('orders: refused questions and reports', async (t) => {
    const { port } = await setUp(t, make);
    const wrong = <T>(value: unknown): T => value as T;
    const bad: readonly [code: string, call: () => Promise<unknown>][] = [
      ['bad-name', () => port.awaitOrder(question({ devices: ['../x'] }))],
      ['bad-name', () => port.awaitOrder(question({ plans: [planOf('../x')] }))],
      ['bad-message', () => port.awaitOrder(question({ plans: Array(OFFERS_MAX + 1).fill(planOf('x')) }))],
      ['bad-message', () => port.awaitOrder(question({ plans: [{ ...planOf('x'), nextAt: 'soon' }] }))],
      ['bad-message', () => port.awaitOrder(question({ devices: Array(OFFERS_MAX + 1).fill('x') }))],
      ['bad-message', () => port.awaitOrder(question({ waitMs: ORDER_WAIT_MS_MAX + 1 }))],
      ['bad-message', () => port.awaitOrder(question({ ordersMax: 0 }))],
      ['bad-message', () => port.awaitOrder(wrong({ ...question(), path: '/dev/sda' }))],
      ['bad-message', () => port.reportOrder('../x', RUNNING)],
      ['bad-message', () => port.reportOrder(newSessionId(), wrong({ state: 'perfect' }))],
      ['bad-message', () => port.reportOrder(newSessionId(), wrong({ ...RUNNING, point: 1 }))],
    ];
    for (const [code, call] of bad) await t.throwsAsync(call(), { code });
  });
}
