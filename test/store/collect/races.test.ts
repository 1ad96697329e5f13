/** What comes at the worst moment of a collection: each moment is held until it has come. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { native, PACK_KIND_DATA, RECORD_KIND_BLOCK } from '../../../src/native/index.js';
import { nodeDisk } from '../../../src/store/disk/disk.js';
import { LocalObjectStore } from '../../../src/store/objects/local-object-store.js';
import { FaultyObjectStore } from '../../helpers/faults/object-store.js';
import { flipRecords } from '../../helpers/faults/pack-damage.js';
import {
  digestOf,
  EMPTY,
  isHeld,
  range,
  sendHeld,
  state,
  CollectWorld as World,
} from '../../helpers/worlds/collect.js';
import {
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  holds,
  sendChanges,
} from '../../helpers/worlds/store-device.js';

/** The work of the next put of a manifest is done, and fails all the same. */
class UnsureObjects extends LocalObjectStore {
  isUnsure = false;

  override async put(key: string, bytes: Uint8Array): Promise<boolean> {
    const isNew = await super.put(key, bytes);
    if (!this.isUnsure || !key.startsWith('points/')) return isNew;
    this.isUnsure = false;
    throw Object.assign(new Error('sync of a directory'), { code: 'EIO' });
  }
}

type Moment = 'read' | 'withFile' | 'putFile' | 'delete';

/** Holds the next call of one kind until it is released. */
class HeldObjects extends LocalObjectStore {
  #moment: Moment | null = null;
  #reached: () => void = () => undefined;
  #gate: Promise<void> = Promise.resolve();

  /** @returns when it is reached, and what lets it go on */
  holdNext(moment: Moment): { readonly reached: Promise<void>; readonly release: () => void } {
    let release: () => void = () => undefined;
    this.#gate = new Promise((resolve) => {
      release = resolve;
    });
    this.#moment = moment;
    const reached = new Promise<void>((resolve) => {
      this.#reached = resolve;
    });
    return { reached, release };
  }

  async #pass(moment: Moment): Promise<void> {
    if (this.#moment !== moment) return;
    this.#moment = null;
    this.#reached();
    await this.#gate;
  }

  override async read(key: string, byteOffset: number, byteLength: number): Promise<Buffer> {
    await this.#pass('read');
    return super.read(key, byteOffset, byteLength);
  }
  override async withFile<T>(key: string, use: (path: string) => Promise<T>): Promise<T> {
    await this.#pass('withFile');
    return super.withFile(key, use);
  }
  override async putFile(key: string, source: string): Promise<boolean> {
    await this.#pass('putFile');
    return super.putFile(key, source);
  }
  override async delete(key: string): Promise<void> {
    await this.#pass('delete');
    return super.delete(key);
  }
}

async function makeWorld(
  t: Parameters<typeof World.make>[0],
): Promise<{ world: World; objects: HeldObjects }> {
  const world = await World.make(t);
  const objects = new HeldObjects(nodeDisk, world.dir);
  await world.reopen({ objects });
  return { world, objects };
}

/** A point of this state; `before` is that of the device's last point. */
async function backUp(world: World, device: string, before: DeviceState, after: DeviceState) {
  const capture = await world.store.createCapture(describe(device, EMPTY, await world.baseId(device)));
  const count = await sendChanges(capture, changesBetween(before, after));
  return capture.commit(commitRequest(after, count));
}

test('packs that a session publishes while points are walked are not looked at', async (t) => {
  const { world, objects } = await makeWorld(t);
  await backUp(world, 'disk', EMPTY, state([1, 2], 100));
  await world.reopen({ objects });
  const running = await world.begin('other', [], 7000);
  const before = await world.packs();
  const held = objects.holdNext('read');
  const collecting = world.store.collect({ force: true });
  await held.reached;
  const wanted = state(range(0, 20), 7000);
  const count = await sendChanges(running, changesBetween(EMPTY, wanted));
  await running.have(Buffer.alloc(32, 1));
  t.true((await world.packs()).length > before.length, 'it has published one');
  held.release();
  t.like(await collecting, { state: 'done' });
  const point = await running.commit(commitRequest(wanted, count));
  t.true(await holds(world.store, point, wanted));
  await world.isSound(t, 'collected');
});

