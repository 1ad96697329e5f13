/**
 * Collections beside sessions of several devices that start, pause, commit, are aborted and die at random,
 * beside readers, and beside the removal of points: no block is lost that somebody counts on, and in the end
 * nothing is left that nobody needs.
 */
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { nodeDisk } from '../../../src/store/disk/disk.js';
import { openStoreForReading } from '../../../src/store/open.js';
import type { Capture, Store } from '../../../src/store/port/store.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { type BatchItem, makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { DawdlingObjects } from '../../helpers/faults/dawdling-objects.js';
import { LONG, type Random, seededRandom } from '../../helpers/seed.js';
import { HOUR_MS, CollectWorld as World } from '../../helpers/worlds/collect.js';
import {
  change,
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  emptyState,
  holds,
} from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const BLOCKS = 70;
const DEVICES = ['a', 'b', 'c'];
/** Contents are few, so that devices and times share them. */
const SEEDS = 120;
const STEPS = LONG ? 4000 : 600;

interface Device {
  readonly name: string;
  state: DeviceState;
  /** Null: none is open. */
  session: {
    readonly capture: Capture;
    readonly wanted: DeviceState;
    items: BatchItem[];
    sent: number;
  } | null;
}

class Run {
  readonly states = new Map<string, DeviceState>();
  readonly devices: Device[] = DEVICES.map((name) => ({
    name,
    state: emptyState({ sizeBytes: BLOCKS * BLOCK, blockSize: BLOCK }),
    session: null,
  }));
  readonly #t: ExecutionContext;
  readonly #world: World;
  readonly #random: Random;
  commits = 0;
  removals = 0;
  freedBytes = 0;

  constructor(t: ExecutionContext, world: World, random: Random) {
    this.#t = t;
    this.#world = world;
    this.#random = random;
  }

