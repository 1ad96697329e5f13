/** No single small file makes a store unreadable, and `repair` brings back what is there once more. */
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { setMinAge } from '../../../src/domain/retention/settings.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { LocalObjectStore } from '../../../src/store/objects/local-object-store.js';
import { createStore, openStore, openStoreForReading } from '../../../src/store/open.js';
import { PointCatalog } from '../../../src/store/points/catalog.js';
import { removeManifest } from '../../../src/store/points/removal.js';
import { repairStore } from '../../../src/store/repair-store.js';
import { flip, flipEvery } from '../../helpers/bytes/flip.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { FaultyDisk, listFiles } from '../../helpers/faults/disk.js';
import { refused } from '../../helpers/refused.js';
import { backUp, change, type DeviceState, emptyState, holds } from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });
const ONE = change(EMPTY, [
  [1, 11],
  [50, 12],
]);
const TWO = change(ONE, [[2, 21]]);

interface World {
  readonly dir: string;
  readonly points: readonly (readonly [Point, DeviceState])[];
}

async function makeWorld(t: ExecutionContext): Promise<World> {
  const dir = join(await tempDir(t), 'template');
  await createStore(dir);
  const store = await openStore(dir);
  const points = [
    [await backUp(store, 'disk', null, ONE), ONE],
    [await backUp(store, 'disk', ONE, TWO), TWO],
    [await backUp(store, 'other', null, TWO), TWO],
  ] as const;
  await store.close();
  return { dir, points };
}

async function checkWhole(t: ExecutionContext, dir: string, points: World['points'], what: string) {
  for (const open of [openStoreForReading, openStore]) {
    const store = await open(dir);
    t.deepEqual(
      (await store.points({})).map(({ id }) => id).sort(),
      points.map(([{ id }]) => id).sort(),
      what,
    );
    for (const [point, state] of points) t.true(await holds(store, point, state), what);
    await store.close();
  }
}

async function findings(dir: string): Promise<string[]> {
  const store = await openStoreForReading(dir);
  const found: string[] = [];
  for await (const event of store.verify({}))
    if (event.type === 'finding') found.push(`${event.what}: ${event.reason}`);
  await store.close();
  return found;
}

/** Everything but packs, which are not small, and what only a process that runs needs. */
const isSmall = (name: string) => !/^packs\/|^(lock|readers)$|lock\.mdb$/.test(name);

test('any one small file may be damaged or lost: all points stay, verify says it, repair mends it', async (t) => {
  const { dir: template, points } = await makeWorld(t);
  const place = await tempDir(t);
  const files = (await listFiles(template)).filter(isSmall);
  t.is(files.filter((name) => name.startsWith('points')).length, 6, files.join());
  for (const file of files) {
    for (const damage of ['flipped', 'emptied', 'gone']) {
      const what = `${file} ${damage}`;
      const dir = join(place, 'store');
      await rm(dir, { recursive: true, force: true });
      await cp(template, dir, { recursive: true });
      const path = join(dir, file);
      const bytes = await readFile(path);
      if (damage === 'gone') await rm(path);
      else await writeFile(path, damage === 'emptied' ? '' : flip(bytes, Math.floor(bytes.length / 2)));
      await checkWhole(t, await copyOf(dir, place), points, what);
      const isOptional = /^index\/|^store-copy|^points-copy/.test(file);
      if (!isOptional || damage !== 'gone') {
        const found = await findings(await copyOf(dir, place));
        if (!file.startsWith('index/')) t.regex(found.join(), new RegExp(file), what);
        if (file.startsWith('points')) t.regex(found.join(), /receiver repair/, what);
      }
      const state = await stateOf(dir);
      const dry = await repairStore(dir, { dryRun: true, rebuildIndex: false });
      t.deepEqual(await stateOf(dir), state, `${what}: a dry run changes nothing`);
      const { mended, lost } = await repairStore(dir, { dryRun: false, rebuildIndex: false });
      t.deepEqual(lost, [], what);
      t.deepEqual(dry.lost, [], what);
      if (!file.startsWith('index/') && !isOptional)
        t.deepEqual(
          mended.map((one) => one.what),
          [file],
          what,
        );
      t.deepEqual(await findings(dir), [], what);
      if (file.startsWith('points')) t.true((await readFile(path)).equals(bytes), what);
      t.deepEqual(
        (await repairStore(dir, { dryRun: false, rebuildIndex: true })).mended,
        [],
        `${what}: again`,
      );
      await checkWhole(t, dir, points, `${what}, repaired`);
    }
  }
});

