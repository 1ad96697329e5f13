/**
 * Retention at the receiver: plans, prunes, forgets and pins; by itself, and for commands over its socket.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { MESSAGE_NAMES, MESSAGES } from '../../../src/protocol/messages/table.js';
import { initReceiver } from '../../../src/receiver/access/identity.js';
import { askReceiver } from '../../../src/receiver/control/client.js';
import type { RetentionEvent } from '../../../src/receiver/retention/events.js';
import type {
  PlannedPointView,
  RemovalSummary,
  RetentionWish,
} from '../../../src/receiver/retention/messages.js';
import { RetentionService } from '../../../src/receiver/retention/service.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { refused } from '../../helpers/refused.js';
import { backUp, change, describe, emptyState, holds } from '../../helpers/worlds/store-device.js';
import { TlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const BLOCK = 4 * KiB;
const DAY_MS = 24 * 3_600_000;
const START_MS = Date.parse('2026-01-01T12:00:00.000Z');
const EMPTY = emptyState({ sizeBytes: 10 * BLOCK, blockSize: BLOCK });
const ALL = { agent: null, device: null };
const stateOf = (n: number) => change(EMPTY, [[n % 10, 10 + n]]);
const NEVER = new AbortController().signal;

class World {
  readonly events: RetentionEvent[] = [];
  readonly store: Store;
  readonly service: RetentionService;
  readonly #days: { value: number };

  private constructor(store: Store, days: { value: number }, endSessions: () => Promise<void>) {
    this.store = store;
    this.#days = days;
    this.service = new RetentionService({
      ...{ store, endSessions, timeZone: 'UTC' },
      onEvent: (event) => this.events.push(event),
    });
  }

  static async make(
    t: ExecutionContext,
    endSessions: () => Promise<void> = async () => undefined,
  ): Promise<World> {
    const dir = join(await tempDir(t), 'store');
    await createStore(dir);
    const days = { value: 0 };
    const store = await openStore(dir, {
      now: () => new Date(START_MS + days.value * DAY_MS),
      machine: () => ({ upMs: (1000 + days.value) * DAY_MS, bootId: 'boot' }),
    });
    t.teardown(() => store.close());
    return new World(store, days, endSessions);
  }

  get days(): number {
    return this.#days.value;
  }

  set days(value: number) {
    this.#days.value = value;
  }

  /** A point each day. */
  async backUpDaily(device: string, count: number): Promise<Point[]> {
    const points: Point[] = [];
    for (let n = 1; n <= count; n += 1) {
      points.push(await backUp(this.store, device, n === 1 ? null : stateOf(n - 1), stateOf(n)));
      this.days += 1;
    }
    return points;
  }

  async ask(wish: RetentionWish): Promise<{ answer: RemovalSummary; told: PlannedPointView[] }> {
    const told: PlannedPointView[] = [];
    const answer = await this.service.perform(wish, NEVER, (point) => told.push(point));
    return { answer: answer as RemovalSummary, told };
  }

  async sequences(device: string): Promise<number[]> {
    return (await this.store.points({ agent: 'alpha', device })).map(({ sequence }) => sequence);
  }
}

