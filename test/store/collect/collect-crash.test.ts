/**
 * A session's end and a collection, killed or out of power at any of their steps: nothing is lost,
 * and all is finished later.
 */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { native } from '../../../src/native/index.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { Capture, Store } from '../../../src/store/port/store.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
import { StepDisk } from '../../helpers/faults/step-disk.js';
import { LONG } from '../../helpers/seed.js';
import {
  change,
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  emptyState,
  holds,
  sendChanges,
  stampedBlock,
} from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });
const HOUR_MS = 3_600_000;
const START_MS = Date.parse('2026-01-01T00:00:00.000Z');
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const state = (indexes: readonly number[]): DeviceState =>
  change(
    EMPTY,
    indexes.map((index) => [index, 100 + index]),
  );

const open = (dir: string, hours: number, disk: Disk = nodeDisk): Promise<Store> =>
  openStore(dir, {
    ...{ disk, keepPartialMs: 24 * HOUR_MS, packBytesTarget: 6 * KiB },
    now: () => new Date(START_MS + hours * HOUR_MS),
  });

async function sendHeld(capture: Capture, indexes: readonly number[]): Promise<void> {
  const items = indexes.map((blockIndex) => ({
    blockIndex,
    held: PLAIN.leafDigest(stampedBlock(100 + blockIndex, BLOCK)),
  }));
  await capture.append(1, makeBatch(capture.description.sessionId, 1, items));
}

const POINT = state([2, ...range(60, 64)]);
const OPEN = state([33]);
const LEFT = 'd'.repeat(32);

/**
 * Two ended sessions; a point needs a block of the first, an open session relies on one of the second. A
 * third session is open, and is ended by the faulty run.
 */
async function makeTemplate(t: ExecutionContext): Promise<{ dir: string; point: Point }> {
  const dir = join(await tempDir(t), 'template');
  await createStore(dir);
  const store = await open(dir, 0);
  for (const indexes of [range(0, 20), range(20, 40)]) {
    const capture = await store.createCapture(describe('disk', EMPTY, null));
    await sendChanges(capture, changesBetween(null, state(indexes)));
    await capture.abort();
  }
  const committed = await store.createCapture(describe('disk', EMPTY, null));
  await sendHeld(committed, [2]);
  await sendChanges(committed, changesBetween(null, state(range(60, 64))), 8, 2);
  const point = await committed.commit(commitRequest(POINT, 2));
  const relying = await store.createCapture(describe('disk', EMPTY, null));
  await sendHeld(relying, [33]);
  const left = await store.createCapture(describe('other', EMPTY, null, LEFT));
  await sendChanges(left, changesBetween(null, state(range(70, 80))));
  await store.close();
  return { dir, point };
}

async function endAndCollect(dir: string, disk: Disk, startFaults: () => void): Promise<void> {
  const store = await open(dir, 23, disk);
  // The relying session goes on, so that it does not expire.
  for (const capture of store.captures()) await capture.resume();
  startFaults();
  try {
    await store
      .captures()
      .find(({ description }) => description.sessionId === LEFT)
      ?.abort();
    await store.close();
    const later = await open(dir, 48, disk);
    try {
      await later.collect();
    } finally {
      await later.close();
    }
  } finally {
    await store.close();
  }
}

async function checkAfterwards(t: ExecutionContext, dir: string, point: Point, what: string): Promise<void> {
  let store = await open(dir, 48);
  t.true(await holds(store, point, POINT), what);
  await store
    .captures()
    .find(({ description }) => description.sessionId === LEFT)
    ?.abort();
  await store.collect();
  t.true(await holds(store, point, POINT), what);
  const relying = store.captures()[0];
  if (relying === undefined) return t.fail(`${what}: the open session is gone`);
  const next = await relying.commit(commitRequest(OPEN, 1));
  t.true(await holds(store, next, OPEN), what);
  await store.close();
  store = await open(dir, 100);
  await store.collect();
  for (const [found, expected] of [
    [point, POINT],
    [next, OPEN],
  ] as const)
    t.true(await holds(store, found, expected), what);
  for await (const event of store.verify({}))
    t.not(event.type, 'finding', `${what}: ${JSON.stringify(event)}`);
  t.deepEqual(await store.partialSets({ agent: 'alpha' }), [], what);
  t.deepEqual(await unneededPacks(dir), [], `${what}: all that nobody needs is gone`);
  t.deepEqual(
    (await listFiles(dir)).filter((name) => /^(partial|capture)\//.test(name)),
    [],
    what,
  );
  await store.close();
}

/** Data packs of which no point needs a block. */
async function unneededPacks(dir: string): Promise<string[]> {
  const needed = new Set<string>();
  for (const index of [2, 33, ...range(60, 64)])
    needed.add(PLAIN.leafDigest(stampedBlock(100 + index, BLOCK)).toString('hex'));
  const unneeded: string[] = [];
  for (const name of (await listFiles(dir)).filter((file) => file.startsWith('packs/'))) {
    const { entries, kind } = await native.readPackIndex(join(dir, name));
    if (kind !== 1) continue;
    const digests = range(0, entries.length / 56).map((i) => entries.toString('hex', i * 56, i * 56 + 32));
    if (!digests.some((digest) => needed.has(digest))) unneeded.push(name);
  }
  return unneeded;
}

for (const power of [null, 0, 0.5]) {
  const way = power === null ? 'killed' : `power lost, ${power * 100} % of what was not synced is there,`;
  test(`${way} at any step of an abort and a collection`, async (t) => {
    t.timeout(300_000);
    const { dir: template, point } = await makeTemplate(t);
    const place = await tempDir(t);
    // What power leaves differs from step to step: of two neighbours, one is enough.
    const stride = power === null || LONG ? 1 : 2;
    for (let failing = power === 0.5 ? stride : 1; ; failing += stride) {
      const dir = join(place, String(failing));
      await cp(template, dir, { recursive: true });
      const faulty = await StepDisk.make(t, failing, 'crash', power !== null);
      await endAndCollect(dir, faulty.disk, () => faulty.start()).catch((error) => {
        if (faulty.fired === null) throw error;
      });
      await faulty.losePower(power ?? 0);
      await checkAfterwards(t, dir, point, faulty.fired ?? 'no fault');
      if (faulty.fired === null) {
        t.log(`${failing - stride} steps`);
        t.true(failing > 30);
        return;
      }
    }
  });
}
