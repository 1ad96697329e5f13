/** An agent gets another name: killed, or out of power, at any step, it is done again and nothing is lost. */
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
import { StepDisk } from '../../helpers/faults/step-disk.js';
import { refused } from '../../helpers/refused.js';
import { LONG } from '../../helpers/seed.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  emptyState,
  holds,
  leavesOf,
  sendChanges,
} from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });
const stateOf = (n: number): DeviceState => change(EMPTY, [[n, 10 + n]]);
const LEFT = stateOf(50);

const open = (dir: string, disk: Disk = nodeDisk) => openStore(dir, { disk });

/** Each time on a copy of the template, up to the first rename that comes to its end. */
async function diedAtEachStep(
  t: ExecutionContext,
  { template, from, to, losesPower }: { template: string; from: string; to: string; losesPower: boolean },
  check: (dir: string, what: string) => Promise<void>,
): Promise<void> {
  const place = await tempDir(t);
  for (let failing = 1; ; failing += 1) {
    const dir = join(place, String(failing));
    await cp(template, dir, { recursive: true });
    const faulty = await StepDisk.make(t, failing, 'crash', losesPower);
    const store = await open(dir, faulty.disk);
    faulty.start();
    await store.renameAgent(from, to).catch(() => undefined);
    const { fired } = faulty;
    await store.close().catch(() => undefined);
    await faulty.losePower(0);
    await check(dir, `step ${failing}: ${fired ?? 'no fault'}`);
    await rm(dir, { recursive: true });
    if (fired === null) return void t.true(failing > 10, 'steps are counted');
  }
}

for (const power of [null, 0]) {
  const way = power === null ? 'killed' : 'power lost';
  test(`a rename, ${way} at any step, is finished when it is done again`, async (t) => {
    const template = join(await tempDir(t), 'template');
    await createStore(template);
    const store = await open(template);
    const points: Point[] = [];
    for (const [device, n] of [
      ['disk', 1],
      ['disk', 2],
      ['other', 3],
    ] as const)
      points.push(await backUp(store, device, device === 'disk' && n === 2 ? stateOf(1) : null, stateOf(n)));
    const capture = await store.createCapture(describe('disk', EMPTY, null));
    await sendChanges(capture, changesBetween(null, LEFT));
    await t.throwsAsync(store.renameAgent('alpha', 'beta'), { code: 'session-busy' });
    await capture.abort();
    await store.close();

    const rename = { template, from: 'alpha', to: 'beta', losesPower: power !== null };
    await diedAtEachStep(t, rename, async (dir, what) => {
      const again = await open(dir);
      for (const [at, point] of points.entries()) {
        const found = await again.point(null, point.id);
        t.true(
          found !== null && (await holds(again, found, stateOf(at + 1))),
          `${what}: before it is done again`,
        );
      }
      await again.renameAgent('alpha', 'beta');
      await again.renameAgent('alpha', 'beta');
      const check = async (opened: typeof again) => {
        t.deepEqual(await opened.points({ agent: 'alpha' }), [], what);
        t.deepEqual(
          await opened.points({ agent: 'beta' }),
          points.map((point) => ({ ...point, agent: 'beta' })),
          what,
        );
        for (const [at, { id }] of points.entries()) {
          const found = await opened.point('beta', id);
          t.true(found !== null && (await holds(opened, found, stateOf(at + 1))), what);
        }
        t.is((await opened.partialSets({ agent: 'beta' })).length, 1, what);
        t.deepEqual(opened.deviceNames('alpha'), [], what);
      };
      await check(again);
      // What the agent delivered before is held for it under its new name.
      const next = await again.createCapture({ ...describe('disk', EMPTY, null), agent: 'beta' });
      const digests = [stateOf(1), LEFT].flatMap((state) => [...leavesOf(state).values()]);
      t.is((await next.have(Buffer.concat(digests))).size, 2, what);
      await next.abort();
      await again.close();
      const reopened = await open(dir);
      await check(reopened);
      for await (const event of reopened.verify({}))
        t.not(event.type, 'finding', `${what}: ${JSON.stringify(event)}`);
      const base = await reopened.baseFor({ agent: 'beta', device: 'disk' });
      t.is(base?.sequence, 2);
      await reopened.close();
      t.deepEqual(
        (await listFiles(dir)).filter((name) => /^points(-copy)?\/alpha\/.*\d$/.test(name)),
        [],
        what,
      );
    });
  });
}

