/**
 * A session at a store that is hit by a fault at its Nth step, for every N until it passes; then the store
 * must be as if it had been hit or had not.
 */
import { cp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { Capture, Store } from '../../../src/store/port/store.js';
import { tempDir } from '../disks/temp-dir.js';
import { listFiles, type Step } from '../faults/disk.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  describe,
  emptyState,
  holds,
  sendChanges,
} from './store-device.js';

const geometry = { sizeBytes: 140 * 4 * KiB - 512, blockSize: 4 * KiB };
export const before = change(
  emptyState(geometry),
  Array.from({ length: 20 }, (_, i) => [i * 7, i + 1] as const),
);
export const after = change(before, [
  ...Array.from({ length: 24 }, (_, i) => [i * 3, 100 + i] as const),
  [7, null],
  [139, 500],
]);
const next = change(after, [
  [1, 900],
  [64, 901],
]);
const PER_BATCH = 5;
/**
 * Two batches fill a pack, so that packs are published while batches come, and one is left for the commit.
 */
export const packBytesTarget = 30 * KiB;
const SESSION = 'c'.repeat(32);

export interface SessionWorld {
  readonly t: ExecutionContext;
  readonly dir: string;
  readonly base: Point;
}

/** What the agent knows when the fault came. */
export interface Progress {
  durable: number;
  point: Point | null;
}

async function makeTemplate(t: ExecutionContext): Promise<{ dir: string; base: Point }> {
  const dir = join(await tempDir(t), 'template');
  await createStore(dir);
  const store = await openStore(dir, { packBytesTarget });
  const base = await backUp(store, 'disk', null, before);
  await store.close();
  return { dir, base };
}

async function beginOrResume(store: Store): Promise<Capture> {
  const open = store.captures().find(({ description }) => description.sessionId === SESSION);
  if (open !== undefined) return open;
  const base = await store.baseFor({ agent: 'alpha', device: 'disk' });
  return store.createCapture(describe('disk', after, base?.id ?? null, SESSION));
}

/** The session from wherever it is to its end. */
export async function runSession(store: Store, progress: Progress): Promise<Point> {
  const committed = await store.point('alpha', SESSION);
  if (committed !== null) return committed;
  const capture = await beginOrResume(store);
  // A manifest that can't be read is no base; the session then starts from the empty tree.
  const items = changesBetween(capture.description.basePointId === null ? null : before, after);
  const from = capture.durableSequence;
  for (let at = from * PER_BATCH; at < items.length; at += 2 * PER_BATCH) {
    await sendChanges(capture, items.slice(at, at + 2 * PER_BATCH), PER_BATCH, at / PER_BATCH + 1);
    progress.durable = capture.durableSequence;
  }
  progress.point = await capture.commit(commitRequest(after, Math.ceil(items.length / PER_BATCH)));
  return progress.point;
}

/**
 * Whatever happened: the points are whole, nothing else is visible, the session or the next one ends
 * well, and no debris stays.
 */
export async function checkAfterwards(
  { t, dir, base }: SessionWorld,
  progress: Progress,
  what: string,
): Promise<void> {
  const store = await openStore(dir, { packBytesTarget });
  try {
    const points = await store.points({ agent: 'alpha' });
    t.deepEqual(points[0], base, what);
    t.true(await holds(store, base, before), what);
    t.true(points.length <= 2, what);
    if (points[1] !== undefined) t.true(await holds(store, points[1], after), what);
    if (progress.point !== null) t.deepEqual(points[1], progress.point, `${what}: an acknowledged point`);
    const open = store.captures();
    t.true(open.length <= 1, what);
    if (open[0] !== undefined)
      t.true(open[0].durableSequence >= progress.durable, `${what}: acknowledged batches`);
    else if (points.length === 1) t.is(progress.durable, 0, `${what}: acknowledged batches are there`);
    const point = await runSession(store, { durable: 0, point: null });
    t.true(await holds(store, point, after), what);
    const third = await backUp(store, 'disk', after, next);
    t.deepEqual([base.sequence, point.sequence, third.sequence], [1, 2, 3], what);
    t.true(await holds(store, third, next), what);
    for await (const event of store.verify({})) {
      if (event.type !== 'progress') t.is(event.type, 'summary', `${what}: ${JSON.stringify(event)}`);
    }
  } finally {
    await store.close();
  }
  for (const file of (await listFiles(dir)).filter((name) => name.startsWith('points/'))) {
    const copy = await readFile(join(dir, file.replace('points/', 'points-copy/'))).catch(() => null);
    t.true(copy?.equals(await readFile(join(dir, file))), `${what}: the copy of ${file}`);
  }
  // What a commit leaves to be removed later is gone when the store is closed.
  const files = await listFiles(dir);
  t.deepEqual(
    files.filter(
      (name) =>
        !/^(packs|points|points-copy|index)\/[^.]+(\.mdb)?$|^(store(-copy)?\.json|lock|readers|scrub\.json)$/.test(
          name,
        ),
    ),
    [],
    what,
  );
}

/** Runs the session once with every plan that `faultAt` makes, until one passes without its fault. */
export async function forEveryStep<Fault>(
  t: ExecutionContext,
  faultAt: (failing: number) => (step: Step) => Fault | null,
  run: (world: SessionWorld, plan: (step: Step) => Fault | null, what: () => string) => Promise<void>,
): Promise<void> {
  const template = await makeTemplate(t);
  const place = await tempDir(t);
  for (let failing = 1; ; failing += 1) {
    t.timeout(120_000);
    let fired: string | null = null;
    const plan = faultAt(failing);
    const dir = join(place, String(failing));
    await cp(template.dir, dir, { recursive: true });
    const watched = (step: Step) => {
      const fault = plan(step);
      if (fault !== null) fired ??= `step ${step.number}, ${step.name} ${step.path.replace(dir, '')}`;
      return fault;
    };
    await run({ t, dir, base: template.base }, watched, () => fired ?? 'no fault');
    if (fired === null) {
      t.log(`${failing - 1} steps`);
      t.true(failing > 3);
      return;
    }
  }
}

/** As an agent: a temporary failure is tried again. */
export async function retry<T>(
  t: ExecutionContext,
  action: () => Promise<T>,
  what: () => string,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await action();
    } catch (error) {
      t.true(isStillpointError(error), `${what()}: ${String(error)}`);
      t.true(isStillpointError(error) && !error.permanent, `${what()}: ${String(error)}`);
      if (attempt === 4) throw error;
    }
  }
}
