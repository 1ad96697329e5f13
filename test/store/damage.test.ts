/**
 * A flipped bit anywhere in the store is found and named, never restored, and healed
 * where its content comes back.
 */
import { cp, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../src/domain/base/errors.js';
import { KiB } from '../../src/domain/base/limits.js';
import type { Point } from '../../src/domain/point/point.js';
import type { VerifyFinding, VerifySummary } from '../../src/domain/session/messages.js';
import { nodeDisk } from '../../src/store/disk/disk.js';
import { createStore, openStore } from '../../src/store/open.js';
import type { Store } from '../../src/store/port/store.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { FaultyDisk, listFiles, type Step } from '../helpers/faults/disk.js';
import { plainRandom } from '../helpers/seed.js';
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
  readBlocks,
  sendChanges,
} from '../helpers/worlds/store-device.js';

const geometry = { sizeBytes: 100 * 4 * KiB - 512, blockSize: 4 * KiB };
const first = change(
  emptyState(geometry),
  Array.from({ length: 30 }, (_, i) => [i * 3, i + 1] as const),
);
const second = change(first, [
  [0, 200],
  [98, 201],
  [3, null],
]);
const packBytesTarget = 40 * KiB;

interface World {
  readonly dir: string;
  readonly points: readonly Point[];
}

/** Two points of one device, one of another with other content, and an open session. */
async function makeWorld(t: ExecutionContext): Promise<World> {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  const store = await openStore(dir, { packBytesTarget });
  const points = [await backUp(store, 'disk', null, first), await backUp(store, 'disk', first, second)];
  const other = change(emptyState(geometry), [[1, 900]]);
  points.push(await backUp(store, 'other', null, other));
  const capture = await store.createCapture(describe('third', first, null, 'd'.repeat(32)));
  await sendChanges(capture, changesBetween(null, change(emptyState(geometry), [[2, 950]])));
  await store.close();
  return { dir, points };
}

async function flip(path: string, byteOffset: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[byteOffset] = (bytes[byteOffset] ?? 0) ^ (1 << (byteOffset % 8));
  await writeFile(path, bytes);
}

/** The data pack that has the block, and where its record begins. */
async function findBlock6(dir: string): Promise<{ path: string; offset: number }> {
  const head = Buffer.alloc(16);
  for (const name of await listFiles(join(dir, 'packs'))) {
    const path = join(dir, 'packs', name);
    const bytes = await readFile(path);
    const digest = leavesOf(first).get(6) as Buffer;
    for (let at = bytes.indexOf(digest); at !== -1; at = bytes.indexOf(digest, at + 1)) {
      bytes.copy(head, 0, at - 16, at);
      if (head.toString('latin1', 0, 4) === 'SPR1' && head[4] === 1) return { path, offset: at - 16 };
    }
  }
  throw new Error('no pack has the block');
}

async function damageBlock6(dir: string): Promise<void> {
  const { path, offset } = await findBlock6(dir);
  await flip(path, offset + 100);
}

async function verify(store: Store, scope: { agent?: string; pointId?: string } = {}) {
  const findings: VerifyFinding[] = [];
  let summary: VerifySummary | null = null;
  for await (const event of store.verify(scope)) {
    if (event.type === 'finding') findings.push(event);
    if (event.type === 'summary') summary = event;
  }
  return { findings, summary };
}

/** Points that read back otherwise than they should; those that fail to are not among them. */
async function falsePoints(
  store: Store,
  states: readonly (readonly [Point, DeviceState])[],
): Promise<Point[]> {
  const wrong: Point[] = [];
  for (const [point, state] of states) {
    const isRight = await holds(store, point, state).catch((error) => {
      if (isStillpointError(error, 'store-damaged')) return null;
      throw error;
    });
    if (isRight === false) wrong.push(point);
  }
  return wrong;
}

