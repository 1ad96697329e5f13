import test from 'ava';
import fc from 'fast-check';
import {
  ORDER_LEASE_MS,
  ORDER_QUEUED_MS,
  ORDER_STALLED_MS,
  ORDER_START_MS,
} from '../../../src/domain/base/limits.js';
import {
  type AwaitOrderRequest,
  advance,
  isEnded,
  isHeld,
  newOrder,
  nextOrder,
  type Order,
  type OrderEvent,
  type OrderProgress,
  type OrderState,
} from '../../../src/domain/order/order.js';
import { makePoint } from '../../helpers/bytes/points.js';

const PROGRESS: OrderProgress = { phase: 'scan', doneBytes: 1, totalBytes: 2, changedBytes: 0, wireBytes: 0 };
const failed = (code: 'device-io' | 'cancelled'): OrderEvent => ({
  type: 'failed',
  failure: { code, thing: 'x', reason: 'y', permanent: true },
});
const DONE: OrderEvent = { type: 'done', point: makePoint(), warnings: [] };
const CANCEL: OrderEvent = { type: 'cancel' };
const FORGOTTEN: OrderEvent = { type: 'forgotten' };
const take = (nowMs: number): OrderEvent => ({ type: 'take', nowMs });
const heard = (nowMs: number): OrderEvent => ({ type: 'heard', nowMs });
const running = (nowMs: number): OrderEvent => ({ type: 'running', progress: PROGRESS, nowMs });
const tick = (nowMs: number, isConnected = false): OrderEvent => ({ type: 'tick', nowMs, isConnected });

const WISH = { agent: 'web1', device: 'disk', full: false };
const after = (...events: OrderEvent[]): Order => events.reduce(advance, newOrder('1', WISH, 0, 1000));

const TABLE: readonly (readonly [what: string, state: OrderState, events: readonly OrderEvent[]])[] = [
  ['nobody comes', 'expired', [tick(1000)]],
  ['not yet', 'queued', [tick(999)]],
  ['somebody is there, and busy', 'queued', [tick(100_000, true)]],
  ['somebody is there, and busy for ever', 'expired', [tick(ORDER_QUEUED_MS, true)]],
  ['taken', 'taken', [take(10)]],
  [
    'running, and nothing moves',
    'lost',
    [take(0), running(0), running(ORDER_STALLED_MS), tick(ORDER_STALLED_MS)],
  ],
  [
    'running, and something moved',
    'running',
    [
      ...[
        take(0),
        running(0),
        { type: 'running', progress: { ...PROGRESS, doneBytes: 2 }, nowMs: 1 } as const,
      ],
      ...[running(ORDER_STALLED_MS), tick(ORDER_STALLED_MS)],
    ],
  ],
  ['taken late, and there is time to begin', 'taken', [take(900), tick(900 + ORDER_START_MS - 1)]],
  ['taken, and no word', 'expired', [take(900), tick(900 + ORDER_START_MS, true)]],
  ['running', 'running', [take(10), running(20)]],
  ['running, and silent', 'lost', [take(10), running(20), tick(20 + ORDER_LEASE_MS, true)]],
  ['running, and heard of', 'running', [take(10), running(20), running(5000), tick(20 + ORDER_LEASE_MS)]],
  ['running, and named', 'running', [take(10), running(20), heard(5000), tick(20 + ORDER_LEASE_MS)]],
  ['running, and forgotten', 'lost', [take(10), running(20), FORGOTTEN]],
  ['taken, and the answer was lost', 'taken', [take(10), FORGOTTEN]],
  ['done', 'done', [take(10), running(20), DONE]],
  ['done at once', 'done', [take(10), DONE]],
  ['failed', 'failed', [take(10), failed('device-io')]],
  ['stopped by the agent itself', 'failed', [take(10), running(20), failed('cancelled')]],
  ['cancelled before it was taken', 'cancelled', [CANCEL]],
  ['cancelled, and the agent has not heard yet', 'running', [take(10), running(20), CANCEL]],
  ['cancelled', 'cancelled', [take(10), running(20), CANCEL, failed('cancelled')]],
  ['cancelled too late', 'done', [take(10), running(20), CANCEL, DONE]],
  ['cancelled, and silent', 'cancelled', [take(10), running(20), CANCEL, tick(20 + ORDER_LEASE_MS)]],
  ['no report on what was never taken', 'queued', [running(5), DONE, failed('device-io'), FORGOTTEN]],
];
for (const [what, state, events] of TABLE) {
  test(`an order: ${what}`, (t) => {
    t.is(after(...events).state, state);
  });
}

const anyEvent = fc.oneof(
  fc.nat(300_000).map(take),
  fc.nat(300_000).map(running),
  fc.nat(300_000).map(heard),
  fc.tuple(fc.nat(300_000), fc.boolean()).map(([nowMs, isConnected]) => tick(nowMs, isConnected)),
  fc.constantFrom(DONE, failed('device-io'), failed('cancelled'), CANCEL, FORGOTTEN),
);

