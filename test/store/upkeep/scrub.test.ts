/** Packs are read back by turns; damage is remembered, tells its points, and is healed. */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Point } from '../../../src/domain/point/point.js';
import type { CheckEvent, VerifyEvent } from '../../../src/domain/session/messages.js';
import { RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../../src/native/index.js';
import { nodeDisk } from '../../../src/store/disk/disk.js';
import { LocalObjectStore } from '../../../src/store/objects/local-object-store.js';
import { openStoreForReading } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import type { ScrubRequest, ScrubStatus, Upkeep } from '../../../src/store/port/upkeep.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { listFiles } from '../../helpers/faults/disk.js';
import { FaultyObjectStore } from '../../helpers/faults/object-store.js';
import { flipRecords } from '../../helpers/faults/pack-damage.js';
import { seededRandom } from '../../helpers/seed.js';
import { CollectWorld, EMPTY, HOUR_MS } from '../../helpers/worlds/collect.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  sendChanges,
} from '../../helpers/worlds/store-device.js';

const DAY_MS = 24 * HOUR_MS;
const BLOCK = 4096;
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const stateOf = (indexes: readonly number[], seed = 0): DeviceState =>
  change(
    EMPTY,
    indexes.map((index) => [index, seed + index]),
  );
const leafOf = (state: DeviceState, index: number) =>
  PLAIN.leafDigest(state.blocks.get(index) ?? Buffer.alloc(0));

function upkeepOf(store: Store): Upkeep {
  if (store.upkeep === null) throw new Error('it was opened for reading');
  return store.upkeep;
}

interface Scrubbed {
  readonly findings: readonly string[];
  readonly packs: number;
  readonly summary: VerifyEvent;
}

async function scrub(store: Store, request: ScrubRequest = {}): Promise<Scrubbed> {
  const findings: string[] = [];
  const done = new Set<number>();
  for await (const event of upkeepOf(store).scrub(request)) {
    if (event.type === 'finding') findings.push(`${event.what}: ${event.reason} (${event.points.join()})`);
    if (event.type === 'progress') done.add(event.doneBytes);
    if (event.type === 'summary') return { findings, packs: done.size, summary: event };
  }
  throw new Error('there is no summary');
}

const status = (store: Store): Promise<ScrubStatus> => upkeepOf(store).scrubStatus(30 * DAY_MS);

/** What a session leaves elsewhere may be going at this moment. */
const packsOf = async ({ dir }: CollectWorld) =>
  (await listFiles(join(dir, 'packs'))).map((name) => `packs/${name}`);

async function makeWorld(
  t: ExecutionContext,
): Promise<{ world: CollectWorld; states: DeviceState[]; points: Point[] }> {
  const world = await CollectWorld.make(t);
  const states = [stateOf(range(0, 12)), stateOf(range(0, 14)), stateOf(range(20, 30), 500)];
  const [one, two, three] = states as [DeviceState, DeviceState, DeviceState];
  const points = [
    await backUp(world.store, 'disk', null, one),
    await backUp(world.store, 'disk', one, two),
    await backUp(world.store, 'other', null, three),
  ];
  return { world, states, points };
}