  get #store(): Store {
    return this.#world.store;
  }

  async step(device: Device): Promise<void> {
    const { session } = device;
    if (session === null) return this.#begin(device);
    const dice = this.#random.below(20);
    if (dice < 1) {
      device.session = null;
      await session.capture.abort();
    } else if (session.items.length > 0) await this.#send(session);
    else await this.#commit(device, session);
  }

  async #begin(device: Device): Promise<void> {
    const random = this.#random;
    const wanted = change(
      device.state,
      Array.from({ length: 1 + random.below(30) }, (): [number, number | null] => [
        random.below(BLOCKS),
        random.below(8) === 0 ? null : 1 + random.below(SEEDS),
      ]),
    );
    const key = { agent: 'alpha', device: device.name };
    const base = await this.#store.baseFor(key);
    const before = base === null ? null : (this.states.get(base.id) ?? null);
    const capture = await this.#store.createCapture(describe(device.name, wanted, base?.id ?? null));
    device.session = { capture, wanted, items: changesBetween(before, wanted), sent: 0 };
  }

  /** Blocks that are held are named, as an agent does it: asked for first, sent later. */
  async #send(session: NonNullable<Device['session']>): Promise<void> {
    const items = session.items.splice(0, 1 + this.#random.below(6));
    const digests = items.map((item) =>
      'bytes' in item ? PLAIN.leafDigest(item.bytes) : Buffer.alloc(32, 1),
    );
    const held = await session.capture.have(Buffer.concat(digests));
    for (let turns = this.#random.below(30); turns > 0; turns -= 1) await setImmediate();
    session.sent += 1;
    const told = items.map((item, i) =>
      held.has(i) && 'bytes' in item ? { blockIndex: item.blockIndex, held: digests[i] as Buffer } : item,
    );
    await session.capture.append(
      session.sent,
      makeBatch(session.capture.description.sessionId, session.sent, told),
    );
  }

  async #commit(device: Device, { capture, wanted, sent }: NonNullable<Device['session']>): Promise<void> {
    const point = await capture.commit(commitRequest(wanted, sent));
    this.states.set(point.id, wanted);
    device.state = wanted;
    device.session = null;
    this.commits += 1;
  }

  async removeOne(): Promise<void> {
    const points = await this.#store.points({});
    if (points.length === 0) return;
    const point = this.#random.pick(points);
    try {
      await this.#store.removePoint(point, 'a test said so');
      this.removals += 1;
    } catch (error) {
      if (!isStillpointError(error, 'point-protected') && !isStillpointError(error, 'session-busy'))
        throw error;
    }
  }

  async collect(): Promise<void> {
    this.#world.nowMs += this.#random.below(10) * HOUR_MS;
    const report = await this.#store.collect({ force: true });
    if (report.state === 'put-off') this.#t.is(report.reason, 'collection: a command reads the store.');
    this.freedBytes += report.freedBytes;
  }

  async read(store: Store): Promise<void> {
    const points = await store.points({});
    if (points.length > 0) await this.check(store, this.#random.pick(points));
  }

  /** The last points, which nobody may remove: what is read may not be removed for some minutes. */
  async readLast(): Promise<void> {
    const device = this.#random.pick(this.devices).name;
    const last = (await this.#store.points({ agent: 'alpha', device })).at(-1);
    if (last !== undefined) await this.check(this.#store, last);
  }

  /** As another process does it, beside the owner. */
  async readBeside(): Promise<void> {
    const reader = await openStoreForReading(this.#world.dir);
    try {
      for (let count = this.#random.below(3); count >= 0; count -= 1) await this.read(reader);
    } finally {
      await reader.close();
    }
  }

  async check(store: Store, point: Point): Promise<void> {
    const state = this.states.get(point.id);
    if (state === undefined) return;
    this.#t.true(await holds(store, point, state), `${point.device}@${point.sequence}`);
  }
}

test('no block is lost to a collection that runs beside sessions, readers and removals', async (t) => {
  t.timeout(LONG ? 3_600_000 : 180_000);
  const random = seededRandom(t);
  const world = await World.make(t);
  const open = () =>
    world.reopen({ objects: new DawdlingObjects(nodeDisk, world.dir, random), packBytesTarget: 20 * KiB });
  await open();
  const run = new Run(t, world, random);
  let stepsLeft = STEPS;
  const loop = async (work: () => Promise<unknown>, pauseTurns: number): Promise<void> => {
    while (stepsLeft > 0) {
      await work();
      for (let turns = random.below(pauseTurns); turns > 0; turns -= 1) await setImmediate();
    }
  };
  const sessions = run.devices.map((device) =>
    loop(async () => {
      stepsLeft -= 1;
      await run.step(device);
    }, 20),
  );
  await Promise.all([
    ...sessions,
    loop(() => run.collect(), 200),
    loop(() => run.removeOne(), 400),
    loop(() => run.readBeside(), 2000),
    loop(() => run.readLast(), 1000),
  ]);
  t.log(`${run.commits} commits, ${run.removals} removals, ${run.freedBytes} bytes freed`);
  t.deepEqual(
    world.log.filter((line) => line.includes('damaged')),
    [],
    'nobody looked for a record where it is no more',
  );
  t.true(run.commits > 5 && run.removals > 0 && run.freedBytes > 0);

  // Killed sessions go on: what they had is there.
  await open();
  for (const device of run.devices) {
    const { session } = device;
    if (session === null) continue;
    const id = session.capture.description.sessionId;
    const capture = world.store.captures().find(({ description }) => description.sessionId === id);
    if (capture === undefined) continue;
    await run.collect();
    device.session = { ...session, capture };
    while (device.session !== null) await run.step(device);
  }
  for (const point of await world.store.points({})) await run.check(world.store, point);
  await world.isSound(t, 'at the end');
  for (const capture of world.store.captures()) await capture.abort();
  world.nowMs += 100 * HOUR_MS;
  t.like(await world.store.collect({ force: true }), { state: 'done', keptPacks: 0 }, world.log.join('\n'));
  t.like(await world.store.collect({ force: true }), { state: 'done', freeableBytes: 0 });
  await open();
  for (const point of await world.store.points({})) await run.check(world.store, point);
  await world.isSound(t, 'opened again');
});
