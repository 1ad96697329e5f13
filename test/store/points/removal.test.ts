/**
 * Removals of points: killed, out of power or with a failing disk at any of their steps; and beside whatever
 * else goes on in the store.
 */
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { StoreIndex } from '../../../src/store/index/store-index.js';
import { LocalObjectStore } from '../../../src/store/objects/local-object-store.js';
import { createStore, openStore, openStoreForReading } from '../../../src/store/open.js';
import { PointCatalog } from '../../../src/store/points/catalog.js';
import { PointUse, READ_GRACE_MS } from '../../../src/store/points/point-use.js';
import { removeManifest } from '../../../src/store/points/removal.js';
import type { Store } from '../../../src/store/port/store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
import { StepDisk } from '../../helpers/faults/step-disk.js';
import { WAYS } from '../../helpers/faults/ways.js';
import { refused } from '../../helpers/refused.js';
import { LONG } from '../../helpers/seed.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  describe,
  emptyState,
  holds,
  sendChanges,
} from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const DAY_MS = 24 * 3_600_000;
const START_MS = Date.parse('2026-01-01T00:00:00.000Z');
const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });
const DISK = { agent: 'alpha', device: 'disk' };
const OTHER = { agent: 'alpha', device: 'other' };
const stateOf = (n: number) =>
  change(EMPTY, [
    [0, 7],
    [n, 10 + n],
  ]);

const open = (dir: string, disk: Disk = nodeDisk, days = 0): Promise<Store> =>
  openStore(dir, { disk, now: () => new Date(START_MS + days * DAY_MS) });

interface Template {
  readonly dir: string;
  readonly disk: readonly Point[];
  readonly other: readonly Point[];
}

/** Three points of one device, two of another. */
async function makeTemplate(t: ExecutionContext): Promise<Template> {
  const dir = join(await tempDir(t), 'template');
  await createStore(dir);
  const store = await open(dir);
  const disk: Point[] = [];
  const other: Point[] = [];
  for (const n of [1, 2, 3])
    disk.push(await backUp(store, 'disk', n === 1 ? null : stateOf(n - 1), stateOf(n)));
  for (const n of [1, 2])
    other.push(await backUp(store, 'other', n === 1 ? null : stateOf(n - 1), stateOf(n)));
  await store.close();
  return { dir, disk, other };
}

const sequencesOf = async (store: Store, key: typeof DISK): Promise<number[]> =>
  (await store.points(key)).map(({ sequence }) => sequence);

/** Each listed point is whole, no sequence comes again, and a removal that was decided is finished. */
async function checkAfterwards(t: ExecutionContext, dir: string, template: Template, what: string) {
  const store = await open(dir);
  const disk = await sequencesOf(store, DISK);
  const other = await sequencesOf(store, OTHER);
  t.true(['1,2,3', '1,3'].includes(disk.join()), `${what}: ${disk}`);
  t.true(['1,2', '2', ''].includes(other.join()), `${what}: ${other}`);
  for (const point of await store.points({}))
    t.true(await holds(store, point, stateOf(point.sequence)), what);
  for (const point of [...template.disk, ...template.other]) {
    const isListed = (await store.point(null, point.id)) !== null;
    const removed = await store.removedPoint(point, point.sequence);
    t.is(removed === null, isListed, `${what}: ${point.device}@${point.sequence}`);
  }
  const files = await listFiles(dir);
  const manifests = files.filter((name) => /^points\/.*\/\d{10}$/.test(name));
  t.is(manifests.length, disk.length + other.length, `${what}: ${files}`);
  await store.close();
  // Reading counts as a use for a while, as long as the store is open.
  const again = await open(dir);
  const fourth = await backUp(again, 'disk', stateOf(3), stateOf(4));
  t.like(fourth, { sequence: 4, baseSequence: 3 }, what);
  t.true(await holds(again, fourth, stateOf(4)), what);
  const next = await backUp(again, 'other', other.length === 0 ? null : stateOf(2), stateOf(3));
  t.is(next.sequence, 3, what);
  t.true(await holds(again, next, stateOf(3)), what);
  for await (const event of again.verify({}))
    t.not(event.type, 'finding', `${what}: ${JSON.stringify(event)}`);
  await again.close();
}

async function firstOf<T>(events: AsyncIterable<T>): Promise<T | undefined> {
  for await (const event of events) return event;
  return undefined;
}

async function removeSome(store: Store, { disk }: Template): Promise<void> {
  await store.removePoint(disk[1] as Point, 'no rule keeps it');
  await store.removeDevice(OTHER, 'it is sold');
}