test('packs are read back by turns, across restarts and without an index', async (t) => {
  const { world } = await makeWorld(t);
  const packs = (await packsOf(world)).length;
  t.true(packs > 5, String(packs));
  t.like(await status(world.store), {
    ...{
      packCount: packs,
      checkedBytes: 0,
      neverCheckedPacks: packs,
      oldestSince: null,
      lastCheckedAt: null,
    },
  });
  const read = new Set<string>();
  const readPacks = async () => {
    const body = (await readFile(join(world.dir, 'scrub.json'), 'utf8')).split('\n').slice(1).join('\n');
    const times = JSON.parse(body).packs as Record<string, number>;
    return new Set(Object.entries(times).flatMap(([id, at]) => (at > 0 ? [id] : [])));
  };
  for (let day = 1; day <= 4; day += 1) {
    world.nowMs += DAY_MS;
    const { findings } = await scrub(world.store, { percent: 25 });
    t.deepEqual(findings, []);
    await world.store.close();
    if (day === 2) await rm(join(world.dir, 'index'), { recursive: true });
    await world.open();
    const now = await readPacks();
    t.true(
      [...read].every((id) => now.has(id)),
      `day ${day}`,
    );
    t.true(now.size > read.size || now.size === packs, `day ${day}`);
    for (const id of now) read.add(id);
  }
  t.is(read.size, packs);
  t.like(await status(world.store), {
    neverCheckedPacks: 0,
    lastCheckedAt: new Date(world.nowMs).toISOString(),
  });

  // Only what waits for long enough; new packs have been seen since they came.
  t.is((await scrub(world.store, { olderThanMs: 10 * DAY_MS })).packs, 0);
  world.nowMs += 8 * DAY_MS;
  await backUp(world.store, 'third', null, stateOf([1, 2, 3], 9000));
  t.true((await status(world.store)).neverCheckedPacks > 0);
  world.nowMs += 2 * DAY_MS;
  const { packs: old } = await scrub(world.store, { olderThanMs: 11 * DAY_MS });
  t.true(old > 0 && old < packs, 'those of the first days');
  t.is((await scrub(world.store, { olderThanMs: 10 * DAY_MS })).packs + old, packs);
});

test('one that is interrupted, or may read no more, is gone on with', async (t) => {
  const { world } = await makeWorld(t);
  const packs = (await packsOf(world)).length;
  for (let left = packs; left > 0; left -= 3) {
    t.is((await status(world.store)).neverCheckedPacks, left);
    let count = 0;
    for await (const event of upkeepOf(world.store).scrub({})) {
      if (event.type === 'progress') count += 1;
      if (count === Math.min(3, left)) break;
    }
    await world.reopen();
  }
  t.is((await status(world.store)).neverCheckedPacks, 0);
  world.nowMs += HOUR_MS;
  t.is((await scrub(world.store, { maxBytes: 1 })).packs, 1, 'one at least');
  t.is((await scrub(world.store, { maxBytes: 0 })).packs, 0);

  const first = upkeepOf(world.store).scrub({})[Symbol.asyncIterator]();
  await first.next();
  await t.throwsAsync(scrub(world.store), { code: 'busy' });
  const stop = new AbortController();
  await first.return?.();
  stop.abort();
  await t.throwsAsync(scrub(world.store, { signal: stop.signal }), { code: 'cancelled' });
  const slow = scrub(world.store, { rate: { windows: [], otherwise: 1 } });
  const cancelled = t.throwsAsync(slow, { code: 'cancelled' });
  await world.store.close();
  await cancelled;
  await world.open();
});