test('a lost directory of manifests comes back; what both lost is said to be lost', async (t) => {
  const { dir, points } = await makeWorld(t);
  await rm(join(dir, 'points'), { recursive: true });
  for (const name of ['store.json', 'store-copy.json']) await rm(join(dir, name));
  await rm(join(dir, 'index'), { recursive: true });
  await checkWhole(t, await copyOf(dir, await tempDir(t)), points, 'without points/');
  const { mended } = await repairStore(dir, { dryRun: false, rebuildIndex: false });
  t.is(mended.filter(({ what }) => what.startsWith('points/')).length, 3);
  await rm(join(dir, 'points-copy'), { recursive: true });
  await checkWhole(t, dir, points, 'without points-copy/');

  for (const prefix of ['points', 'points-copy'])
    await flipEvery(join(dir, prefix, 'alpha', 'disk', '0000000002'));
  const repair = await repairStore(dir, { dryRun: false, rebuildIndex: false });
  t.deepEqual(
    repair.lost.map(({ what }) => what),
    ['points/alpha/disk/0000000002', 'points-copy/alpha/disk/0000000002'],
  );
  await checkWhole(t, dir, [points[0], points[2]] as World['points'], 'the others');
  await givesUp(t, dir);
  await checkWhole(t, dir, [points[0], points[2]] as World['points'], 'the others are left');
  const store = await openStore(dir);
  t.is((await backUp(store, 'disk', ONE, TWO)).sequence, 3, 'the sequence stays used');
  await store.close();
});

