/** What sessions left that came to no point: kept for its time, then removed, as far as nobody needs it. */
import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { PARTIAL_SETS_PER_AGENT_MAX } from '../../../src/domain/base/limits.js';
import { nodeDisk } from '../../../src/store/disk/disk.js';
import { LocalObjectStore } from '../../../src/store/objects/local-object-store.js';
import { listFiles } from '../../helpers/faults/disk.js';
import {
  digestOf,
  EMPTY,
  HOUR_MS,
  isHeld,
  range,
  sendHeld,
  state,
  CollectWorld as World,
} from '../../helpers/worlds/collect.js';
import {
  changesBetween,
  commitRequest,
  describe,
  holds,
  sendChanges,
} from '../../helpers/worlds/store-device.js';

test('an open session is listed with what it delivered, an ended one until its time is over', async (t) => {
  const world = await World.make(t);
  const capture = await world.begin('disk', range(0, 20), 100);
  const { sessionId } = capture.description;
  const [open] = await world.partialSets();
  t.like(open, {
    ...{ device: 'disk', sessionId, state: 'open' },
    lastActivityAt: '2026-01-01T00:00:00.000Z',
    expiresAt: '2026-01-02T00:00:00.000Z',
  });
  t.true((open?.durableBytes ?? 0) > 0);
  t.deepEqual(await world.store.partialSets({ agent: 'beta' }), []);
  t.deepEqual(await world.store.partialSets({ agent: 'alpha', device: 'other' }), []);

  world.nowMs += 5 * HOUR_MS;
  await capture.abort();
  const [ended] = await world.partialSets();
  t.deepEqual(ended, { ...open, state: 'ended' } as typeof ended);
  await world.reopen();
  t.deepEqual(await world.partialSets(), [ended]);
  await world.collectAfter(18);
  t.deepEqual(await world.partialSets(), [ended]);
  t.true(await isHeld(await world.begin('disk', [], 0), 3, 100), 'its blocks need not be sent again');
  for (const left of world.store.captures()) await left.abort();

  // Who was told of a block relied on its pack: not any more.
  await world.collectAfter(2);
  t.deepEqual(await world.partialSets(), []);
  t.deepEqual(await world.packs(), []);
  t.deepEqual(await world.records(), []);
  t.false(await isHeld(await world.begin('disk', [], 0), 3, 100));
  await world.isSound(t, 'at the end');
  await world.reopen();
  t.false(world.log.join().includes('made anew'), world.log.join('\n'));
  await world.isSound(t, 'opened again');
});

test('a session without a block leaves nothing to list', async (t) => {
  const world = await World.make(t);
  await (await world.begin('disk', [], 0)).abort();
  t.deepEqual(await world.partialSets(), []);
});

test('what a point needs of a pack is written anew, and the rest of the pack goes', async (t) => {
  const world = await World.make(t);
  await (await world.begin('disk', range(0, 40), 100)).abort();
  const before = await world.packs();
  t.true(before.length > 3);
  const next = await world.store.createCapture(describe('disk', EMPTY, null));
  await sendHeld(next, 1, [7], 100);
  const point = await next.commit(commitRequest(state([7], 100), 1));
  world.nowMs += 25 * HOUR_MS;
  const dryRun = await world.store.collect({ dryRun: true });
  const report = await world.store.collect();
  t.like(report, { state: 'done', keptPacks: 0, rewrittenPacks: 1, freeableBytes: dryRun.freeableBytes });
  t.deepEqual(await world.records(), [], world.log.join('\n'));
  const left = await world.packs();
  t.deepEqual(
    left.filter((name) => before.includes(name)),
    [],
  );
  const sizes = await Promise.all(left.map(async (name) => (await stat(join(world.dir, name))).size));
  const freedBytes = report.storedBytes - sizes.reduce((sum, size) => sum + size, 0);
  t.is(report.freedBytes, freedBytes);
  t.is(freedBytes, report.freeableBytes);
  t.like(await world.store.collect(), { state: 'not-needed' });
  t.like(await world.store.collect({ force: true }), { state: 'done', removedPacks: 0, freeableBytes: 0 });
  await world.isSound(t, 'collected');
  await world.reopen();
  t.true(await holds(world.store, point, state([7], 100)));
  const last = await world.begin('disk', [], 0);
  t.deepEqual([await isHeld(last, 7, 100), await isHeld(last, 8, 100)], [true, false]);
});