test('packs go beside it; what is gone though the index has it is damage, and is said of the points', async (t) => {
  const { world, points } = await makeWorld(t);
  await (await world.begin('third', range(0, 20), 7000)).abort();
  const before = (await packsOf(world)).length;
  const findings: string[] = [];
  let hasCollected = false;
  for await (const event of upkeepOf(world.store).scrub({})) {
    if (event.type === 'finding') findings.push(event.what);
    if (hasCollected) continue;
    hasCollected = true;
    await world.collectAfter(25);
    t.true((await packsOf(world)).length < before, 'they are not kept for a scrub');
  }
  t.deepEqual(findings, []);
  const { packs: onlyOther } = await scrub(world.store, { of: { agent: 'alpha', device: 'other' } });
  const { packs: onlyPoint } = await scrub(world.store, { of: { pointId: points[0]?.id ?? '' } });
  t.true(onlyOther > 1 && onlyPoint > 1 && onlyOther + onlyPoint < (await packsOf(world)).length);

  const [gone = ''] = await packsOf(world);
  await rm(join(world.dir, gone));
  const { findings: found } = await scrub(world.store);
  t.regex(found.join('\n'), new RegExp(`${gone}: it is gone`));
  t.regex(found.join('\n'), /\(alpha\/(disk|other)@/);
});

test('damage is remembered without the index, tells its points before a restore, and is healed', async (t) => {
  const { world, states, points } = await makeWorld(t);
  const [one, two] = states as [DeviceState, DeviceState];
  await flipRecords(world.dir, RECORD_KIND_BLOCK, leafOf(one, 5));
  await flipRecords(world.dir, RECORD_KIND_BLOCK, leafOf(two, 13));
  const { findings } = await scrub(world.store);
  t.is(findings.length, 2);
  t.regex(findings.join(), /alpha\/disk@1,alpha\/disk@2\)/);
  const damage = {
    openCount: 2,
    healedCount: 0,
    openSince: new Date(world.nowMs).toISOString(),
    lastHealedAt: null,
  };
  const known = { ...damage, points: ['alpha/disk@1', 'alpha/disk@2'], pointCount: 2 };
  t.deepEqual((await status(world.store)).damage, known);
  world.nowMs += DAY_MS;
  for (const withoutIndex of [false, true]) {
    await world.store.close();
    if (withoutIndex) await rm(join(world.dir, 'index'), { recursive: true });
    await world.open();
    t.deepEqual((await status(world.store)).damage, known, withoutIndex ? 'without index' : 'reopened');
    t.is(await world.store.baseFor({ agent: 'alpha', device: 'disk' }), null);
  }
  const reader = await openStoreForReading(world.dir);
  for (const store of [world.store, reader]) {
    t.deepEqual(
      (await store.pointDamage({})).map(({ point, ...counts }) => ({ id: point.id, ...counts })),
      [
        { id: points[0]?.id, blockCount: 1, byteCount: BLOCK },
        { id: points[1]?.id, blockCount: 2, byteCount: 2 * BLOCK },
      ],
    );
    t.deepEqual(await store.pointDamage({ device: 'other' }), []);
    t.deepEqual(await knownRanges(store, points[1] as Point), [
      [5, 6],
      [13, 14],
    ]);
    t.deepEqual(await knownRanges(store, points[2] as Point), []);
  }
  await reader.close();

  // The device sends one of them again.
  const capture = await world.store.createCapture(describe('disk', EMPTY, null));
  const count = await sendChanges(capture, changesBetween(null, one));
  await capture.commit(commitRequest(one, count));
  t.like((await status(world.store)).damage, {
    ...{ openCount: 1, healedCount: 1, lastHealedAt: new Date(world.nowMs).toISOString() },
    ...{ points: ['alpha/disk@2'], pointCount: 1 },
  });
  t.deepEqual((await scrub(world.store)).findings.length, 1, 'the other one');

  // The point that needs it is removed, and what nobody needs is collected: no damage is left.
  await world.reopen();
  t.like((await status(world.store)).damage, { pointCount: 1 });
  for (const point of points.slice(0, 2)) await world.store.removePoint(point, 'a test');
  t.like((await status(world.store)).damage, { pointCount: 0, points: [] });
  await world.store.collect({ force: true });
  t.like((await status(world.store)).damage, { openCount: 0, pointCount: 0 });
});

test('a pack that a wrong clock read back in the future waits first in line', async (t) => {
  const { world } = await makeWorld(t);
  world.nowMs += 1000 * DAY_MS;
  await scrub(world.store, { percent: 25 });
  const first = (await status(world.store)).checkedBytes;
  t.true(first > 0);
  world.nowMs -= 999 * DAY_MS;
  await world.reopen();
  t.like(await status(world.store), { checkedBytes: 0, lastCheckedAt: null, oldestSince: null });
  await scrub(world.store, { percent: 25 });
  t.is((await status(world.store)).checkedBytes, first, 'the same packs');
});

test('walks of trees end when a scrub is stopped', async (t) => {
  const { world } = await makeWorld(t);
  const stop = new AbortController();
  stop.abort();
  const of = { agent: 'alpha', device: 'disk' };
  // No pack is chosen: only the walk can see the signal.
  const walk = scrub(world.store, { of, olderThanMs: DAY_MS * 100_000, signal: stop.signal });
  await t.throwsAsync(walk, { code: 'cancelled' });
  await world.store.close();
  await world.open();
  const late = new AbortController();
  const events: string[] = [];
  const whole = async () => {
    for await (const event of upkeepOf(world.store).scrub({ signal: late.signal })) {
      events.push(event.type);
      if (event.type === 'progress' && event.doneBytes === event.totalBytes) late.abort();
    }
  };
  await t.throwsAsync(whole, { code: 'cancelled' });
  t.false(events.includes('summary'));
});