test('what the plan says goes, a prune removes, and each removal is reported with its reasons', async (t) => {
  const world = await World.make(t);
  await world.backUpDaily('disk', 6);
  await world.backUpDaily('other', 3);
  const nothing = await world.ask({ to: 'prune', ...ALL });
  t.deepEqual(nothing.answer, { deviceCount: 2, withoutPolicy: 2, staying: 9, going: 0, clockDoubt: null });
  await world.ask({ to: 'set', scope: { agent: 'alpha', device: 'disk' }, policy: { keepDaily: 3 } });
  const plan = await world.ask({ to: 'plan', ...ALL });
  t.deepEqual(
    plan.told.map(({ device, sequence, stays }) => `${device}@${sequence} ${stays}`),
    [
      ...['disk@1 false', 'disk@2 false', 'disk@3 false', 'disk@4 true', 'disk@5 true', 'disk@6 true'],
      ...['other@1 true', 'other@2 true', 'other@3 true'],
    ],
  );
  t.is(plan.told[0]?.ageMs, 9 * DAY_MS);
  t.like(plan.answer, { withoutPolicy: 1, staying: 6, going: 3 });
  t.deepEqual(await world.sequences('disk'), [1, 2, 3, 4, 5, 6], 'a plan removes nothing');
  const pruned = await world.ask({ to: 'prune', agent: null, device: 'disk' });
  t.deepEqual(pruned.told, plan.told.slice(0, 3));
  t.like(pruned.answer, { deviceCount: 1, staying: 3, going: 3 });
  t.deepEqual(await world.sequences('disk'), [4, 5, 6]);
  t.deepEqual(await world.sequences('other'), [1, 2, 3]);
  const removals = world.events.filter(({ type }) => type === 'point-removed');
  t.like(removals[0], {
    ...{ by: 'prune', agent: 'alpha', device: 'disk', sequence: 1, committedAt: '2026-01-01T12:00:00.000Z' },
    reasons: ['keep-daily 3: 2026-01-01 is before the last 3 days with points'],
  });
  t.is(removals.length, 3);
  const mark = await world.store.removedPoint({ agent: 'alpha', device: 'disk' }, 1);
  t.regex(mark?.why ?? '', /^no rule keeps it: keep-daily 3: /);
  t.like((await world.ask({ to: 'prune', ...ALL })).answer, { going: 0 });
});

test('what came into use after the plan stays, and a prune that is stopped removes no more', async (t) => {
  const world = await World.make(t);
  const [one] = await world.backUpDaily('disk', 4);
  await world.ask({ to: 'set', scope: ALL, policy: { keepLast: 1 } });
  const { removePoint } = world.store;
  // A restore begins just before the first removal.
  world.store.removePoint = async (point, why) => {
    if (one !== undefined) await world.store.nodes(one, [{ level: 1, index: 0 }]);
    return removePoint.call(world.store, point, why);
  };
  const { answer, told } = await world.ask({ to: 'prune', ...ALL });
  t.like(answer, { staying: 2, going: 2 });
  t.deepEqual(
    told.map(({ sequence }) => sequence),
    [2, 3],
  );
  t.true(one !== undefined && (await holds(world.store, one, stateOf(1))));
  const stop = new AbortController();
  stop.abort();
  await refused(t, world.service.prune(ALL, stop.signal), 'cancelled');
  world.store.removePoint = async () => {
    throw new Error('the disk is gone');
  };
  world.store.useOf = () => null;
  await t.throwsAsync(world.service.prune(ALL, NEVER), { message: 'the disk is gone' });
});

test('a device that can not be pruned keeps no other from it, and is told', async (t) => {
  const world = await World.make(t);
  await world.backUpDaily('disk', 3);
  await world.backUpDaily('other', 3);
  await world.ask({ to: 'set', scope: { agent: null, device: null }, policy: { keepLast: 1 } });
  const { store } = world;
  const remove = store.removePoint.bind(store);
  store.removePoint = (point, why) =>
    point.device === 'disk'
      ? Promise.reject(new StillpointError('store-io', { thing: 'disk', reason: 'EIO' }))
      : remove(point, why);
  await refused(t, world.ask({ to: 'prune', ...ALL }), 'store-io', /EIO/);
  t.deepEqual([await world.sequences('disk'), await world.sequences('other')], [[1, 2, 3], [3]]);
});