test('a session that goes back to the state of a removed point finds its nodes, and keeps them', async (t) => {
  const { world, objects } = await makeWorld(t);
  const [first, second] = [state(range(0, 20), 100), state(range(0, 20), 5000)];
  const removed = await backUp(world, 'disk', EMPTY, first);
  await backUp(world, 'disk', first, second);
  const running = await world.store.createCapture(describe('disk', EMPTY, await world.baseId('disk')));
  const count = await sendChanges(running, changesBetween(second, first));
  await world.store.removePoint(removed, 'a test said so');
  for (const moment of ['withFile', 'delete'] as const) {
    const held = objects.holdNext(moment);
    const collecting = world.store.collect({ force: true });
    const isReached = await Promise.race([held.reached.then(() => true), collecting.then(() => false)]);
    if (!isReached) continue;
    const point = await running.commit(commitRequest(first, count));
    held.release();
    await collecting;
    t.true(await holds(world.store, point, first), moment);
    await world.isSound(t, moment);
    await world.reopen();
    t.true(await holds(world.store, point, first), moment);
  }
});

test('what a session was told of stays its own when it has moved to another pack meanwhile', async (t) => {
  const { world, objects } = await makeWorld(t);
  const [sparse, next, last] = [state(range(0, 8), 100), state([3], 100), state([50], 9000)];
  const removed = await backUp(world, 'disk', EMPTY, sparse);
  const needing = await backUp(world, 'disk', sparse, next);
  await backUp(world, 'disk', next, last);
  await world.store.removePoint(removed, 'a test said so');
  const running = await world.store.createCapture(describe('disk', EMPTY, await world.baseId('disk')));

  const held = objects.holdNext('putFile');
  const collecting = world.store.collect({ force: true });
  await held.reached;
  t.true(await isHeld(running, 3, 100), 'the block is being written anew at this moment');
  held.release();
  t.true((await collecting).keptPacks > 0, 'the pack stays, which the session relies on');

  await world.store.removePoint(needing, 'nobody else needs the block any more');
  await world.store.collect({ force: true });
  await sendHeld(running, 1, [3], 100);
  const count = await sendChanges(running, changesBetween(last, EMPTY), 8, 2);
  const point = await running.commit(commitRequest(next, count));
  t.true(await holds(world.store, point, next));
  await world.isSound(t, 'at the end');
});

test('a read that began before a pack went gets its bytes from there', async (t) => {
  // The second read is of a node, in the tree pack of the removed point.
  for (const skipped of [0, 1, 2]) {
    const { world, objects } = await makeWorld(t);
    const [sparse, next] = [state([...range(0, 8), 70], 100), state([3, 70], 100)];
    const removed = await backUp(world, 'disk', EMPTY, sparse);
    const point = await backUp(world, 'disk', sparse, next);
    await world.store.removePoint(removed, 'a test said so');
    await world.reopen({ objects });
    let held = objects.holdNext('read');
    const reading = holds(world.store, point, next);
    for (let i = 0; i < skipped; i += 1) {
      await held.reached;
      const following = objects.holdNext('read');
      held.release();
      held = following;
    }
    await held.reached;
    const collecting = world.store.collect({ force: true });
    // Long enough for a collection that waits for nobody.
    await Promise.race([collecting, new Promise((resolve) => setTimeout(resolve, 500))]);
    held.release();
    t.true(await reading, `${skipped}`);
    t.like(await collecting, { state: 'done', rewrittenPacks: 2 });
    t.deepEqual(
      world.log.filter((line) => line.includes('damaged')),
      [],
    );
    await world.isSound(t, 'at the end');
  }
});

test('a pack that has the last good copy of a record by now stays, although nothing in it was needed', async (t) => {
  const { world, objects } = await makeWorld(t);
  // Both store the block, and the index leads to the later one.
  const sessions = [await world.begin('disk', [3], 100), await world.begin('other', [3], 100)];
  const points = [];
  for (const session of sessions) points.push(await session.commit(commitRequest(state([3], 100), 1)));
  await world.reopen({ objects });
  const damaged = await packsWithBlocks(world);
  t.is(damaged.length, 2);
  // The first pack has been looked at when the second one is.
  const first = objects.holdNext('withFile');
  const collecting = world.store.collect({ force: true });
  await first.reached;
  const second = objects.holdNext('withFile');
  first.release();
  await second.reached;
  const later = damaged.at(-1) ?? '';
  const bytes = await readFile(join(world.dir, later));
  bytes.fill(0xff, 64 + 90, 64 + 100);
  await writeFile(join(world.dir, later), bytes);
  for (const point of points) t.true(await holds(world.store, point, state([3], 100)));
  second.release();
  await collecting;
  for (const point of points) t.true(await holds(world.store, point, state([3], 100)));
});

/** Data packs, in the order in which they were indexed. */
async function packsWithBlocks(world: World): Promise<string[]> {
  const found = [];
  for (const name of await world.packs()) {
    const { kind } = await native.readPackIndex(join(world.dir, name));
    if (kind === PACK_KIND_DATA) found.push({ name, mtimeMs: (await stat(join(world.dir, name))).mtimeMs });
  }
  return found.sort((a, b) => a.mtimeMs - b.mtimeMs).map(({ name }) => name);
}