test('an opening that fails forgets no damage', async (t) => {
  const { world, states } = await makeWorld(t);
  await flipRecords(world.dir, RECORD_KIND_BLOCK, leafOf(states[0] as DeviceState, 5));
  await scrub(world.store);
  const { damage } = await status(world.store);
  t.is(damage.openCount, 1);
  await world.store.close();
  await rm(join(world.dir, 'index'), { recursive: true });
  const objects = new FaultyObjectStore(new LocalObjectStore(nodeDisk, world.dir), ({ name, path }) =>
    name === 'list' && path === 'packs' ? 'EIO' : null,
  );
  await t.throwsAsync(world.open({ objects }), { code: 'store-io' });
  await world.open();
  t.deepEqual((await status(world.store)).damage, damage);
});

test('the points that damage is said of are those that can not be given', async (t) => {
  const random = seededRandom(t);
  const world = await CollectWorld.make(t);
  let state = EMPTY;
  const made: [Point, DeviceState][] = [];
  for (let n = 0; n < 6; n += 1) {
    const before = made.length === 0 ? null : state;
    const changed = range(0, 8).map(
      (i) => [random.below(100), random.below(4) === 0 ? -1 : n * 100 + i] as const,
    );
    const next = change(
      state,
      changed.filter(([, seed]) => seed >= 0).map(([index, seed]) => [index, seed]),
    );
    const blocks = new Map(next.blocks);
    for (const [index, seed] of changed) if (seed < 0) blocks.delete(index);
    const after = { ...next, blocks };
    made.push([await backUp(world.store, 'disk', before, after), after]);
    state = after;
  }
  const blocks = made.flatMap(([, { blocks: held }]) => [...held.values()]);
  for (let i = 0; i < 3; i += 1) {
    const block = blocks[random.below(blocks.length)] as Buffer;
    await flipRecords(world.dir, RECORD_KIND_BLOCK, PLAIN.leafDigest(block));
  }
  const [point] = made[random.below(made.length)] as [Point, DeviceState];
  const [node] = await world.store.nodes(point, [{ level: 1, index: 0 }]);
  if (node !== undefined && node.length > 0)
    await flipRecords(world.dir, RECORD_KIND_NODE, PLAIN.nodeDigest(node));
  await world.reopen();
  await scrub(world.store);
  const expected: string[] = [];
  for (const [each] of made) {
    let count = 0;
    for await (const event of world.store.check(each, [[0, 100]]))
      if (event.type === 'summary') count = event.damagedBlocks;
    if (count > 0) expected.push(`${each.id} ${count}`);
  }
  t.true(expected.length > 0);
  t.deepEqual(
    (await world.store.pointDamage({})).map(({ point: { id }, blockCount }) => `${id} ${blockCount}`),
    expected,
  );
});

async function knownRanges(store: Store, point: Point): Promise<(readonly [number, number])[]> {
  const events: CheckEvent[] = [];
  for await (const event of store.check(point, [[0, 100]], { known: true })) events.push(event);
  return events.flatMap((event) => (event.type === 'damaged' ? [[event.start, event.end] as const] : []));
}

test('the book survives damage to itself', async (t) => {
  const { world } = await makeWorld(t);
  await scrub(world.store);
  await world.store.close();
  const path = join(world.dir, 'scrub.json');
  const bytes = await readFile(path);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await writeFile(path, bytes);
  await world.open();
  t.regex(world.log.join(), /scrub\.json: .*never read back/);
  t.is((await status(world.store)).checkedBytes, 0);
  await scrub(world.store);
  t.is((await status(world.store)).neverCheckedPacks, 0);
});
