/**
 * Group points: made and removed with a store that is killed, out of power, or on a failing disk at any step.
 * All points of a group are there, or none: for readers beside the owner, and at the next opening.
 */
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { groupPoints } from '../../../src/domain/point/group.js';
import type { Point } from '../../../src/domain/point/point.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { createStore, openStore, openStoreForReading } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
import { StepDisk } from '../../helpers/faults/step-disk.js';
import { WAYS } from '../../helpers/faults/ways.js';
import { backUpGroup, type MemberChange, sendGroup, valuesOf } from '../../helpers/groups/store-groups.js';
import { LONG } from '../../helpers/seed.js';
import { change, emptyState, holds } from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });
const DEVICES = ['data', 'log', 'wal'] as const;
const stateOf = (n: number) =>
  change(EMPTY, [
    [0, 7],
    [n, 10 + n],
  ]);
const members = (n: number): MemberChange[] =>
  DEVICES.map((device) => ({ device, before: n === 1 ? null : stateOf(n - 1), after: stateOf(n) }));

const open = (dir: string, disk: Disk = nodeDisk): Promise<Store> => openStore(dir, { disk });

/** Two group points of three devices. */
async function makeTemplate(t: ExecutionContext): Promise<string> {
  const dir = join(await tempDir(t), 'template');
  await createStore(dir);
  const store = await open(dir);
  for (const n of [1, 2]) await backUpGroup(store, 'db', members(n));
  await store.close();
  return dir;
}

/** @returns the numbers of the group points, which are whole, and all that there is */
async function groupsOf(t: ExecutionContext, store: Store, what: string): Promise<number[]> {
  const points = await store.points({});
  const groups = groupPoints(points);
  t.is(groups.length * DEVICES.length, points.length, `${what}: no part of a group point is seen`);
  for (const { points: members } of groups) {
    t.is(new Set(members.map(({ sequence }) => sequence)).size, 1, what);
    for (const point of members) t.true(await holds(store, point, stateOf(point.sequence)), what);
  }
  return groups.map(({ sequence }) => sequence);
}

/** What is there is whole, decisions are carried out, and the group goes on. */
async function checkAfterwards(
  t: ExecutionContext,
  dir: string,
  allowed: readonly (readonly number[])[],
  what: string,
): Promise<void> {
  const reader = await openStoreForReading(dir);
  const seen = await groupsOf(t, reader, what);
  await reader.close();
  const store = await open(dir);
  const found = await groupsOf(t, store, what);
  t.deepEqual(found, seen, `${what}: a reader sees what the owner sees`);
  t.true(
    allowed.some((numbers) => numbers.join() === found.join()),
    `${what}: ${found}`,
  );
  const files = await listFiles(dir);
  t.deepEqual(
    files.filter((name) => name.startsWith('decisions/')),
    [],
    what,
  );
  const manifests = files.filter((name) => /^points\/.*\/\d{10}$/.test(name));
  t.is(manifests.length, found.length * DEVICES.length, what);
  await store.collect({ force: true });
  await store.close();
  const again = await open(dir);
  for (const capture of again.captures()) await capture.abort();
  const last = Math.max(...found);
  const next = await backUpGroup(again, 'db', members(last + 1));
  for (const point of next) t.true(await holds(again, point, stateOf(last + 1)), what);
  for await (const event of again.verify({}))
    t.not(event.type, 'finding', `${what}: ${JSON.stringify(event)}`);
  await again.close();
}

interface Act {
  readonly name: string;
  readonly act: (store: Store) => Promise<void>;
  readonly before: readonly number[];
  readonly after: readonly number[];
}

const ACTS: readonly Act[] = [
  {
    name: 'a group point that is made',
    act: async (store) => {
      const { commits, group } = await sendGroup(store, 'db', members(3));
      valuesOf(await store.commitTogether(commits, group));
    },
    before: [1, 2],
    after: [1, 2, 3],
  },
  {
    name: 'a group point that is removed',
    act: async (store) => {
      const points = (await store.points({})).filter(({ sequence }) => sequence === 1);
      await store.removeTogether(points, 'no rule keeps it');
    },
    before: [1, 2],
    after: [2],
  },
];

for (const { name, act, before, after } of ACTS) {
  for (const { title, fault, power } of WAYS) {
    test(`${name} by a store ${title} at any step is there as a whole, or not at all`, async (t) => {
      t.timeout(600_000);
      const template = await makeTemplate(t);
      const place = await tempDir(t);
      const stride = LONG ? 1 : fault === 'crash' && power === null ? 2 : 7;
      for (let failing = 1; ; failing += stride) {
        const dir = join(place, String(failing));
        await cp(template, dir, { recursive: true });
        const faulty = await StepDisk.make(t, failing, fault, power !== null);
        const store = await open(dir, faulty.disk);
        faulty.start();
        let hasFailed = false;
        await act(store).catch((error) => {
          if (faulty.fired === null) throw error;
          hasFailed = true;
        });
        const listed = await store.points({});
        t.is(groupPoints(listed).length * DEVICES.length, listed.length, `${faulty.fired}: in memory`);
        await store.close();
        await faulty.losePower(power ?? 0);
        const what = `step ${failing}: ${faulty.fired ?? 'no fault'}`;
        await checkAfterwards(t, dir, hasFailed ? [before, after] : [after], what);
        await rm(dir, { recursive: true });
        if (faulty.fired === null) {
          t.log(`${failing - 1} steps`);
          t.true(failing > 15);
          return;
        }
      }
    });
  }
}

test('a commit that failed at its last step is found when it is sent again', async (t) => {
  const template = await makeTemplate(t);
  const place = await tempDir(t);
  let made = 0;
  for (let failing = 1; ; failing += 1) {
    const dir = join(place, String(failing));
    await cp(template, dir, { recursive: true });
    const faulty = await StepDisk.make(t, failing, 'EIO', false);
    const store = await open(dir, faulty.disk);
    const { commits, group } = await sendGroup(store, 'db', members(3));
    faulty.start();
    const first = await store.commitTogether(commits, group).catch(() => null);
    const isMade = first?.every(({ status }) => status === 'fulfilled') === true;
    const points = isMade ? valuesOf(first ?? []) : valuesOf(await store.commitTogether(commits, group));
    t.deepEqual(
      points.map(({ sequence, group: told }) => [sequence, told?.sequence]),
      DEVICES.map(() => [3, 3]),
      `${faulty.fired}`,
    );
    t.deepEqual(await groupsOf(t, store, `${faulty.fired}`), [1, 2, 3]);
    await store.close();
    await rm(dir, { recursive: true });
    made += isMade ? 0 : 1;
    if (faulty.fired === null) break;
  }
  t.true(made > 15, `${made}`);
});

test('a decision that is damaged decides nothing, and closes no store', async (t) => {
  const dir = await makeTemplate(t);
  await writeFile(join(dir, 'points', 'alpha', 'data', '.keep'), '');
  const store = await open(dir);
  await store.close();
  await cp(join(dir, 'store.json'), join(dir, 'decisions', 'a'.repeat(32)));
  const logged: string[] = [];
  const again = await openStore(dir, { log: (line) => logged.push(line) });
  t.true(
    logged.some((line) => /decisions\/a{32} decides nothing/.test(line)),
    logged.join('\n'),
  );
  const next = await backUpGroup(again, 'db', members(3));
  t.is((next[0] as Point).sequence, 3);
  await again.close();
});