test('a flipped bit in any file that is truth is found by opening or verify, named, and never read as data', async (t) => {
  const { dir: template, points } = await makeWorld(t);
  const other = change(emptyState(geometry), [[1, 900]]);
  const files = (await listFiles(template)).filter(
    (name) => !/^(index\/|lock$|readers$)|\/overlay$/.test(name),
  );
  t.true(files.length >= 9, files.join());
  const place = await tempDir(t);
  const random = plainRandom(7);
  for (const file of files) {
    const { size } = await stat(join(template, file));
    const offsets = new Set([0, size - 1, Math.floor(size / 2)]);
    for (let i = 0; i < 4; i += 1) offsets.add(Math.floor(random() * size));
    for (const offset of offsets) {
      const what = `${file} at ${offset}`;
      const dir = join(place, 'store');
      await rm(dir, { recursive: true, force: true });
      await cp(template, dir, { recursive: true });
      const messages: string[] = [];
      const options = { packBytesTarget, log: (message: string) => messages.push(message) };
      const isOfCapture = file.startsWith('capture/');
      // What a receiver that runs does not look at again before verify, one that starts does.
      let store: Store;
      if (isOfCapture || file === 'store.json') {
        await flip(join(dir, file), offset);
        store = await openStore(dir, options);
        t.true(messages.length > 0, `${what}: opening says nothing`);
      } else {
        store = await openStore(dir, options);
        await flip(join(dir, file), offset);
        const { findings } = await verify(store);
        t.true(findings.length > 0, what);
        const name = file.startsWith('packs/') ? file.slice(9) : file;
        t.true(
          findings.some((finding) => finding.what.includes(name) || finding.reason.includes(name)),
          `${what}: ${JSON.stringify(findings)}`,
        );
      }
      const [one, two, three] = points as [Point, Point, Point];
      const states = [
        [one, first],
        [two, second],
        [three, other],
      ] as const;
      t.deepEqual(await falsePoints(store, states), [], what);
      await store.close();

      // And again from the start, with and without the index.
      for (const withIndex of [true, false]) {
        if (!withIndex) await rm(join(dir, 'index'), { recursive: true });
        const again = await openStore(dir, options);
        const listed = await again.points({ agent: 'alpha' });
        const known = states.filter(([point]) => listed.some(({ id }) => id === point.id));
        t.is(known.length, 3, what);
        t.deepEqual(await falsePoints(again, known), [], what);
        await again.close();
      }
    }
  }
});

test('a damaged block names its points, is not had any more, and is healed by the next session', async (t) => {
  const { dir, points } = await makeWorld(t);
  const [one, two, three] = points as [Point, Point, Point];
  const store = await openStore(dir, { packBytesTarget });
  await damageBlock6(dir);
  const error = await t.throwsAsync(readBlocks(store, two, [6]));
  t.true(isStillpointError(error, 'store-damaged'));
  t.regex(error?.message ?? '', /point disk@2: block 6 .* offset \d+ of pack [0-9a-f]{32}/);

  const { findings, summary } = await verify(store);
  t.deepEqual(
    findings.map(({ points: named }) => named),
    [['alpha/disk@1', 'alpha/disk@2']],
    'who asks for no agent sees those of all',
  );
  t.is(summary?.findingCount, 1);
  t.deepEqual((await verify(store, { pointId: three.id })).findings, []);
  t.is((await verify(store, { pointId: one.id })).findings.length, 1);
  t.is((await verify(store, { agent: 'alpha' })).findings[0]?.points.length, 2);
  t.deepEqual((await verify(store, { agent: 'nobody' })).summary?.pointCount, 0);

  t.is(await store.baseFor({ agent: 'alpha', device: 'disk' }), null);
  const capture = await store.createCapture(describe('disk', second, null));
  const leaves = leavesOf(second);
  const held = await capture.have(Buffer.concat([...leaves.values()]));
  const missing = [...leaves.keys()].filter((_, i) => !held.has(i));
  t.deepEqual(missing, [6]);
  await capture.abort();

  const healing = await backUp(store, 'disk', first, second);
  t.true(await holds(store, healing, second));
  t.true(await holds(store, one, first), 'what came back heals the earlier points too');
  t.true(await holds(store, two, second));
  t.deepEqual((await verify(store)).findings, []);
  t.is((await store.baseFor({ agent: 'alpha', device: 'disk' }))?.id, healing.id);
  await store.close();

  await rm(join(dir, 'index'), { recursive: true });
  const again = await openStore(dir, { packBytesTarget });
  t.true(
    await holds(again, two, second),
    'the good copy is found when the index does not know which one is bad',
  );
  await again.close();
});