for (const { title, fault, power } of WAYS) {
  test(`a removal ${title} at any step is done or not begun for each point`, async (t) => {
    t.timeout(300_000);
    const template = await makeTemplate(t);
    const place = await tempDir(t);
    // A kill at each step; of the other ways a sample, but in the long tests.
    const stride = LONG || (fault === 'crash' && power === null) ? 1 : 4;
    for (let failing = 1; ; failing += stride) {
      const dir = join(place, String(failing));
      await cp(template.dir, dir, { recursive: true });
      const faulty = await StepDisk.make(t, failing, fault, power !== null);
      const store = await open(dir, faulty.disk);
      faulty.start();
      let hasFailed = false;
      await removeSome(store, template).catch((error) => {
        if (faulty.fired === null) throw error;
        hasFailed = true;
      });
      const listed = await store.points({});
      await store.close();
      await faulty.losePower(power ?? 0);
      if (!hasFailed) {
        const survivors = await openStoreForReading(dir);
        t.deepEqual(
          await survivors.points({}),
          listed,
          `${faulty.fired}: what was reported as removed stays so`,
        );
        t.is(listed.length, 2);
        await survivors.close();
      }
      await checkAfterwards(t, dir, template, faulty.fired ?? 'no fault');
      await rm(dir, { recursive: true });
      if (faulty.fired === null) {
        t.log(`${failing - 1} steps`);
        t.true(failing > 15);
        return;
      }
    }
  });
}

test('a point that is being read stays for a while', async (t) => {
  let nowMs = 0;
  const use = new PointUse(() => nowMs);
  t.false(use.isRead('a'));
  await use.during('a', async () => t.true(use.isRead('a')));
  await t.throwsAsync(
    use.during('b', async () => {
      throw new Error('no');
    }),
  );
  nowMs += READ_GRACE_MS - 1;
  t.deepEqual(
    ['a', 'b', 'c'].map((id) => use.isRead(id)),
    [true, true, false],
  );
  await use.during('b', async () => undefined);
  nowMs += 1;
  t.deepEqual(
    ['a', 'b'].map((id) => use.isRead(id)),
    [false, true],
  );
  async function* endless() {
    for (;;) yield 1;
  }
  const events = use.duringAll(['a', 'c'], endless());
  await events.next();
  nowMs += 10 * READ_GRACE_MS;
  t.true(use.isRead('a') && use.isRead('c'), 'whoever follows its events may be slow');
  const second = use.duringAll(['c'], endless());
  await second.next();
  await events.return();
  nowMs += READ_GRACE_MS;
  t.false(use.isRead('a'));
  t.true(use.isRead('c'));
  await second.return();
  t.true(use.isRead('c'));
});

test('a point that is read is refused to be removed, in whichever way it is read', async (t) => {
  const { dir } = await makeTemplate(t);
  const ways: ((store: Store, one: Point, two: Point) => Promise<unknown>)[] = [
    (store, one) => store.nodes(one, [{ level: 1, index: 0 }]),
    (store, one) => store.blocks(one, [0], async () => undefined),
    (store, one) => firstOf(store.check(one, [[0, 1]])),
    (store, one, two) => firstOf(store.diff(two, one)),
  ];
  for (const read of ways) {
    const store = await open(dir);
    const [one, two] = (await store.points(DISK)) as [Point, Point];
    await read(store, one, two);
    t.regex(store.useOf(one) ?? '', /read/, String(read));
    await refused(t, store.removePoint(one, 'a test'), 'session-busy', /read/);
    t.is((await store.points(DISK)).length, 3);
    await store.close();
  }
});

test('while a point is being removed no session begins on it, and nobody removes it again', async (t) => {
  const { dir, disk } = await makeTemplate(t);
  const store = await open(dir);
  const removing = store.removeDevice(DISK, 'a test');
  const last = disk[2] as Point;
  await refused(t, backUp(store, 'disk', stateOf(3), stateOf(4)), 'session-busy', /being removed/);
  await refused(t, store.removePoint(last, 'a test'), 'session-busy', /being removed/);
  await removing;
  t.deepEqual(await store.points(DISK), []);
  await store.close();
});

test('the id of a removed point may come again, for a point of another content', async (t) => {
  const { dir, disk } = await makeTemplate(t);
  let store = await open(dir);
  const one = disk[0] as Point;
  await store.removePoint(one, 'a test');
  await store.close();
  // Nothing must be believed of a new point that was known of the old one.
  const index = await StoreIndex.open(join(dir, 'index'), store.storeId, t.fail);
  t.deepEqual(
    disk.map(({ id }) => index.isWalked(id)),
    [false, true, true],
  );
  await index.close();
  store = await open(dir);
  const capture = await store.createCapture(describe('disk', EMPTY, null, one.id));
  const count = await sendChanges(capture, changesBetween(null, stateOf(50)));
  // As another device has sent it: this one's index need not know of it by itself.
  const again = await capture.commit(commitRequest(stateOf(50), count));
  t.like(again, { id: one.id, sequence: 4 });
  await store.close();
  const reopened = await open(dir);
  t.true(await holds(reopened, again, stateOf(50)));
  await reopened.close();
});