test('whatever comes: an end is an end, a point is there exactly when it is done, and a cancelled one was asked to end', (t) => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 20 }), (events) => {
      let order = after();
      let wasAsked = false;
      for (const event of events) {
        const before = order;
        order = advance(order, event);
        wasAsked ||= event.type === 'cancel' && !isEnded(before);
        if (isEnded(before)) t.is(order, before);
        t.is(order.point !== null, order.state === 'done');
        t.is(order.failure !== null, order.failure !== null && isEnded(order));
        if (order.state === 'cancelled') t.true(wasAsked);
      }
      // Silence ends everything but what waits for a busy agent that is there.
      t.true(isEnded(advance(order, tick(1_000_000))));
    }),
  );
});

const question = (changes: Partial<AwaitOrderRequest> = {}): AwaitOrderRequest => ({
  devices: ['a', 'b'],
  running: [],
  ordersMax: 2,
  waitMs: 0,
  ...changes,
});
const order = (id: string, device: string, ...events: OrderEvent[]): Order =>
  events.reduce(advance, newOrder(id, { ...WISH, device }, 0, 1000));

test('the oldest order for a device that is offered and free is given', (t) => {
  const orders = [order('1', 'c'), order('2', 'a'), order('3', 'b')];
  t.is(nextOrder(orders, question())?.id, '2');
  t.is(nextOrder(orders, question({ devices: [] })), null);
  const busy = [order('1', 'a', take(1), running(2)), order('2', 'a'), order('3', 'b')];
  t.is(nextOrder(busy, question({ running: [{ orderId: '1', device: 'a' }] }))?.id, '3');
  t.is(nextOrder(busy, question({ running: [{ orderId: '1', device: 'a' }], ordersMax: 1 })), null);
});

test('what was given and not begun is given again, unless it is to be cancelled', (t) => {
  const taken = order('1', 'a', take(1));
  t.is(nextOrder([taken, order('2', 'b')], question())?.id, '1');
  t.is(nextOrder([taken, order('2', 'b')], question({ running: [{ orderId: '1', device: 'a' }] }))?.id, '2');
  t.is(nextOrder([advance(taken, CANCEL)], question()), null);
});

test('what an agent does for an order that is not known any more keeps its device and counts', (t) => {
  const others = { running: [{ orderId: '9', device: 'a' }] };
  const orders = [order('1', 'a'), order('2', 'b')];
  t.is(nextOrder(orders, question(others))?.id, '2');
  t.is(nextOrder(orders, question({ ...others, ordersMax: 1 })), null);
});

test('never two orders for a device, never more than the agent takes', (t) => {
  const step = fc.record({
    ask: fc.record({ ordersMax: fc.integer({ min: 1, max: 3 }), forgets: fc.boolean() }),
    place: fc.constantFrom('a', 'b', 'c'),
    end: fc.nat(5),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      let orders: Order[] = [];
      let id = 0;
      for (const { ask, place, end } of steps) {
        id += 1;
        orders.push(order(String(id), place));
        const held = orders.filter(isHeld);
        const known = ask.forgets ? [] : held.map(({ id: orderId, device }) => ({ orderId, device }));
        const given = nextOrder(orders, question({ ordersMax: ask.ordersMax, running: known }));
        if (given !== null && !isHeld(given)) {
          t.true(held.length < ask.ordersMax);
          t.false(held.some(({ device }) => device === given.device));
          t.true(['a', 'b'].includes(given.device));
        }
        orders = orders.map((each) => (each === given ? advance(each, take(1)) : each));
        orders = orders.map((each, index) => (index === end && isHeld(each) ? advance(each, DONE) : each));
      }
    }),
  );
});

const GROUP = { runId: 'a'.repeat(32), name: 'db', devices: ['disk', 'log'] };
const ofGroup = (id: string): Order => newOrder(id, { ...WISH, group: GROUP }, 0, 1000);

test('a part of a group may wait for other hosts for longer than any progress takes', (t) => {
  const events = [take(0), running(0), running(ORDER_STALLED_MS), tick(ORDER_STALLED_MS)];
  t.is(events.reduce(advance, ofGroup('1')).state, 'running');
});

test('an order of a group is for all its devices, and for agents that can', (t) => {
  const ask: AwaitOrderRequest = {
    devices: ['disk', 'log'],
    running: [],
    ordersMax: 2,
    waitMs: 0,
    canGroup: true,
  };
  const order = ofGroup('1');
  t.is(nextOrder([order], ask), order);
  t.is(nextOrder([order], { ...ask, canGroup: false }), null);
  t.is(nextOrder([order], { ...ask, devices: ['disk'] }), null);
  t.is(nextOrder([order], { ...ask, running: [{ orderId: '9', device: 'log' }] }), null);
  const single = newOrder('2', { ...WISH, device: 'log' }, 0, 1000);
  t.is(
    nextOrder([advance(order, take(0)), single], { ...ask, running: [{ orderId: '1', device: 'disk' }] }),
    null,
  );
});