test('a point that nobody knows of keeps what it needs: its commit failed after its manifest was there', async (t) => {
  for (const then of ['waits', 'is aborted'] as const) {
    const { world } = await makeWorld(t);
    const objects = new UnsureObjects(nodeDisk, world.dir);
    await world.reopen({ objects });
    const wanted = state(range(0, 20), 100);
    const session = await world.begin('disk', range(0, 20), 100);
    objects.isUnsure = true;
    await t.throwsAsync(session.commit(commitRequest(wanted, session.durableSequence)));
    t.deepEqual(await world.store.points({}), []);
    if (then === 'is aborted') await session.abort();
    world.nowMs += 100 * 3_600_000;
    t.like(await world.store.collect({ force: true }), { state: 'done', removedPacks: 0 }, then);
    await world.reopen();
    const [point] = await world.store.points({});
    t.true(point !== undefined && (await holds(world.store, point, wanted)), then);
    await world.isSound(t, then);
  }
});

test('a commit that fails after its manifest was there keeps its base, also if that is removed while sessions are marked', async (t) => {
  const { world } = await makeWorld(t);
  const objects = new UnsureObjects(nodeDisk, world.dir);
  await world.reopen({ objects });
  const first = state(range(0, 20), 100);
  const second = { ...first, blocks: new Map([...first.blocks, ...state([50], 9000).blocks]) };
  await backUp(world, 'disk', EMPTY, first);
  await world.begin('other', range(0, 8), 7000);
  const running = await world.store.createCapture(describe('disk', EMPTY, await world.baseId('disk')));
  const count = await sendChanges(running, changesBetween(first, second));
  // The base's packs are nobody's by then.
  await world.reopen({ objects });
  let isMarking = false;
  const pace = async (bytes: number) => {
    if (bytes === 0 || isMarking) return;
    isMarking = true;
    const again = world.store.captures().find(({ description }) => description.device === 'disk');
    objects.isUnsure = true;
    await t.throwsAsync(async () => again?.commit(commitRequest(second, count)));
    await again?.abort();
    await world.store.removeDevice({ agent: 'alpha', device: 'disk' }, 'a test');
  };
  await world.store.collect({ force: true, pace });
  t.true(isMarking);
  await world.reopen();
  const [point] = await world.store.points({ device: 'disk' });
  t.true(point !== undefined && (await holds(world.store, point, second)));
  await world.isSound(t, 'collected');
});

test('a collection that is asked for while another one runs is its own', async (t) => {
  const { world } = await makeWorld(t);
  await backUp(world, 'disk', EMPTY, state(range(0, 20), 100));
  await world.store.removeDevice({ agent: 'alpha', device: 'disk' }, 'a test');
  const [dry, real] = await Promise.all([
    world.store.collect({ force: true, dryRun: true }),
    world.store.collect({ force: true }),
  ]);
  t.like(dry, { state: 'done', removedPacks: 0 });
  t.true(real.removedPacks > 0);
  t.is(real.freedBytes, dry.freeableBytes);
});

test('remains of a lost record keep their pack, and no collection comes again for them', async (t) => {
  const { world } = await makeWorld(t);
  const both = state(range(0, 20), 100);
  const gone = await backUp(world, 'disk', EMPTY, both);
  await backUp(world, 'disk', both, state([3], 100));
  await flipRecords(world.dir, RECORD_KIND_BLOCK, digestOf(3, 100));
  for await (const _ of world.store.verify({})) {
    // It is found.
  }
  await world.store.removePoint(gone, 'a test');
  await world.store.collect();
  t.like(await world.store.collect(), { state: 'not-needed' });
  t.like(await world.store.collect({ force: true }), { state: 'done', keptPacks: 0 });
});

test('a pack that can not be removed keeps no other of its group', async (t) => {
  const { world } = await makeWorld(t);
  let failing = 0;
  const objects = new FaultyObjectStore(new LocalObjectStore(nodeDisk, world.dir), ({ name, path }) => {
    if (name !== 'delete' || !path.startsWith('packs/')) return null;
    failing += 1;
    return failing === 1 ? 'EIO' : null;
  });
  await world.reopen({ objects });
  await backUp(world, 'disk', EMPTY, state(range(0, 20), 100));
  await world.store.removeDevice({ agent: 'alpha', device: 'disk' }, 'a test');
  t.like(await world.store.collect({ force: true }), { state: 'put-off' });
  t.is((await world.packs()).length, 1);
  await world.reopen();
  t.like(await world.store.collect({ force: true }), { state: 'done', removedPacks: 1 });
  t.deepEqual(await world.packs(), []);
});