test('forget: all that are named or none; a device with its last point; pins and the lock hold', async (t) => {
  let sessions = 0;
  const world = await World.make(t, async () => {
    sessions += 1;
  });
  const points = await world.backUpDaily('disk', 4);
  const ids = points.map(({ id }) => id);
  await refused(
    t,
    world.ask({ to: 'forget', pointIds: [ids[0] ?? '', ids[3] ?? ''] }),
    'point-protected',
    /last/,
  );
  await refused(t, world.ask({ to: 'forget', pointIds: [ids[0] ?? '', 'f'.repeat(32)] }), 'point-unknown');
  t.deepEqual(await world.sequences('disk'), [1, 2, 3, 4]);
  await world.ask({ to: 'pin', pointId: ids[1] ?? '', reason: 'the audit', untilMs: START_MS + 30 * DAY_MS });
  await refused(
    t,
    world.ask({ to: 'forget', pointIds: [ids[0] ?? '', ids[1] ?? ''] }),
    'point-protected',
    /the audit/,
  );
  await refused(
    t,
    world.ask({ to: 'forget-device', agent: 'alpha', device: 'disk' }),
    'point-protected',
    /audit/,
  );
  await refused(t, world.ask({ to: 'forget-device', agent: 'alpha', device: 'none' }), 'device-unknown');
  const { told } = await world.ask({ to: 'forget', pointIds: [ids[0] ?? '', ids[2] ?? '', ids[0] ?? ''] });
  t.deepEqual(
    told.map(({ sequence }) => sequence),
    [1, 3],
  );
  t.like(world.events.at(-1), { type: 'point-removed', by: 'forget', sequence: 3 });
  t.like((await world.ask({ to: 'show' })).answer, {
    pins: [{ sequence: 2, reason: 'the audit', isInForce: true }],
  });
  await world.ask({ to: 'unpin', pointId: ids[1] ?? '' });
  await refused(t, world.ask({ to: 'unpin', pointId: ids[1] ?? '' }), 'usage', /not pinned/);
  await refused(
    t,
    world.ask({ to: 'pin', pointId: ids[0] ?? '', reason: 'x', untilMs: null }),
    'point-unknown',
  );
  await refused(
    t,
    world.ask({ to: 'pin', pointId: ids[1] ?? '', reason: 'x', untilMs: START_MS }),
    'usage',
    /past/,
  );
  await world.ask({ to: 'set', scope: ALL, minAgeMs: 9 * DAY_MS });
  await refused(
    t,
    world.ask({ to: 'forget-device', agent: 'alpha', device: 'disk' }),
    'point-protected',
    /minimum/,
  );
  world.days = 13;
  t.is((await world.ask({ to: 'forget-device', agent: 'alpha', device: 'disk' })).answer.going, 2);
  t.deepEqual(await world.store.points({}), []);
  t.true(sessions > 0);
});

