/** What a store keeps about retention, and what it refuses for it. */
import { cp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { lockAt } from '../../../src/domain/retention/lock.js';
import {
  addPin,
  type RetentionSettings,
  setMinAge,
  setPolicy,
} from '../../../src/domain/retention/settings.js';
import { RECORD_KIND_BLOCK } from '../../../src/native/index.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { StoreIndex } from '../../../src/store/index/store-index.js';
import { createStore, openStore, openStoreForReading } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import { UNKNOWN_BOOT } from '../../../src/store/retention/retention.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import type { Fault } from '../../helpers/faults/disk.js';
import { StepDisk } from '../../helpers/faults/step-disk.js';
import { refused } from '../../helpers/refused.js';
import { backUp, change, emptyState, stampedBlock } from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const DAY_MS = 24 * 3_600_000;
const START_MS = Date.parse('2026-01-01T00:00:00.000Z');
const EMPTY = emptyState({ sizeBytes: 10 * BLOCK, blockSize: BLOCK });
const DISK = { agent: 'alpha', device: 'disk' };
const ALL = { agent: null, device: null };
const stateOf = (n: number) => change(EMPTY, [[n, 10 + n]]);

/** A store whose clock, and how long its machine is up, the test sets. */
class World {
  days = 0;
  upDays: number | null = null;
  bootId = 'first';
  readonly log: string[] = [];
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  static async make(t: ExecutionContext): Promise<World> {
    const dir = join(await tempDir(t), 'store');
    await createStore(dir);
    return new World(dir);
  }

  options(disk: Disk = nodeDisk) {
    return {
      disk,
      now: () => new Date(START_MS + this.days * DAY_MS),
      machine: () => ({ upMs: (1000 + (this.upDays ?? this.days)) * DAY_MS, bootId: this.bootId }),
      log: (line: string) => this.log.push(line),
    };
  }

  open(disk?: Disk): Promise<Store> {
    return openStore(this.dir, this.options(disk));
  }
}

const withMinAge =
  (days: number) =>
  (settings: RetentionSettings, { nowMs }: { nowMs: number }) =>
    setMinAge(settings, days * DAY_MS, nowMs);
const pinOf = ({ id, agent, device, sequence }: Point, untilMs: number | null = null) => ({
  ...{ pointId: id, agent, device, sequence, untilMs, reason: 'before the move', pinnedAtMs: START_MS },
});

test('the minimum age and pins hold for whoever removes, and the lock as long as it promised', async (t) => {
  const world = await World.make(t);
  const store = await world.open();
  const one = await backUp(store, 'disk', null, stateOf(1));
  world.days = 4;
  const two = await backUp(store, 'disk', stateOf(1), stateOf(2));
  await backUp(store, 'disk', stateOf(2), stateOf(3));
  await store.retention.change(withMinAge(7));
  await refused(t, store.removePoint(one, 'a test'), 'point-protected', /younger than the minimum age of 7d/);
  await refused(t, store.removeDevice(DISK, 'a test'), 'point-protected', /minimum age/);
  world.days = 6.99;
  t.throws(() => store.checkRemoval(one), { code: 'point-protected' });
  world.days = 7;
  await store.removePoint(one, 'a test');
  await refused(t, store.removePoint(two, 'a test'), 'point-protected', /minimum age/);
  // Lowered on day 7: that counts on day 14.
  await store.retention.change(withMinAge(0));
  world.days = 10.9;
  await refused(t, store.removePoint(two, 'a test'), 'point-protected', /minimum age/);
  await store.retention.change((settings) => addPin(settings, pinOf(two, START_MS + 12 * DAY_MS)));
  world.days = 11.5;
  await refused(t, store.removePoint(two, 'a test'), 'point-protected', /it is pinned: before the move/);
  world.days = 12;
  await store.removePoint(two, 'a test');
  t.deepEqual(store.retention.settings.pins, [], 'the pin goes with its point');
  await backUp(store, 'disk', stateOf(3), stateOf(4));
  await store.close();
  world.days = 14;
  const again = await world.open();
  t.is(lockAt(again.retention.settings.lock, START_MS + 14 * DAY_MS), 0);
  t.is((await again.removeDevice(DISK, 'a test')).length, 2);
  await again.close();
});

test('a point that is committed while the clock is behind is not older than it is', async (t) => {
  const world = await World.make(t);
  world.days = 100;
  const store = await world.open();
  await store.retention.change(withMinAge(20));
  world.days = 0;
  world.bootId = 'second';
  const one = await backUp(store, 'disk', null, stateOf(1));
  t.is(one.committedAt, new Date(START_MS + 100 * DAY_MS).toISOString());
  await backUp(store, 'disk', stateOf(1), stateOf(2));
  world.days = 101;
  t.true((await store.retention.noteClock()).isBelieved);
  await refused(t, store.removePoint(one, 'a test'), 'point-protected', /younger than the minimum age/);
  world.days = 120;
  await store.removePoint(one, 'a test');
  await store.close();
});

test('a clock that jumps makes no point older, until it is confirmed', async (t) => {
  const world = await World.make(t);
  const store = await world.open();
  const one = await backUp(store, 'disk', null, stateOf(1));
  await backUp(store, 'disk', stateOf(1), stateOf(2));
  await store.retention.change(withMinAge(20));
  // Lowered as well: that counts after 20 days, by a clock that is believed.
  await store.retention.change(withMinAge(0));
  // Set forward by a month, while the machine runs for an hour.
  world.days = 30;
  world.upDays = 0.04;
  t.like(await store.retention.noteClock(), { isBelieved: false, nowMs: START_MS });
  await refused(t, store.removePoint(one, 'a test'), 'point-protected', /minimum age/);
  await store.close();
  // A restart helps only for a part of the lock.
  world.bootId = 'second';
  world.upDays = 0;
  const again = await world.open();
  t.regex((again.retention.clock() as { reason: string }).reason, /no more than 5 days is believed/);
  await refused(t, again.removePoint(one, 'a test'), 'point-protected', /minimum age/);
  world.days = 4;
  t.like(await again.retention.noteClock(), { isBelieved: true, nowMs: START_MS + 4 * DAY_MS });
  world.days = 3;
  t.like(again.retention.clock(), { isBelieved: false, nowMs: START_MS + 4 * DAY_MS });
  // A pin whose end has come, by a clock that is not believed, still keeps.
  world.days = 400;
  await again.retention.change((settings) => addPin(settings, pinOf(one, START_MS + 200 * DAY_MS)));
  await refused(t, again.removePoint(one, 'a test'), 'point-protected', /pinned/);
  await again.retention.confirmClock();
  t.true(again.retention.clock().isBelieved);
  await again.removePoint(one, 'a test');
  await again.close();
  const last = await world.open();
  t.true(last.retention.clock().isBelieved);
  await last.close();
  // What was remembered of the clock is lost: then the minimum age has nothing to go by.
  await rm(join(world.dir, 'retention/clock'));
  const lost = await world.open();
  t.like(await lost.retention.noteClock(), { isBelieved: false, nowMs: START_MS });
  await lost.close();
  await writeFile(join(world.dir, 'retention/clock'), 'rotten');
  const rotten = await world.open();
  t.regex((rotten.retention.clock() as { reason: string }).reason, /retention\/clock: its first line/);
  await rotten.close();
});

test('a boot whose id is hidden is said once', async (t) => {
  const world = await World.make(t);
  await (await world.open()).close();
  t.deepEqual(world.log, []);
  world.bootId = UNKNOWN_BOOT;
  const store = await world.open();
  store.retention.clock();
  store.retention.clock();
  t.is(world.log.length, 1);
  t.regex(world.log[0] ?? '', /boot_id: it can't be read/);
  await store.close();
});

test('settings that are damaged have a copy; without a whole one nothing is removed until they are set again', async (t) => {
  const world = await World.make(t);
  const store = await world.open();
  const one = await backUp(store, 'disk', null, stateOf(1));
  await backUp(store, 'disk', stateOf(1), stateOf(2));
  const made = await store.retention.change((settings) =>
    addPin(setPolicy(settings, ALL, { keepDaily: 7, keepWithinMs: DAY_MS }), pinOf(one)),
  );
  await store.close();
  const file = join(world.dir, 'retention/settings');
  const whole = await readFile(file);
  const flipped = Buffer.from(whole);
  flipped[flipped.length - 10] = (flipped[flipped.length - 10] ?? 0) ^ 1;
  for (const damage of [flipped, Buffer.alloc(0), null]) {
    await (damage === null ? rm(file) : writeFile(file, damage));
    const again = await world.open();
    t.deepEqual(again.retention.settings, made);
    t.regex(world.log.pop() ?? '', /its copy is used/);
    await again.close();
  }
  await writeFile(`${file}-copy`, flipped);
  const lost = await world.open();
  t.regex(lost.retention.fault ?? '', /its checksum is wrong/);
  t.throws(() => lost.retention.settings, { code: 'store-damaged', message: /nothing is removed/ });
  await refused(t, lost.removePoint(one, 'a test'), 'store-damaged', /not known, so nothing is removed/);
  await refused(t, lost.removeDevice(DISK, 'a test'), 'store-damaged');
  await refused(t, lost.retention.change(withMinAge(1)), 'store-damaged');
  const third = await backUp(lost, 'disk', stateOf(2), stateOf(3));
  t.is(third.sequence, 3, 'backups go on');
  const reader = await openStoreForReading(world.dir, world.options());
  t.regex(reader.retention.fault ?? '', /checksum/);
  await reader.close();
  await lost.retention.reset();
  await refused(t, lost.retention.reset(), 'usage', /whole/);
  await lost.removePoint(one, 'a test');
  await lost.close();
  const again = await world.open();
  t.is(again.retention.fault, null);
  t.deepEqual(again.retention.settings.policies, []);
  await again.close();
});

test('settings that make no sense are damage, whatever their checksum says', async (t) => {
  const world = await World.make(t);
  const { encodeSealed } = await import('../../../src/store/disk/sealed-text.js');
  const body = { timeZone: 'UTC', policies: [], lock: [], pins: [], managedBy: null };
  const wrong: readonly object[] = [
    { ...body, timeZone: 'Mars/Base' },
    { ...body, policies: [{ agent: null, device: null, policy: {} }] },
    { ...body, policies: [{ agent: null, device: null, policy: { keepHoulry: 3 } }] },
    { ...body, lock: [{ minAgeMs: -1, askedAtMs: 0, fromMs: 0 }] },
    { ...body, pins: [{}] },
    { ...body, more: 1 },
  ];
  for (const settings of wrong) {
    await nodeDisk.makeDir(join(world.dir, 'retention'));
    await writeFile(join(world.dir, 'retention/settings'), encodeSealed('stillpoint-retention', settings));
    const reader = await openStoreForReading(world.dir, world.options());
    t.not(reader.retention.fault, null, JSON.stringify(settings));
    await reader.close();
  }
});

test('pins and policies go where the directory goes, and a reader sees but does not change them', async (t) => {
  const world = await World.make(t);
  const store = await world.open();
  const one = await backUp(store, 'disk', null, stateOf(1));
  await store.retention.change((settings) => addPin(settings, pinOf(one)));
  await store.close();
  const moved = new World(`${world.dir}-moved`);
  await cp(world.dir, moved.dir, { recursive: true });
  const reader = await openStoreForReading(moved.dir, moved.options());
  t.is(reader.retention.settings.pins[0]?.pointId, one.id);
  await refused(t, reader.retention.change(withMinAge(1)), 'internal', /reading only/);
  await refused(t, reader.retention.confirmClock(), 'internal', /reading only/);
  await reader.close();
});

const WAYS: readonly (readonly [string, Fault, number | null])[] = [
  ['killed', 'crash', null],
  ['out of power', 'crash', 0],
  ['with a disk that fails', 'EIO', null],
];

for (const [title, fault, power] of WAYS) {
  test(`a change ${title} at any step leaves the settings before or after it`, async (t) => {
    const template = await World.make(t);
    const first = await template.open();
    await first.retention.change((settings) => setPolicy(settings, ALL, { keepLast: 1 }));
    await first.close();
    for (let failing = 1; ; failing += 1) {
      const world = new World(`${template.dir}-${failing}`);
      await cp(template.dir, world.dir, { recursive: true });
      const faulty = await StepDisk.make(t, failing, fault, power !== null);
      const store = await world.open(faulty.disk);
      world.days = 1;
      faulty.start();
      const isDone = await store.retention
        .change((settings) => setPolicy(settings, ALL, { keepLast: 2 }))
        .then(
          () => true,
          () => false,
        );
      await store.close().catch(() => undefined);
      await faulty.losePower(power ?? 0);
      const again = await world.open();
      const kept = again.retention.settings.policies[0]?.policy.keepLast;
      t.true(kept === 2 || (kept === 1 && !isDone), `step ${failing}: ${kept}, ${isDone}`);
      t.true(again.retention.clock().isBelieved);
      await again.retention.change((settings) => setPolicy(settings, ALL, { keepLast: 3 }));
      await again.close();
      await rm(world.dir, { recursive: true });
      if (faulty.fired === null) {
        t.log(`${failing - 1} steps`);
        return t.true(failing > 15);
      }
    }
  });
}

test('points that lack a part are known, also if another point shares it', async (t) => {
  const world = await World.make(t);
  const store = await world.open();
  const points: Point[] = [];
  const states = [1, 2, 3].map((n) => change(stateOf(n), [[0, 7]]));
  for (const [n, state] of states.entries())
    points.push(await backUp(store, 'disk', states[n - 1] ?? null, state));
  const damaged = async (of: Store, key = DISK) => (await of.pointDamage(key)).map(({ point }) => point.id);
  t.deepEqual(await damaged(store), []);
  await store.close();
  const mark = async (seed: number) => {
    const index = await StoreIndex.open(join(world.dir, 'index'), store.storeId, t.fail);
    const digest = PLAIN.leafDigest(stampedBlock(seed, BLOCK));
    const at = index.locate(digest, RECORD_KIND_BLOCK);
    if (at === null) throw new Error('the block is not there');
    await index.markBad(at.packNumber, at.offset, digest, RECORD_KIND_BLOCK);
    await index.close();
    // Really: what is marked is looked at once more.
    const pack = await open(join(world.dir, 'packs', at.packId.slice(0, 2), at.packId), 'r+');
    await pack.write(Buffer.alloc(8, 0xa5), 0, 8, at.offset + 80);
    await pack.close();
  };
  await mark(12);
  const second = await world.open();
  t.deepEqual(await damaged(second), [points[1]?.id ?? '']);
  t.deepEqual(await damaged(second, { ...DISK, device: 'other' }), []);
  await second.close();
  await mark(7);
  const third = await world.open();
  t.is((await damaged(third)).length, 3);
  await third.close();
});