test('what an open session relies on stays: said to be held, named as held, or not stored again', async (t) => {
  for (const way of ['have', 'held', 'adopted'] as const) {
    for (const restarted of [false, true]) {
      // That a session was told of a block lasts as long as the receiver: see docs/format.md.
      if (way === 'have' && restarted) continue;
      const what = `${way}${restarted ? ', after a restart' : ''}`;
      const world = await World.make(t);
      await (await world.begin('disk', range(0, 20), 100)).abort();
      world.nowMs += 23 * HOUR_MS;
      const device = way === 'adopted' ? 'other' : 'disk';
      let capture = await world.store.createCapture(describe(device, EMPTY, null));
      const { sessionId } = capture.description;
      if (way === 'have') t.true(await isHeld(capture, 3, 100));
      if (way === 'held') await sendHeld(capture, 1, [3], 100);
      if (way === 'adopted') await sendChanges(capture, changesBetween(null, state([3], 100)));
      if (restarted) {
        await world.reopen();
        capture = world.store.captures().find((open) => open.description.sessionId === sessionId) ?? capture;
      }
      await world.collectAfter(2);
      // After a restart its batches tell exactly what it relies on: that is written anew.
      const records = (await world.records()).length;
      t.is(records, restarted ? 0 : 1, `${what}: the record stays while a pack of it does`);
      if (way === 'have') await sendHeld(capture, 1, [3], 100);
      const point = await capture.commit(commitRequest(state([3], 100), 1));
      t.true(await holds(world.store, point, state([3], 100)), what);
      await world.collectAfter(0);
      t.deepEqual(await world.records(), [], what);
      t.true(await holds(world.store, point, state([3], 100)), what);
      await world.isSound(t, what);
    }
  }
});

test('an open session whose blocks are in no pack yet keeps no collection from others', async (t) => {
  for (const restarted of [false, true]) {
    const world = await World.make(t);
    await (await world.begin('disk', range(0, 20), 100)).abort();
    world.nowMs += 23 * HOUR_MS;
    let running = await world.begin('other', [1], 7000);
    const { sessionId } = running.description;
    if (restarted) {
      await world.reopen();
      running = world.store.captures().find((open) => open.description.sessionId === sessionId) ?? running;
    }
    await world.collectAfter(2);
    t.deepEqual(await world.records(), [], world.log.join('\n'));
    t.deepEqual(await world.packs(), []);
    const point = await running.commit(commitRequest(state([1], 7000), 1));
    t.true(await holds(world.store, point, state([1], 7000)));
    await world.isSound(t, 'collected');
  }
});

/** Holds up the reading of objects, as soon as it is told to. */
class GatedObjects extends LocalObjectStore {
  reached: (() => void) | null = null;
  gate: Promise<void> = Promise.resolve();
  override async read(key: string, byteOffset: number, byteLength: number): Promise<Buffer> {
    // A commit reads its manifest back, and is not to wait here.
    if (key.startsWith('packs/')) {
      this.reached?.();
      await this.gate;
    }
    return super.read(key, byteOffset, byteLength);
  }
}