test('a session on a base that turns out damaged makes no point', async (t) => {
  const { dir, points } = await makeWorld(t);
  const store = await openStore(dir, { packBytesTarget });
  const capture = await store.createCapture(describe('disk', second, points[1]?.id ?? null));
  await damageBlock6(dir);
  await verify(store);
  const error = await t.throwsAsync(capture.commit(commitRequest(second, 0)));
  t.true(isStillpointError(error, 'base-mismatch'));
  t.regex(error?.message ?? '', /block 6 of its base is damaged/);
  t.is((await store.points({ agent: 'alpha', device: 'disk' })).length, 2);
  await store.close();
});

test('a pack that is gone or cut is noticed at the next opening; points without it stay whole', async (t) => {
  for (const harm of [(path: string) => rm(path), (path: string) => truncate(path, 100)]) {
    const { dir, points } = await makeWorld(t);
    const [one, , three] = points as [Point, Point, Point];
    const { path } = await findBlock6(dir);
    await harm(path);
    const messages: string[] = [];
    const store = await openStore(dir, { packBytesTarget, log: (message) => messages.push(message) });
    t.true(messages.some((message) => /pack [0-9a-f]{32} (is gone|has another size)/.test(message)));
    t.is(
      await store.baseFor({ agent: 'alpha', device: 'disk' }),
      null,
      'known from the walk, before anything is read',
    );
    await t.throwsAsync(holds(store, one, first), { code: 'store-damaged' } as object);
    t.true(await holds(store, three, change(emptyState(geometry), [[1, 900]])));
    const { findings } = await verify(store);
    t.true(
      findings.some(({ points: named }) => named.includes('alpha/disk@1') && named.includes('alpha/disk@2')),
    );
    const healing = await backUp(store, 'disk', null, second);
    t.true(await holds(store, healing, second));
    await store.close();
  }
});

test('a capture that can not be read does not keep the store closed, and is there again when it can be', async (t) => {
  const { dir, points } = await makeWorld(t);
  const messages: string[] = [];
  const faults = [
    (step: Step) => step.name === 'read' && step.path.endsWith('description'),
    (step: Step) => step.name === 'open' && step.path.endsWith('description'),
  ];
  for (const isFaulty of faults) {
    const disk = new FaultyDisk(nodeDisk, (step) => (isFaulty(step) ? 'EIO' : null));
    const store = await openStore(dir, { packBytesTarget, disk, log: (message) => messages.push(message) });
    t.deepEqual(store.captures(), []);
    t.true(await holds(store, points[1] as Point, second));
    await store.close();
  }
  t.regex(messages.join(), /capture of session d+ is left alone: .*EIO/);
  const store = await openStore(dir, { packBytesTarget });
  t.is(store.captures().length, 1);
  await store.close();
});

test('verify looks at the files of an open session too', async (t) => {
  const { dir } = await makeWorld(t);
  const store = await openStore(dir, { packBytesTarget });
  const files = (await listFiles(dir)).filter((name) => /^capture\/.*(description|log|\.pack)$/.test(name));
  t.is(files.length, 3);
  t.deepEqual((await verify(store)).findings, []);
  for (const name of files) {
    await flip(join(dir, name), 70);
    const { findings } = await verify(store);
    t.deepEqual(
      findings.map(({ what }) => what),
      [`capture/${'d'.repeat(32)}`],
      name,
    );
    await flip(join(dir, name), 70);
  }
  await store.close();
});