test('a configuration file sets policies, and then commands do not', async (t) => {
  const world = await World.make(t);
  await world.ask({ to: 'set', scope: ALL, policy: { keepLast: 9 }, minAgeMs: 5 * DAY_MS });
  t.like((await world.ask({ to: 'show' })).answer, {
    timeZone: 'UTC',
    minAgeMs: 5 * DAY_MS,
    managedBy: null,
  });
  const managed = { policies: [{ ...ALL, policy: { keepDaily: 7 } }], minAgeMs: 2 * DAY_MS };
  await world.service.applyManaged(managed, '/etc/stillpoint/receiver.toml');
  t.like(world.service.show(), {
    policies: managed.policies,
    minAgeMs: 5 * DAY_MS,
    lowering: { minAgeMs: 2 * DAY_MS, at: new Date(START_MS + 5 * DAY_MS).toISOString() },
  });
  await refused(
    t,
    world.ask({ to: 'set', scope: ALL, policy: null }),
    'config',
    /come from \/etc\/stillpoint/,
  );
  const count = world.events.length;
  await world.service.applyManaged(managed, '/etc/stillpoint/receiver.toml');
  t.is(world.events.length, count, 'the same file once more changes nothing');
  // Lowered while the clock is not believed: not now.
  world.store.retention.clock = () => ({ isBelieved: false, nowMs: START_MS, reason: 'a test' });
  await world.service.applyManaged({ ...managed, minAgeMs: 0 }, '/etc/stillpoint/receiver.toml');
  t.is(world.store.retention.settings.lock.at(-1)?.minAgeMs, 2 * DAY_MS);
  await world.service.releaseManaged();
  await refused(t, world.ask({ to: 'set', scope: ALL, minAgeMs: 0 }), 'config', /can't be lowered while/);
  await world.ask({ to: 'set', scope: ALL, minAgeMs: 6 * DAY_MS });
  t.like(world.service.show(), { minAgeMs: 6 * DAY_MS, policies: managed.policies });
});

test('a clock that jumped lets nothing go by its time, and the summary says so', async (t) => {
  const world = await World.make(t);
  await world.backUpDaily('disk', 4);
  await world.ask({ to: 'set', scope: ALL, policy: { keepDaily: 1 } });
  const { clock } = world.store.retention;
  const doubted = { isBelieved: false, nowMs: START_MS + 4 * DAY_MS, reason: 'it gained a year' } as const;
  world.store.retention.clock = () => doubted;
  const { answer } = await world.ask({ to: 'prune', ...ALL });
  t.like(answer, { going: 0, staying: 4, clockDoubt: 'it gained a year' });
  world.store.retention.clock = clock;
  t.like((await world.ask({ to: 'prune', ...ALL })).answer, { going: 3 });
});

// ---- a receiver that serves ----------------------------------------------------------------------

test('a session that nobody goes on with ends when its device is forgotten; one that goes on does not', async (t) => {
  const world = await World.make(t);
  await world.backUpDaily('disk', 1);
  const service = await ReceiverService.open(world.store);
  const retention = new RetentionService({
    store: world.store,
    endSessions: (key) => service.endIdle(key, new Date(START_MS + world.days * DAY_MS)),
  });
  const key = { agent: 'alpha', device: 'disk' };
  const port = agentReceiver(service, 'alpha');
  const { device, sessionId, geometry, identity } = describe('disk', stateOf(2), null);
  await port.begin({
    ...{ device, sessionId, geometry, identity, base: null, acceptIdentity: false, newChain: false },
  });
  await refused(t, retention.forgetDevice(key), 'session-busy', /a backup of it is going on/);
  world.days += 1;
  t.is((await retention.forgetDevice(key)).going, 1);
  t.deepEqual(world.store.captures(), []);
  t.like(await port.removedPoint('disk', 1), {
    removed: { sequence: 1, why: 'the operator forgot its device' },
  });
  t.deepEqual(await agentReceiver(service, 'beta').removedPoint('disk', 1), { removed: null });
  await service.close();
});

test('a receiver that serves prunes by itself, takes commands, and lets no agent remove anything', async (t) => {
  const dir = join(await tempDir(t), 'receiver');
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  let days = 0;
  const options = {
    now: () => new Date(START_MS + days * DAY_MS),
    machine: () => ({ upMs: days * DAY_MS, bootId: 'boot' }),
  };
  const store = await openStore(dir, options);
  for (let n = 1; n <= 4; n += 1) {
    await backUp(store, 'disk', n === 1 ? null : stateOf(n - 1), stateOf(n));
    days += 1;
  }
  await store.close();
  const reported: RetentionEvent[] = [];
  const receiver = new TlsReceiver(dir, {
    openStore: (path) => openStore(path, options),
    pruneIntervalMs: 50,
    onRetention: (event) => reported.push(event),
  });
  t.teardown(() => receiver.closeAll());
  await receiver.start();
  const ask = (wish: RetentionWish) => askReceiver(dir, { op: 'retention', wish }, { signal: NEVER });
  t.like(await ask({ to: 'show' }), { policies: [], pins: [], fault: null, clock: { isBelieved: true } });
  await sleep(200);
  t.deepEqual(reported, [], 'without a policy nothing goes');
  await ask({ to: 'set', scope: ALL, policy: { keepLast: 2 } });
  const removed = () => receiver.log.filter(({ msg }) => msg === 'point removed');
  while (removed().length < 2) await sleep(20);
  t.like(removed()[0], { device: 'disk', sequence: 1, reasons: ['keep-last 2: there are 2 later ones'] });
  t.deepEqual(
    reported.map(({ type }) => type),
    ['retention-set', 'point-removed', 'point-removed'],
  );
  await refused(t, ask({ to: 'set', scope: ALL, policy: {} }), 'config', /no rule/);
  const rude = askReceiver(dir, { op: 'retention', wish: { to: 'wipe' } as never }, { signal: NEVER });
  await refused(t, rude, 'bad-message');

  // Over the network no message does any of that.
  const client = receiver.client(await receiver.enroll('alpha'));
  t.deepEqual(
    (await client.points()).map(({ sequence }) => sequence),
    [3, 4],
  );
  t.like(await client.removedPoint('disk', 2), { removed: { sequence: 2 } });
  const paths = MESSAGE_NAMES.map((name) => MESSAGES[name].path).join(' ');
  t.notRegex(paths, /prune|forget|pin|retention|delete/);
  await receiver.stop();
  const later = await openStore(dir, options);
  t.is((await later.points({})).length, 2);
  await later.close();
});