test('what comes while points are walked is seen: a question, a batch, a commit', async (t) => {
  for (const meanwhile of ['have', 'batch', 'commit'] as const) {
    const world = await World.make(t);
    const base = await world.begin('other', [1, 2], 5000);
    await base.commit(commitRequest(state([1, 2], 5000), 1));
    await (await world.begin('disk', range(0, 20), 100)).abort();
    world.nowMs += 25 * HOUR_MS;
    const objects = new GatedObjects(nodeDisk, world.dir);
    await world.reopen({ objects });
    const capture = await world.store.createCapture(describe('disk', EMPTY, null));
    let open: () => void = () => undefined;
    const reached = new Promise<void>((resolve) => {
      objects.reached = resolve;
    });
    objects.gate = new Promise((resolve) => {
      open = resolve;
    });
    const collecting = world.store.collect();
    await reached;
    if (meanwhile === 'have') t.true(await isHeld(capture, 3, 100));
    else await sendHeld(capture, 1, [3], 100);
    const wanted = state([3], 100);
    const committing = meanwhile === 'commit' ? capture.commit(commitRequest(wanted, 1)) : null;
    await committing;
    open();
    await collecting;
    if (meanwhile === 'have') await sendHeld(capture, 1, [3], 100);
    const point = (await committing) ?? (await capture.commit(commitRequest(wanted, 1)));
    t.true(await holds(world.store, point, wanted), meanwhile);
    await world.isSound(t, meanwhile);
    await world.store.collect();
    await world.reopen();
    t.true(await holds(world.store, point, wanted), meanwhile);
    t.deepEqual(await world.records(), [], meanwhile);
  }
});

test("two sessions store a block at the same time; one ends and is collected, the other's point is whole", async (t) => {
  for (const first of ['staying', 'leaving'] as const) {
    const world = await World.make(t);
    const staying = await world.begin('disk', [3], 100);
    const leaving = await world.begin('other', [3], 100);
    // The later pack takes the block's place in the index.
    const third = await world.begin('third', [], 0);
    if (first === 'leaving') await leaving.abort();
    for (const index of range(10, 30)) {
      const items = changesBetween(null, state([index], 100));
      await sendChanges(staying, items, 8, staying.durableSequence + 1);
    }
    if (first === 'staying') await leaving.abort();
    await third.abort();
    world.nowMs += 23 * HOUR_MS;
    await staying.have(digestOf(99, 1));
    await world.collectAfter(2);
    const wanted = state([3, ...range(10, 30)], 100);
    const point = await staying.commit(commitRequest(wanted, staying.durableSequence));
    t.true(await holds(world.store, point, wanted), first);
    await world.isSound(t, first);
    await world.reopen();
    t.true(await holds(world.store, point, wanted), first);
  }
});

test('nothing is collected while a point is not whole: any pack may have the rest of it', async (t) => {
  const world = await World.make(t);
  await (await world.begin('disk', range(0, 20), 100)).abort();
  const kept = await world.packs();

  const other = await world.begin('other', [1], 7000);
  const point = await other.commit(commitRequest(state([1], 7000), 1));
  await world.store.close();
  for (const name of await world.packs()) {
    if (!kept.includes(name)) await rm(join(world.dir, name));
  }
  await world.open();
  await t.throwsAsync(holds(world.store, point, state([1], 7000)));
  await world.store.collect();
  t.deepEqual(await world.packs(), kept);
  t.regex(world.log.join('\n'), /what nobody needs is not collected/);
});

test('packs go between two steps of a verification, which takes none of them for lost', async (t) => {
  const world = await World.make(t);
  await (await world.begin('disk', range(0, 20), 100)).abort();
  const kept = await world.packs();
  world.nowMs += 25 * HOUR_MS;
  const other = await world.begin('other', [1], 7000);
  const point = await other.commit(commitRequest(state([1], 7000), 1));
  const events: string[] = [];
  let collecting: Promise<unknown> | null = null;
  for await (const event of world.store.verify({})) {
    collecting ??= world.store.collect();
    events.push(event.type);
  }
  await collecting;
  t.false(events.includes('finding'), world.log.join('\n'));
  t.deepEqual(
    (await world.packs()).filter((name) => kept.includes(name)),
    [],
  );
  t.true(await holds(world.store, point, state([1], 7000)));
});

test('a device is not told of a block that it lost, though another one stored it since', async (t) => {
  const world = await World.make(t);
  await (await world.begin('disk', [3], 100)).abort();
  await world.collectAfter(25);
  t.deepEqual(await world.packs(), []);
  const other = await world.begin('other', [3], 100);
  await other.commit(commitRequest(state([3], 100), 1));
  t.false(await isHeld(await world.begin('disk', [], 0), 3, 100));
});