async function makeStore(t: ExecutionContext, pointCount: number) {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  const store = await open(dir);
  const points: Point[] = [];
  for (let n = 1; n <= pointCount; n += 1)
    points.push(await backUp(store, 'disk', n === 1 ? null : stateOf(n - 1), stateOf(n)));
  return { dir, store, points };
}

const idsOf = async (store: Store, agent: string) => (await store.points({ agent })).map(({ id }) => id);

// Deletions and puts that lose power are those of the test above.
for (const power of LONG ? [null, 0] : [null]) {
  const way = power === null ? 'killed' : 'power lost';
  test(`a name that an agent had before, ${way} at any step, costs no point`, async (t) => {
    const { dir: template, store: first, points } = await makeStore(t, 1);
    const point = points[0] as Point;
    await first.renameAgent('alpha', 'beta');
    await first.close();
    const rename = { template, from: 'beta', to: 'alpha', losesPower: power !== null };
    await diedAtEachStep(t, rename, async (dir, what) => {
      const again = await open(dir);
      t.true(await holds(again, (await again.point(null, point.id)) as Point, stateOf(1)), what);
      await again.renameAgent('beta', 'alpha');
      t.deepEqual(await again.points({}), [point], what);
      await again.close();
      const reopened = await open(dir);
      t.deepEqual(await reopened.points({}), [point], what);
      t.true(await holds(reopened, point, stateOf(1)), what);
      t.is(await reopened.removedPoint(point, 1), null, what);
      await reopened.close();
      t.deepEqual(
        (await listFiles(dir)).filter((name) => name.startsWith('points')),
        ['points-copy/alpha/disk', 'points-copy/beta/disk', 'points/alpha/disk', 'points/beta/disk']
          .map((folder) => `${folder}/0000000001${folder.includes('beta') ? '.deleted' : ''}`)
          .sort(),
        what,
      );
    });
  });
}

test('a name under which another point had a sequence is refused before anything is done', async (t) => {
  const { dir, store, points } = await makeStore(t, 1);
  await store.removeDevice({ agent: 'alpha', device: 'disk' }, 'a test');
  const capture = await store.createCapture({ ...describe('disk', EMPTY, null), agent: 'beta' });
  const count = await sendChanges(capture, changesBetween(null, stateOf(2)));
  const other = await capture.commit(commitRequest(stateOf(2), count));
  t.is(points.at(0)?.sequence, other.sequence);
  const files = await listFiles(join(dir, 'points'));
  await refused(
    t,
    store.checkRename('beta', 'alpha'),
    'bad-name',
    /disk@1 was another point under this name/,
  );
  await refused(t, store.renameAgent('beta', 'alpha'), 'bad-name', /Choose another name/);
  t.deepEqual(await listFiles(join(dir, 'points')), files);
  await store.close();
  const reopened = await open(dir);
  t.deepEqual(await reopened.points({}), [other]);
  await reopened.close();
});

test('no point is removed while its agent is being renamed, and none comes back', async (t) => {
  const { dir, store, points } = await makeStore(t, 3);
  const [one, two, three] = points as [Point, Point, Point];
  const removing = store.removePoint(two, 'a test');
  const renaming = store.renameAgent('alpha', 'beta');
  await refused(t, store.removePoint(one, 'a test'), 'session-busy', /is being renamed/);
  await refused(t, store.removeDevice(one, 'a test'), 'session-busy');
  await Promise.all([removing, renaming]);
  // What a prune had planned for the former name.
  await refused(t, store.removePoint(one, 'a test'), 'point-unknown');
  t.deepEqual(await idsOf(store, 'beta'), [one.id, three.id]);
  await store.collect({ force: true });
  await store.close();
  const reopened = await open(dir);
  t.deepEqual(await idsOf(reopened, 'beta'), [one.id, three.id]);
  t.deepEqual(await idsOf(reopened, 'alpha'), []);
  for (const [point, n] of [
    [one, 1],
    [three, 3],
  ] as const)
    t.true(await holds(reopened, { ...point, agent: 'beta' }, stateOf(n)));
  await reopened.close();
});