/** The second point of the disk is lost: only what an operator says makes room of what it needed. */
async function givesUp(t: ExecutionContext, dir: string): Promise<void> {
  const collect = async () => {
    const store = await openStore(dir);
    const report = await store.collect();
    await store.close();
    return report;
  };
  const { state, reason } = await collect();
  t.is(state, 'put-off');
  t.regex(reason ?? '', /repair --forget-lost alpha\/disk@2"/);
  const asked = (sequence: number, dryRun = false) =>
    repairStore(dir, {
      ...{ dryRun, rebuildIndex: false, forgetLost: { agent: 'alpha', device: 'disk', sequence } },
    });
  await refused(t, asked(1), 'point-unknown', /it is not lost/);
  await refused(t, asked(7), 'point-unknown', /no file of it/);
  const store = await openStore(dir);
  await store.retention.change((settings, { nowMs }) => setMinAge(settings, 86_400_000, nowMs));
  await store.close();
  await refused(t, asked(2), 'point-protected', /minimum age/);
  await rm(join(dir, 'retention'), { recursive: true });
  const before = await listFiles(dir);
  t.regex((await asked(2, true)).mended[0]?.reason ?? '', /given up/);
  t.deepEqual(await listFiles(dir), before);
  t.deepEqual((await asked(2)).lost, []);
  t.deepEqual(
    (await listFiles(dir)).filter((name) => /disk\/0+2$/.test(name)),
    [],
  );
  t.is((await collect()).state, 'done');
}

test('two manifests that are whole and differ are left alone', async (t) => {
  const { dir, points } = await makeWorld(t);
  const other = await makeWorld(t);
  const name = join('alpha', 'disk', '0000000002');
  await cp(join(other.dir, 'points', name), join(dir, 'points-copy', name));
  const before = await stateOf(dir);
  const { lost } = await repairStore(dir, { dryRun: false, rebuildIndex: false });
  t.regex(lost.map(({ reason }) => reason).join(), /of another point/);
  t.deepEqual((await stateOf(dir)).filter(isPoints), before.filter(isPoints));
  await checkWhole(t, dir, points, 'the manifest counts');
});

test('a repair and a removal may be killed at any step', async (t) => {
  const { dir: template, points } = await makeWorld(t);
  const place = await tempDir(t);
  const disk1 = 'alpha/disk/0000000001';
  const disk2 = 'alpha/disk/0000000002';
  for (const work of ['repair', 'remove'] as const) {
    for (let failing = 1; ; failing += 1) {
      const dir = join(place, `${work}${failing}`);
      await cp(template, dir, { recursive: true });
      if (work === 'repair') {
        await rm(join(dir, 'points', disk1));
        await flipEvery(join(dir, 'points-copy', disk2));
        await rm(join(dir, 'store.json'));
      }
      let fired: string | null = null;
      let count = 0;
      const disk = new FaultyDisk(nodeDisk, ({ name, path }) => {
        count += 1;
        if (count !== failing) return null;
        fired = `${work}, step ${failing}: ${name} ${path.replace(dir, '')}`;
        return 'crash';
      });
      const run =
        work === 'repair'
          ? repairStore(dir, { disk, dryRun: false, rebuildIndex: false })
          : remove(disk, dir, points[1]?.[0]);
      await run.catch((error: unknown) => {
        if (fired === null) throw error;
      });
      const what = fired ?? `${work}, no fault`;
      if (work === 'repair') {
        await checkWhole(t, await copyOf(dir, place), points, what);
        t.deepEqual((await repairStore(dir, { dryRun: false, rebuildIndex: false })).lost, [], what);
        t.deepEqual(await findings(dir), [], what);
        await checkWhole(t, dir, points, what);
      } else {
        const marks = (await listFiles(dir)).filter((name) => name.endsWith('.deleted'));
        const left = marks.length === 0 ? points : points.filter(([{ id }]) => id !== points[1]?.[0].id);
        await checkWhole(t, await copyOf(dir, place), left, what);
        await repairStore(dir, { dryRun: false, rebuildIndex: true });
        await checkWhole(t, dir, left, `${what}: a repair does not bring it back`);
        if (marks.length > 0) {
          // And with either directory lost after that.
          await remove(nodeDisk, dir, points[1]?.[0]);
          await rm(join(dir, failing % 2 === 0 ? 'points' : 'points-copy'), { recursive: true });
          await checkWhole(t, dir, left, `${what}: not without one of the directories`);
          const store = await openStore(dir);
          t.is((await backUp(store, 'disk', ONE, TWO)).sequence, 3, what);
          await store.close();
        }
      }
      if (fired === null) {
        t.true(failing > 5);
        break;
      }
    }
  }
});

async function remove(disk: Disk, dir: string, point: Point | undefined): Promise<void> {
  if (point === undefined) throw new Error('there is no such point');
  const nothing = async () => undefined;
  const index = { forgetWalk: nothing, noteGarbage: nothing };
  const objects = new LocalObjectStore(disk, dir);
  const context = { objects, index, catalog: new PointCatalog(), upgrade: nothing };
  await removeManifest({ ...context, log: () => undefined, now: () => new Date() }, point, 'a test');
}

const isPoints = (state: string) => state.startsWith('points');

async function copyOf(dir: string, place: string): Promise<string> {
  const copy = join(place, 'copy');
  await rm(copy, { recursive: true, force: true });
  await cp(dir, copy, { recursive: true });
  return copy;
}

async function stateOf(dir: string): Promise<string[]> {
  const states = (await listFiles(dir))
    .filter(isSmall)
    .map(async (name) => `${name} ${(await readFile(join(dir, name))).toString('base64')}`);
  return (await Promise.all(states)).sort();
}