test('open sessions expire by their last message, also across a restart', async (t) => {
  const world = await World.make(t);
  const expired = () => world.store.expiredCaptures().map(({ description }) => description.device);
  const disk = await world.begin('disk', [1], 100);
  await world.begin('other', [1], 200);
  world.nowMs += 20 * HOUR_MS;
  t.deepEqual(expired(), []);
  await disk.have(digestOf(1, 100));
  world.nowMs += 5 * HOUR_MS;
  t.deepEqual(expired(), ['other']);
  // A restarted receiver knows of batches only.
  await world.reopen();
  t.deepEqual(expired().sort(), ['disk', 'other']);
  for (const capture of world.store.captures()) await capture.resume();
  t.deepEqual(expired(), []);
});

test('of an agent that ends too many sessions the oldest go first', async (t) => {
  const world = await World.make(t);
  for (let count = 0; count < PARTIAL_SETS_PER_AGENT_MAX + 2; count += 1) {
    world.nowMs += 1000;
    await (await world.begin('disk', [1], 10_000 + count)).abort();
  }
  const all = await world.partialSets();
  await world.store.collect();
  t.deepEqual(await world.partialSets(), all.slice(2));
});

test('a damaged record is reported, and goes with what it named', async (t) => {
  const world = await World.make(t);
  const capture = await world.begin('disk', range(0, 20), 100);
  await capture.abort();
  await world.store.close();
  const [name = ''] = await world.records();
  const text = await readFile(join(world.dir, name), 'utf8');
  await writeFile(join(world.dir, name), text.replace('disk', 'dusk'));
  await world.open();
  t.regex(world.log.join('\n'), /partial\/[0-9a-f]{32}: .*checksum/);
  const findings: string[] = [];
  for await (const event of world.store.verify({})) if (event.type === 'finding') findings.push(event.what);
  t.deepEqual(findings, [name]);
  await world.collectAfter(100);
  t.deepEqual([await world.packs(), await world.records()], [[], []]);
  await world.isSound(t, 'collected');
});

test('nothing is removed while a manifest can not be read: its point may come back, and need it', async (t) => {
  const world = await World.make(t);
  await (await world.begin('disk', range(0, 20), 100)).abort();
  const next = await world.store.createCapture(describe('disk', EMPTY, null));
  await sendHeld(next, 1, range(0, 20), 100);
  const wanted = state(range(0, 20), 100);
  const point = await next.commit(commitRequest(wanted, 1));
  // What was removed beside is gone.
  await world.store.close();
  const [manifest = ''] = (await listFiles(world.dir)).filter((name) => name.startsWith('points/'));
  const path = join(world.dir, manifest);
  const bytes = await readFile(path);
  await rm(path.replace('/points/', '/points-copy/'));
  const flipped = Buffer.from(bytes);
  flipped.writeUInt8(flipped.readUInt8(200) ^ 1, 200);
  await writeFile(path, flipped);
  await world.open();
  t.true(world.log.join().includes('is no point'));
  await world.collectAfter(25);
  t.is((await world.records()).length, 1);
  t.true(world.log.at(-1)?.includes('not collected') ?? false, world.log.at(-1));

  // From a copy of the store; or the disk only failed to read it for a time.
  await writeFile(path, bytes);
  await world.reopen();
  await world.collectAfter(0);
  t.true(await holds(world.store, point, wanted));
  await world.isSound(t, 'the manifest is back');
  t.deepEqual(await world.records(), []);
});

test('a manifest that can not be read and is marked as deleted hinders nothing', async (t) => {
  const world = await World.make(t);
  await (await world.begin('disk', range(0, 20), 100)).abort();
  const next = await world.store.createCapture(describe('disk', EMPTY, null));
  await sendHeld(next, 1, [3], 100);
  await next.commit(commitRequest(state([3], 100), 1));
  // What was removed beside is gone.
  await world.store.close();
  const [manifest = ''] = (await listFiles(world.dir)).filter((name) => name.startsWith('points/'));
  await writeFile(join(world.dir, manifest), 'rotten');
  await writeFile(join(world.dir, `${manifest}.deleted`), '');
  await world.open();
  await world.collectAfter(25);
  t.deepEqual(await world.records(), [], world.log.join('\n'));
});