test('what a removal leaves is finished at the next opening, and old marks go once they are old', async (t) => {
  const { dir, disk } = await makeTemplate(t);
  const manifest = join(dir, 'points/alpha/disk/0000000001');
  const bytes = await readFile(manifest);
  const store = await open(dir);
  await store.removePoint(disk[0] as Point, 'no rule keeps it');
  await store.removeDevice(OTHER, 'it is sold');
  await store.close();
  // As if it had been killed before it removed the manifest; and a mark of a former program.
  await writeFile(manifest, bytes);
  await writeFile(join(dir, 'points/alpha/disk/0000000002.deleted'), '');
  const reader = await openStoreForReading(dir);
  t.deepEqual(await sequencesOf(reader, DISK), [3]);
  await reader.close();
  const marks = async () =>
    (await listFiles(dir)).filter((name) => name.startsWith('points/')).map((name) => name.slice(13));
  await (await open(dir, nodeDisk, 6)).close();
  t.deepEqual(await marks(), [
    'disk/0000000001.deleted',
    'disk/0000000003',
    'other/0000000001.deleted',
    'other/0000000002.deleted',
  ]);
  await (await open(dir, nodeDisk, 8)).close();
  t.deepEqual(
    await marks(),
    ['disk/0000000003', 'other/0000000002.deleted'],
    'the last one keeps its sequence',
  );
});

test('a point is removed although nobody can note that there is something to collect any more', async (t) => {
  const { dir, disk } = await makeTemplate(t);
  const objects = new LocalObjectStore(nodeDisk, dir);
  const catalog = new PointCatalog();
  await catalog.load(objects, t.log);
  let notes = 0;
  const noteGarbage = async () => {
    notes += 1;
    if (notes === 2) throw new Error('no room');
  };
  const log: string[] = [];
  const context = {
    ...{ objects, catalog, index: { forgetWalk: async () => undefined, noteGarbage } },
    ...{ log: (line: string) => log.push(line), now: () => new Date(), upgrade: async () => undefined },
  };
  await removeManifest(context, disk[0] as Point, 'a test');
  t.regex(log.join(), /no room/);
  t.false((await listFiles(dir)).includes('points/alpha/disk/0000000001'));
  await objects.close();
});

test('marks go by and by while the store is open, too', async (t) => {
  const { dir, disk, other } = await makeTemplate(t);
  let days = 0;
  const store = await openStore(dir, { now: () => new Date(START_MS + days * DAY_MS) });
  const marks = async () => (await listFiles(dir)).filter((name) => /^points\/.*\.deleted$/.test(name));
  await store.removePoint(disk[0] as Point, 'a test');
  days = 6.9;
  await store.removePoint(disk[1] as Point, 'a test');
  t.is((await marks()).length, 2);
  days = 8;
  await store.removePoint(other[0] as Point, 'a test');
  t.deepEqual(await marks(), [
    'points/alpha/disk/0000000002.deleted',
    'points/alpha/other/0000000001.deleted',
  ]);
  t.is(await store.removedPoint(DISK, 1), null);
  await store.close();
});

test('a reader beside the owner is told that its point is removed', async (t) => {
  const { dir, disk } = await makeTemplate(t);
  const reader = await openStoreForReading(dir);
  const [one, two] = (await reader.points(DISK)) as [Point, Point];
  const store = await open(dir);
  await store.removePoint(disk[0] as Point, 'a test');
  t.true(await holds(reader, one, stateOf(1)), 'its packs are there');
  for await (const event of reader.verify({}))
    t.not(event.type, 'finding', `it is not damage: ${JSON.stringify(event)}`);
  await store.close();
  // As a collection may leave them.
  await rm(join(dir, 'packs'), { recursive: true });
  const late = await openStoreForReading(dir);
  for (const read of [
    () => firstOf(reader.check(one, [[0, 4]])),
    () => firstOf(reader.diff(one, two)),
    () => reader.blocks(one, [0], async () => undefined),
    () => reader.nodes(one, [{ level: 1, index: 0 }]),
    () => late.nodes(one, [{ level: 1, index: 0 }]),
  ]) {
    const outcome = await read().then(
      () => null,
      (error: unknown) => error,
    );
    if (outcome !== null) t.regex(String(outcome), /removed from the store at 2026-01-01T/);
  }
  await refused(t, late.nodes(one, [{ level: 1, index: 0 }]), 'point-unknown', /removed from the store at/);
  await refused(t, late.nodes(two, [{ level: 1, index: 0 }]), 'store-damaged');
  await refused(t, reader.removePoint(one, 'a test'), 'internal');
  await late.close();
  await reader.close();
});
